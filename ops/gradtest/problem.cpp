// Drawing numbers, making leaves, values and gradients of a problem.
#include "problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "../../core/random.h"
#include "../../graph/grad.h"
#include "../ops.h"

namespace opgrad::gradtests {
namespace {

Numbers uniform(std::uint64_t seed, std::int64_t n, double low, double high) {
  Numbers out(static_cast<std::size_t>(n));
  fill_uniform(Key{fold_in(seed, "gradtest"), 0}, 0, n, out.data());
  for (double& x : out) x = low + (high - low) * x;
  return out;
}

// One number from each of n equal parts of [low, high), in random order; the lattice is shifted at random,
// round the end, so that many seeds visit the whole domain. The lattices of the inputs of one case (`seed`)
// stand apart, so that an element of one is seldom close to one of another.
Numbers spread(std::uint64_t seed, std::int64_t n, double low, double high, std::size_t input) {
  const Numbers phase = uniform(fold_in(seed, 3), 1, 0, 1);
  seed = fold_in(seed, input);
  const Numbers keys = uniform(fold_in(seed, 1), n, 0, 1), jitter = uniform(fold_in(seed, 2), n, 0, 0.15);
  std::vector<std::size_t> order(keys.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return keys[i]; });
  Numbers out(keys.size());
  const double count = static_cast<double>(n), golden = 0.6180339887498949 * static_cast<double>(input);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double place = std::fmod(static_cast<double>(order[i]) + phase[0] + golden + jitter[i], count);
    out[i] = low + (high - low) * (place / count);
  }
  return out;
}

template <class T>
Tensor typed(const Numbers& values, const Shape& shape) {
  std::vector<char> bytes(values.size() * sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T x = static_cast<T>(values[i]);
    std::memcpy(bytes.data() + i * sizeof(T), &x, sizeof(T));
  }
  return tensor_from_bytes(bytes.data(), static_cast<std::int64_t>(values.size()), dtype_of<T>, shape, {});
}

}  // namespace

Numbers signed_numbers(std::uint64_t seed, std::int64_t n) {
  Numbers out = uniform(seed, n, -1, 1);
  for (double& x : out) x += std::copysign(0.25, x);
  return out;
}

std::vector<Input> draw(std::span<const Sample> samples, std::uint64_t seed) {
  std::vector<Input> inputs;
  for (const Sample& s : samples) {
    const std::size_t i = inputs.size();
    Input in{s.shape, s.dtype, {}, s.low, s.high};
    // Truth values are spread, too: a mask that is false everywhere shows nothing.
    in.values = is_float(s.dtype) || s.dtype == DType::bool_
                    ? spread(seed, s.shape.numel(), s.low, s.high, i)
                    : uniform(fold_in(seed, i), s.shape.numel(), s.low, s.high);
    for (double& v : in.values) v = is_float(s.dtype) ? static_cast<float>(v) : std::floor(v);
    inputs.push_back(std::move(in));
  }
  return inputs;
}

Tensor leaf_of(const Numbers& values, const Shape& shape, DType dtype) {
  return dispatch(dtype, [&]<class T>() { return typed<T>(values, shape); });
}

Numbers numbers_of(const Tensor& x) {
  return dispatch(x.dtype(), [&]<class T>() {
    const Values<T> v = x.values<T>();
    return Numbers(v.begin(), v.end());
  });
}

std::vector<Tensor> leaves(const std::vector<Input>& inputs, DType under_test) {
  std::vector<Tensor> xs;
  for (const Input& in : inputs) {
    const Tensor x = leaf_of(in.values, in.shape, in.active() ? under_test : in.dtype);
    xs.push_back(in.active() ? variable(x) : x);
  }
  return xs;
}

Numbers value(const Problem& p) { return numbers_of(p.f(leaves(p.inputs))); }

Numbers value_along(const Problem& p, std::span<const Tensor> at, std::span<const Numbers> direction,
                    double t) {
  std::vector<Tensor> xs(at.begin(), at.end());
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    if (direction[i].empty()) continue;
    Numbers x = p.inputs[i].values;
    for (std::size_t k = 0; k < direction[i].size(); ++k) x[k] += t * direction[i][k];
    // A variable keeps its inputs while the function computes: a derived problem differentiates with respect
    // to it.
    xs[i] = variable(leaf_of(x, p.inputs[i].shape, p.inputs[i].dtype));
  }
  return numbers_of(p.f(xs));
}

double reach(const Input& in) { return std::min(1.0, in.high > in.low ? (in.high - in.low) / 2 : 1.0); }

Gradient gradient(const Problem& p, const Numbers& cotangent, DType under_test) {
  return gradient(
      p, [&](const Tensor& y) { return leaf_of(cotangent, y.shape(), y.dtype()); }, under_test);
}

Gradient gradient(const Problem& p, const std::function<Tensor(const Tensor& y)>& cotangent, DType under_test,
                  std::optional<std::size_t> only) {
  const std::vector<Tensor> xs = leaves(p.inputs, under_test);
  const Tensor y = p.f(xs);
  Gradient g{std::vector<Numbers>(xs.size()), std::vector<bool>(xs.size(), false)};
  std::vector<Tensor> wanted;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (p.inputs[i].active() && (!only || *only == i)) {
      wanted.push_back(xs[i]);
      places.push_back(i);
    }
  const std::vector<Tensor> all = vjp_where_connected(y, cotangent(y), wanted);
  for (std::size_t k = 0; k < all.size(); ++k) {
    const std::size_t i = places[k];
    g.connected[i] = static_cast<bool>(all[k]);
    g.of[i] = all[k] ? numbers_of(all[k]) : Numbers(p.inputs[i].values.size(), 0.0);
  }
  return g;
}

std::optional<Problem> derived(const Problem& p, std::uint64_t seed) {
  const Tensor y = p.f(leaves(p.inputs));
  if (y.dtype() != DType::f64) return std::nullopt;
  const std::size_t n = p.inputs.size();
  std::vector<bool> active;
  for (const Input& in : p.inputs) active.push_back(in.active());
  const GradtestFunction f = [g = p.f, n, active](std::span<const Tensor> all) -> Tensor {
    const Tensor out = g(all.first(n));
    std::vector<Tensor> wanted, flat;
    for (std::size_t i = 0; i < n; ++i)
      if (active[i]) wanted.push_back(all[i]);
    for (const Tensor& gradient : vjp_where_connected(out, all[n], wanted))
      if (gradient) flat.push_back(reshape(gradient, {-1}));
    return flat.empty() ? Tensor() : concatenate(flat, 0);
  };
  Problem d{f, p.inputs};
  d.inputs.push_back({y.shape(), DType::f64, signed_numbers(fold_in(seed, 77), y.numel()), -1.25, 1.25});
  // Constant gradients have no path to any input but the cotangent.
  if (!f(leaves(d.inputs))) return std::nullopt;
  return d;
}

}  // namespace opgrad::gradtests
