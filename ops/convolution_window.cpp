// Kernels of examples, and the pads that "same" stands for.
#include "convolution_window.h"

#include <algorithm>

namespace opgrad {

namespace {

auto at(int i) { return static_cast<std::size_t>(i); }

}  // namespace

Shape one_kernel(const Shape& w, const Conv2DAttributes& a) {
  return a.examples ? Shape(w.dims().subspan(1)) : w;
}

Conv2DAttributes resolve(const Window& window, const Shape& x, const Shape& w) {
  Conv2DAttributes a{window.strides, window.dilations, window.pads, {}, 0};
  const bool sound = x.rank() == 4 && w.rank() == 4 &&
                     std::min({a.strides[0], a.strides[1], a.dilations[0], a.dilations[1]}) >= 1;
  if (window.padding == Padding::valid || !sound) return a;
  for (const int axis : {0, 1}) {
    // ceil(size / stride) outputs need (outputs - 1) * stride + extent rows.
    const std::int64_t size = x[axis + 1], stride = a.strides[at(axis)];
    std::int64_t needed = 0;
    if (size == 0 || __builtin_mul_overflow(w[axis] - 1, a.dilations[at(axis)], &needed) ||
        __builtin_add_overflow(needed, 1 + (size - 1) / stride * stride - size, &needed))
      continue;
    const std::int64_t missing = std::max<std::int64_t>(0, needed);
    std::int64_t &before = a.pads[at(2 * axis)], &after = a.pads[at(2 * axis + 1)];
    if (before < 0 || after < 0 || __builtin_add_overflow(before, missing / 2, &before) ||
        __builtin_add_overflow(after, missing - missing / 2, &after))
      a.pads = window.pads;
  }
  return a;
}

Window window(std::int64_t stride, std::int64_t dilation, std::array<std::int64_t, 4> pads, Padding padding) {
  return {{stride, stride}, {dilation, dilation}, padding, pads};
}

}  // namespace opgrad
