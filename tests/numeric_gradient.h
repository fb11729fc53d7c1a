// Differences against gradients, for the tests of operations on matrices and images.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

#include "../graph/grad.h"
#include "../ops/ops.h"
#include "errors.h"

namespace opgrad::test {

// Numbers in [-1, 1), none of them twice in a row.
inline std::vector<double> numbers(std::int64_t n, std::uint64_t seed) {
  std::vector<double> v(static_cast<std::size_t>(n));
  fill_uniform(Key{seed, 0}, 0, n, v.data());
  for (double& x : v) x = 2 * x - 1;
  return v;
}
inline Tensor random_tensor(const Shape& shape, std::uint64_t seed) {
  return tensor(numbers(shape.numel(), seed), shape);
}

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

// A number that every element of f's result has a say in.
inline Function weighed(Function f, std::uint64_t seed) {
  return [f = std::move(f), seed](const std::vector<Tensor>& in) {
    const Tensor y = f(in);
    return sum(y * random_tensor(y.shape(), seed));
  };
}

// Checks the gradients of a number f(inputs) against central differences, element by element.
inline void check_gradients(const Function& f, const std::vector<Shape>& shapes) {
  std::vector<std::vector<double>> values;
  std::vector<Tensor> xs;
  for (const Shape& s : shapes) {
    values.push_back(numbers(s.numel(), 100 + values.size()));
    xs.push_back(variable(tensor(values.back(), s)));
  }
  const std::vector<Tensor> gradients = grad(f(xs), xs);
  const double h = 1e-4;
  bool any = false;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const std::vector<double> g = gradients[i].to_vector<double>();
    for (std::size_t k = 0; k < g.size(); ++k) {
      const auto moved = [&](double by) {
        std::vector<Tensor> in = xs;
        std::vector<double> v = values[i];
        v[k] += by;
        in[i] = variable(tensor(v, shapes[i]));
        return f(in).item();
      };
      CAPTURE(i);
      CAPTURE(k);
      CHECK(g[k] == doctest::Approx((moved(h) - moved(-h)) / (2 * h)).epsilon(1e-7));
      any = any || g[k] != 0;
    }
  }
  CHECK(any);
}

// First order, and second: the gradients of the sum of all weighed gradients.
inline void check_two_orders(const Function& f, const std::vector<Shape>& shapes) {
  const Function number = weighed(f, 7);
  check_gradients(number, shapes);
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        // The product with x lets constant gradients have a second order, too.
        Tensor total = full({}, 0, DType::f64);
        const std::vector<Tensor> gradients = grad(number(in), in);
        for (std::size_t i = 0; i < in.size(); ++i)
          total = total + sum(gradients[i] * in[i] * random_tensor(in[i].shape(), 50 + i));
        return total;
      },
      shapes);
}

inline std::string error_of(const std::function<void()>& f) { return message(f); }
inline bool mentions(const std::string& text, const char* part) { return contains(text, part); }

// Every refusal of a record, by its text.
inline void check_refusals(const Op& op) {
  for (const BadCall& bad : op.bad_calls()) {
    const std::string said = error_of(bad.call);
    CAPTURE(said);
    CAPTURE(bad.expect);
    CHECK(mentions(said, bad.expect));
    CHECK(mentions(said, op.name));
  }
}

}  // namespace opgrad::test
