// Attributes of the convolutions and their derivatives, and the windows that they come from.
#pragma once
#include "../graph/ir.h"
#include "ops.h"

namespace opgrad {

struct Conv2DAttributes {
  std::array<std::int64_t, 2> strides{1, 1}, dilations{1, 1};
  std::array<std::int64_t, 4> pads{};    // top, bottom, left, right
  std::array<std::int64_t, 2> sought{};  // rows and columns of what a derivative is by; 0 in conv2d itself
  std::int64_t examples = 0;  // each with a kernel of its own; 0: one kernel for all, without that axis
  static constexpr auto fields() {
    return std::tuple{field("strides", &Conv2DAttributes::strides),
                      field("dilations", &Conv2DAttributes::dilations),
                      field("pads", &Conv2DAttributes::pads), field("sought", &Conv2DAttributes::sought),
                      field("examples", &Conv2DAttributes::examples)};
  }
  // For the derivative by a kernel of this shape.
  void seek_kernel(const Shape& w) { sought = {w[0], w[1]}; }
};

struct DepthwiseAttributes : Conv2DAttributes {
  std::int64_t multiplier = 0;  // of the kernel that is sought; 0 where none is
  static constexpr auto fields() {
    return std::tuple_cat(Conv2DAttributes::fields(),
                          std::tuple{field("multiplier", &DepthwiseAttributes::multiplier)});
  }
  void seek_kernel(const Shape& w) {
    Conv2DAttributes::seek_kernel(w);
    multiplier = w[3];
  }
};

// The shape of the kernel, or of each of the kernels.
Shape one_kernel(const Shape& w, const Conv2DAttributes& a);
// The window with its pads as numbers. What the shape rules refuse is passed on to them as it is.
Conv2DAttributes resolve(const Window& window, const Shape& x, const Shape& w);

// For examples and bad calls: equal along rows and columns.
Window window(std::int64_t stride, std::int64_t dilation, std::array<std::int64_t, 4> pads = {},
              Padding padding = Padding::valid);

}  // namespace opgrad
