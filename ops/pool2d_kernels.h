// The kernels of max pooling: the greatest of each window, and the adjoint pair that goes with it.
#pragma once
#include <array>
#include <cstdint>
#include <tuple>

#include "../core/kernel.h"
#include "../graph/attributes.h"

namespace opgrad {

struct Pool2DAttributes {
  std::array<std::int64_t, 2> size{}, strides{};
  static constexpr auto fields() {
    return std::tuple{field("size", &Pool2DAttributes::size), field("strides", &Pool2DAttributes::strides)};
  }
};

// (x) -> y, (x, dy) -> dx and (x, v) -> v at the winners, of f32 or f64. A window's winner is its first NaN,
// else the first of its greatest in row-major order: y is x there, bit for bit; dx gets dy there and is 0
// elsewhere, and where windows overlap their shares are added in the order of the windows. Views are dense
// and their shapes what the records' rules give. The same bits for any instructions, number of threads and
// cut of the batch.
void pool2d_forward(const KernelArgs&);
void pool2d_gradient(const KernelArgs&);
void pool2d_pick(const KernelArgs&);

}  // namespace opgrad
