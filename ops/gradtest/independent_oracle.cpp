// The oracle's numbers, differences and comparison.
#include "independent_oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <random>

#include "../../graph/grad.h"

namespace opgrad::gradtests {
namespace {

using Vector = std::vector<double>;
using Random = std::mt19937_64;

// In [0, 1), the same on every platform.
double unit(Random& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

// Numbers of either sign between a half and one and a half.
Vector weights(Random& random, std::size_t n) {
  Vector v(n);
  for (double& x : v) {
    x = 0.5 + unit(random);
    if (random() & 1) x = -x;
  }
  return v;
}

// Floats from the middle halves of n cells of [low, high), shuffled; integers anywhere.
Vector drawn(Random& random, const Sample& s) {
  Vector v(static_cast<std::size_t>(s.shape.numel()));
  std::iota(v.begin(), v.end(), 0.0);
  for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[random() % i]);
  const double cell = (s.high - s.low) / static_cast<double>(v.size());
  for (double& x : v)
    x = is_float(s.dtype) ? s.low + cell * (x + 0.25 + unit(random) / 2)
                          : std::floor(s.low + (s.high - s.low) * unit(random));
  return v;
}

Tensor as_tensor(const Vector& v, const Shape& shape, DType dtype) {
  return dispatch(dtype, [&]<class T>() {
    std::vector<std::byte> bytes(v.size() * sizeof(T));
    for (std::size_t i = 0; i < v.size(); ++i) {
      const T x = static_cast<T>(v[i]);
      std::memcpy(bytes.data() + i * sizeof(T), &x, sizeof(T));
    }
    return tensor_from_bytes(bytes.data(), static_cast<std::int64_t>(v.size()), dtype, shape, {});
  });
}

std::vector<Tensor> as_tensors(const Example& e, const std::vector<Vector>& x) {
  std::vector<Tensor> xs;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Tensor t = as_tensor(x[i], e.inputs[i].shape, e.inputs[i].dtype);
    xs.push_back(e.inputs[i].dtype == DType::f64 ? variable(t) : t);
  }
  return xs;
}

double product(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double largest(const Vector& v) {
  double m = 0;
  for (const double x : v) m = std::max(m, std::abs(x));
  return m;
}

// A number measured with a step h: its error falls with h^2, and with h^4 once extrapolated. Nothing when the
// two steps tell different stories, as at a kink.
std::optional<double> extrapolated(const std::function<double(double)>& measure, double h, double allowed) {
  const double coarse = measure(h), fine = measure(h / 2), finer = measure(h / 4);
  const double a = (4 * fine - coarse) / 3, b = (4 * finer - fine) / 3;
  if (!(std::abs(a - b) <= allowed)) return std::nullopt;
  return (16 * b - a) / 15;
}

}  // namespace

std::optional<IndependentOracle::Draw> IndependentOracle::measured(std::size_t example,
                                                                   std::uint64_t seed) const {
  const Example& e = examples_[example];
  Random random(seed);
  Draw d{.example = example, .x = {}, .direction = {}, .cotangent = {}, .first = {}, .second = {}};
  for (const Sample& s : e.inputs) {
    d.x.push_back(drawn(random, s));
    d.direction.push_back(s.dtype == DType::f64 ? weights(random, d.x.back().size()) : Vector());
  }
  const auto value = [&](const std::vector<Vector>& x) {
    return e.call(as_tensors(e, x)).to_vector<double>();
  };
  const Vector f = value(d.x);
  d.cotangent = weights(random, f.size());
  d.scale = 1 + largest(f);

  // f at x + s e_k + t direction, for element k of input i.
  const auto moved = [&](std::size_t i, std::size_t k, double s, double t) {
    std::vector<Vector> x = d.x;
    for (std::size_t j = 0; j < x.size(); ++j)
      for (std::size_t n = 0; n < d.direction[j].size(); ++n) x[j][n] += t * d.direction[j][n];
    if (s != 0) x[i][k] += s;
    return value(x);
  };
  // So small that no two numbers of one input exchange their order within a step; where all are one number on
  // purpose, there is no order to keep.
  double h = 1 / 256.0;
  for (const Sample& s : e.inputs)
    if (s.dtype == DType::f64 && s.low < s.high)
      h = std::min(h, (s.high - s.low) / static_cast<double>(8 * std::max<std::int64_t>(1, s.shape.numel())));
  const double allowed = bound * d.scale / 4;
  for (std::size_t i = 0; i < d.x.size(); ++i) {
    d.first.emplace_back();
    d.second.emplace_back();
    for (std::size_t k = 0; k < d.direction[i].size(); ++k) {
      const auto slope = extrapolated(
          [&](double s) {
            return (product(d.cotangent, moved(i, k, s, 0)) - product(d.cotangent, moved(i, k, -s, 0))) /
                   (2 * s);
          },
          h, allowed);
      const auto mixed = extrapolated(
          [&](double s) {
            const auto at = [&](double a, double b) { return product(d.cotangent, moved(i, k, a, b)); };
            return ((at(s, s) - at(s, -s)) - (at(-s, s) - at(-s, -s))) / (4 * s * s);
          },
          h, allowed * 8);
      if (!slope || !mixed) return std::nullopt;
      d.first[i].push_back(*slope);
      d.second[i].push_back(*mixed);
    }
  }
  // By the cotangent: the slopes of f along the direction.
  d.second.emplace_back();
  std::map<double, Vector> along;
  for (const double s : {h, h / 2, h / 4})
    for (const double t : {s, -s}) along[t] = moved(0, 0, 0, t);
  for (std::size_t n = 0; n < f.size(); ++n) {
    const auto slope =
        extrapolated([&](double s) { return (along.at(s)[n] - along.at(-s)[n]) / (2 * s); }, h, allowed);
    if (!slope) return std::nullopt;
    d.second.back().push_back(*slope);
  }
  return d;
}

IndependentOracle::IndependentOracle(const Op& op) : examples_(op.examples()) {
  for (std::size_t example = 0; example < examples_.size(); ++example) {
    // Integers alone have no gradient.
    if (std::ranges::none_of(examples_[example].inputs,
                             [](const Sample& s) { return s.dtype == DType::f64; }))
      continue;
    std::optional<Draw> d;
    for (std::uint64_t seed = 1; !d && seed <= 20; ++seed) d = measured(example, 1000 * example + seed);
    if (!d) {
      obstacle_ = fmt::format("example {} cannot be measured: in each of 20 draws two steps differ", example);
      return;
    }
    draws_.push_back(std::move(*d));
  }
}

std::optional<std::string> IndependentOracle::disagreement() const {
  if (!obstacle_.empty()) return obstacle_;
  for (const Draw& d : draws_) {
    const Example& e = examples_[d.example];
    std::vector<Tensor> all = as_tensors(e, d.x);
    const Tensor y = e.call(all);
    all.push_back(variable(as_tensor(d.cotangent, y.shape(), DType::f64)));
    std::vector<Tensor> xs;
    for (std::size_t i = 0; i < d.x.size(); ++i)
      if (!d.direction[i].empty()) xs.push_back(all[i]);
    const std::vector<Tensor> first = vjp_where_connected(y, all.back(), xs);
    // What the rules claim, in the layout of Draw: zero where nothing connects.
    const auto zeros_of = [](const std::vector<Vector>& like) {
      std::vector<Vector> z;
      for (const Vector& v : like) z.emplace_back(v.size());
      return z;
    };
    std::vector<Vector> claimed_first = zeros_of(d.first), claimed_second = zeros_of(d.second);
    const auto add = [](Vector& sum, const Tensor& t) {
      if (!t) return;
      const std::vector<double> v = t.to_vector<double>();
      for (std::size_t n = 0; n < v.size(); ++n) sum[n] += v[n];
    };
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < d.x.size(); ++i)
      if (!d.direction[i].empty()) places.push_back(i);
    xs.push_back(all.back());
    places.push_back(d.x.size());
    for (std::size_t a = 0; a < first.size(); ++a) {
      if (!first[a]) continue;
      const Tensor direction = as_tensor(d.direction[places[a]], first[a].shape(), DType::f64);
      const std::vector<Tensor> second = vjp_where_connected(first[a], direction, xs);
      add(claimed_first[places[a]], first[a]);
      for (std::size_t b = 0; b < second.size(); ++b) add(claimed_second[places[b]], second[b]);
    }
    for (const int order : {1, 2}) {
      const std::vector<Vector>&truth = order == 1 ? d.first : d.second,
            &claimed = order == 1 ? claimed_first : claimed_second;
      double scale = d.scale;
      for (const Vector& v : truth) scale = std::max(scale, largest(v));
      for (std::size_t i = 0; i < truth.size(); ++i)
        for (std::size_t k = 0; k < truth[i].size(); ++k)
          if (!(std::abs(truth[i][k] - claimed[i][k]) <= bound * scale))
            return fmt::format("example {}, order {}, input {}, element {}: claimed {}, measured {}",
                               d.example, order, i, k, claimed[i][k], truth[i][k]);
    }
  }
  return std::nullopt;
}

}  // namespace opgrad::gradtests
