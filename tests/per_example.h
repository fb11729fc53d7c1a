// Gradients by example against a loop over the examples.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "../ops/example_rules.h"
#include "../ops/per_example.h"
#include "numeric_gradient.h"

namespace opgrad::test {

using Doubles = std::vector<double>;
using Tensors = std::vector<Tensor>;
// Losses [batch] of parameters and of data whose axis 0 holds the examples.
using Network = std::function<Tensor(const Tensors& parameters, const Tensors& data)>;

inline Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

inline Tensor rows(const Tensor& x, std::int64_t first, std::int64_t count) {
  Axes begin, end;
  for (const std::int64_t n : x.shape()) {
    begin.push_back(0);
    end.push_back(n);
  }
  begin[0] = first;
  end[0] = first + count;
  return slice(x, begin, end);
}

inline void check_close(const Doubles& found, const Doubles& expected, double bound) {
  REQUIRE(found.size() == expected.size());
  double size = 0, apart = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    size = std::max(size, std::abs(expected[i]));
    apart = std::max(apart, std::abs(found[i] - expected[i]));
  }
  CHECK(apart <= bound * size);
}

// Each example's gradients are those of the network on its data alone, and their mean is that of the mean
// loss.
inline void check_by_loop(const Network& f, const Tensors& parameters, const Tensors& data,
                          std::int64_t batch, double bound = 1e-12) {
  const Tensor losses = f(parameters, data);
  REQUIRE(losses.shape() == Shape{batch});
  const Tensors found = per_example_gradients(losses, parameters);
  const Tensors whole = grad(mean(losses), parameters);
  bool any = false;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i].shape() == in_front(batch, parameters[i].shape()));
    check_close(doubles(mean(found[i], {0})), doubles(whole[i]), bound);
    for (const double g : doubles(found[i])) any = any || g != 0;
  }
  CHECK(any);
  for (std::int64_t b = 0; b < batch; ++b) {
    CAPTURE(b);
    Tensors mine;
    for (const Tensor& x : data) mine.push_back(rows(x, b * (x.dim(0) / batch), x.dim(0) / batch));
    const Tensors expected = grad(sum(f(parameters, mine)), parameters);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      CAPTURE(i);
      check_close(doubles(found[i][b]), doubles(expected[i]), bound);
    }
  }
}

inline Tensor weights(const Shape& shape, std::uint64_t seed) { return variable(random_tensor(shape, seed)); }

// One number for each of the groups of rows, in which all elements have a say.
inline Tensor losses_of(const Tensor& y, std::int64_t batch) {
  const Tensor flat = reshape(y, {batch, -1});
  return sum(square(flat) * random_tensor({flat.dim(1)}, 99), {1});
}

}  // namespace opgrad::test
