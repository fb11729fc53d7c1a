// Tensors whose elements tell their places, for the tests of operations that move or fold them.
#pragma once
#include <numeric>
#include <vector>

#include "../graph/ir.h"

namespace opgrad::test {

using Numbers = std::vector<double>;
inline Numbers read(const Tensor& x) { return x.to_vector<double>(); }

// 0, 1, 2, ... in row-major order.
inline Tensor counting(const Shape& shape) {
  Numbers n(static_cast<std::size_t>(shape.numel()));
  std::iota(n.begin(), n.end(), 0.0);
  return tensor(n, shape);
}

}  // namespace opgrad::test
