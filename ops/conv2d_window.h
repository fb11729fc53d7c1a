// What the convolution trio share: their attributes, shape rules and bad calls.
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
};

// The shape of the kernel, or of each of the kernels.
Shape one_kernel(const Shape& w, const Conv2DAttributes& a);
// The window with its pads as numbers. What the shape rules refuse is passed on to them as it is.
Conv2DAttributes resolve(const Window& window, const Shape& x, const Shape& w);

// For examples and bad calls: equal along rows and columns.
Window window(std::int64_t stride, std::int64_t dilation, std::array<std::int64_t, 4> pads = {},
              Padding padding = Padding::valid);

Result conv2d_shape(const Call& call);
Result kernel_gradient_shape(const Call& call);
Result input_gradient_shape(const Call& call);

BadCalls conv2d_bad_calls();
BadCalls conv2d_kernel_gradient_bad_calls();
BadCalls conv2d_input_gradient_bad_calls();

}  // namespace opgrad
