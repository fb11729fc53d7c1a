// gradcheck and check_grads as published: each number here is one of theirs.
#include "other_checkers.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>

#include "../../graph/grad.h"
#include "../../graph/run.h"

namespace opgrad::gradtests {
namespace {

using Random = std::mt19937_64;

double unit(Random& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

double normal(Random& random) {
  const double u = 1 - unit(random);
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * unit(random));
}

double dot(const Numbers& a, const Numbers& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
double total(const Numbers& v) { return std::accumulate(v.begin(), v.end(), 0.0); }

std::vector<Tensor> active(const Subject& s, const std::vector<Tensor>& xs) {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (s.inputs[i].active()) out.push_back(xs[i]);
  return out;
}

// The results with input i at x + t * direction for the active ones.
std::vector<Numbers> results_at(const Subject& s, const std::vector<Numbers>& direction, double t,
                                DType dtype) {
  std::vector<Input> moved = s.inputs;
  for (std::size_t i = 0; i < moved.size(); ++i)
    for (std::size_t k = 0; k < direction[i].size(); ++k) moved[i].values[k] += t * direction[i][k];
  const std::vector<Tensor> ys = s.f(leaves(moved, dtype));
  eval(ys);
  std::vector<Numbers> out;
  for (const Tensor& y : ys) out.push_back(numbers_of(y));
  return out;
}

std::vector<Numbers> random_like(const Subject& s, const std::function<double()>& number) {
  std::vector<Numbers> out;
  for (const Input& in : s.inputs) {
    out.emplace_back(in.active() ? in.values.size() : 0);
    std::ranges::generate(out.back(), number);
  }
  return out;
}

// Gradients of <cotangents, results> by the active inputs, one for each input; zeros where nothing connects.
std::vector<Numbers> pulled_back(const Subject& s, const std::vector<Tensor>& ys,
                                 const std::vector<Tensor>& xs, const std::vector<Numbers>& cotangents) {
  std::vector<Numbers> out;
  for (const Input& in : s.inputs) out.emplace_back(in.active() ? in.values.size() : 0);
  std::vector<Tensor> pending;
  std::vector<std::size_t> places;
  for (std::size_t j = 0; j < ys.size(); ++j) {
    if (cotangents[j].empty()) continue;
    const Tensor dy = leaf_of(cotangents[j], ys[j].shape(), ys[j].dtype());
    const std::vector<Tensor> gradients = vjp_where_connected(ys[j], dy, active(s, xs));
    std::size_t next = 0;
    for (std::size_t i = 0; i < xs.size(); ++i) {
      if (!s.inputs[i].active()) continue;
      if (const Tensor& g = gradients[next++]) {
        pending.push_back(g);
        places.push_back(i);
      }
    }
  }
  eval(pending);
  for (std::size_t k = 0; k < pending.size(); ++k) {
    const Numbers g = numbers_of(pending[k]);
    Numbers& sum = out[places[k]];
    for (std::size_t n = 0; n < g.size(); ++n) sum[n] += g[n];
  }
  return out;
}

constexpr double torch_step = 1e-6, torch_atol = 1e-5, torch_rtol = 1e-3;

bool torch_close(double analytic, double numeric, double atol) {
  return std::abs(analytic - numeric) <= atol + torch_rtol * std::abs(numeric);
}

bool torch_zero_cotangent_rejects(const Subject& s, const std::vector<Tensor>& ys,
                                  const std::vector<Tensor>& xs) {
  std::vector<Numbers> zero;
  for (const Tensor& y : ys) zero.emplace_back(static_cast<std::size_t>(y.numel()));
  for (const Numbers& g : pulled_back(s, ys, xs, zero))
    if (std::ranges::any_of(g, [](double x) { return x != 0; })) return true;
  return false;
}

}  // namespace

Subject subject_of(const Problem& p) {
  return {[f = p.f](std::span<const Tensor> x) { return std::vector<Tensor>{f(x)}; }, p.inputs};
}

// ------------------------------------------------------------------------------------------------ PyTorch

Jacobian torch_numeric(const Subject& s) {
  Jacobian j(s.inputs.size());
  std::vector<Numbers> direction = random_like(s, [] { return 0.0; });
  for (std::size_t i = 0; i < s.inputs.size(); ++i)
    for (double& d : direction[i]) {
      d = 1;
      const std::vector<Numbers> up = results_at(s, direction, torch_step, DType::f64),
                                 down = results_at(s, direction, -torch_step, DType::f64);
      d = 0;
      Numbers& column = j[i].emplace_back();
      for (std::size_t r = 0; r < up.size(); ++r)
        for (std::size_t k = 0; k < up[r].size(); ++k)
          column.push_back((up[r][k] - down[r][k]) / (2 * torch_step));
    }
  return j;
}

bool torch_rejects(const Subject& s, const Jacobian& numeric) {
  const std::vector<Tensor> xs = leaves(s.inputs), ys = s.f(xs);
  if (torch_zero_cotangent_rejects(s, ys, xs)) return true;
  std::size_t row = 0;
  for (std::size_t r = 0; r < ys.size(); ++r) {
    std::vector<Numbers> one_hot(ys.size());
    one_hot[r].resize(static_cast<std::size_t>(ys[r].numel()));
    for (double& c : one_hot[r]) {
      c = 1;
      const std::vector<Numbers> analytic = pulled_back(s, ys, xs, one_hot);
      c = 0;
      for (std::size_t i = 0; i < analytic.size(); ++i)
        for (std::size_t k = 0; k < analytic[i].size(); ++k)
          if (!torch_close(analytic[i][k], numeric[i][k][row], torch_atol)) return true;
      ++row;
    }
  }
  return false;
}

bool torch_fast_rejects(const Subject& s) {
  Random random(0);
  const auto unit_vector = [&](std::size_t n) {
    Numbers v(n);
    std::ranges::generate(v, [&] { return unit(random); });
    const double length = std::sqrt(dot(v, v));
    for (double& x : v) x /= length;
    return v;
  };
  const std::vector<Tensor> xs = leaves(s.inputs), ys = s.f(xs);
  if (torch_zero_cotangent_rejects(s, ys, xs)) return true;
  std::vector<Numbers> u, v;
  for (const Input& in : s.inputs) u.push_back(in.active() ? unit_vector(in.values.size()) : Numbers());
  for (const Tensor& y : ys) v.push_back(unit_vector(static_cast<std::size_t>(y.numel())));
  for (std::size_t r = 0; r < ys.size(); ++r) {
    std::vector<Numbers> cotangents(ys.size());
    cotangents[r] = v[r];
    const std::vector<Numbers> analytic = pulled_back(s, ys, xs, cotangents);
    for (std::size_t i = 0; i < xs.size(); ++i) {
      if (!s.inputs[i].active()) continue;
      std::vector<Numbers> direction(xs.size());
      direction[i] = u[i];
      const Numbers up = results_at(s, direction, torch_step, DType::f64)[r],
                    down = results_at(s, direction, -torch_step, DType::f64)[r];
      const double numeric = (dot(up, v[r]) - dot(down, v[r])) / (2 * torch_step);
      if (!torch_close(dot(analytic[i], u[i]), numeric, torch_atol * total(u[i]) * total(v[r]))) return true;
    }
  }
  return false;
}

std::optional<Subject> torch_second(const Subject& s) {
  const std::vector<Tensor> ys = s.f(leaves(s.inputs));
  const std::size_t n = s.inputs.size();
  Subject second{{}, s.inputs};
  Random random(1);
  for (const Tensor& y : ys) {
    Numbers c(static_cast<std::size_t>(y.numel()));
    std::ranges::generate(c, [&] { return 2 * unit(random) - 1; });
    second.inputs.push_back({y.shape(), DType::f64, std::move(c), -1, 1});
  }
  second.f = [s, n](std::span<const Tensor> all) {
    const std::vector<Tensor> xs(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n)), out = s.f(xs);
    std::vector<Tensor> gradients;
    for (std::size_t r = 0; r < out.size(); ++r)
      for (const Tensor& g : vjp_where_connected(out[r], all[n + r], active(s, xs)))
        if (g) gradients.push_back(g);
    return gradients;
  };
  return second.f(leaves(second.inputs)).empty() ? std::nullopt : std::optional(std::move(second));
}

// ------------------------------------------------------------------------------------------------ JAX

bool jax_rejects(const Subject& s, DType dtype) {
  constexpr double step = 1e-4;
  const double tolerance = dtype == DType::f32 ? 2e-3 : 1e-5;
  Random random(0);
  const std::vector<Tensor> xs = leaves(s.inputs, dtype), ys = s.f(xs);
  const std::vector<Numbers> tangent = random_like(s, [&] { return normal(random); });
  std::vector<Numbers> cotangents;
  for (const Tensor& y : ys) {
    cotangents.emplace_back(static_cast<std::size_t>(y.numel()));
    std::ranges::generate(cotangents.back(), [&] { return normal(random); });
  }
  const std::vector<Numbers> up = results_at(s, tangent, step, dtype),
                             down = results_at(s, tangent, -step, dtype);
  double numeric = 0, analytic = 0;
  for (std::size_t r = 0; r < up.size(); ++r)
    for (std::size_t k = 0; k < up[r].size(); ++k)
      numeric += (up[r][k] - down[r][k]) / (2 * step) * cotangents[r][k];
  const std::vector<Numbers> gradients = pulled_back(s, ys, xs, cotangents);
  for (std::size_t i = 0; i < gradients.size(); ++i) analytic += dot(gradients[i], tangent[i]);
  return !(std::abs(analytic - numeric) <= tolerance * (1 + std::abs(numeric)));
}

std::optional<Subject> jax_second(const Subject& s) {
  Subject second{{}, s.inputs};
  second.f = [s](std::span<const Tensor> all) {
    const std::vector<Tensor> xs(all.begin(), all.end());
    std::vector<Tensor> gradients;
    for (const Tensor& y : s.f(xs))
      for (const Tensor& g : vjp_where_connected(y, y, active(s, xs)))
        if (g) gradients.push_back(g);
    return gradients;
  };
  return second.f(leaves(second.inputs)).empty() ? std::nullopt : std::optional(std::move(second));
}

}  // namespace opgrad::gradtests
