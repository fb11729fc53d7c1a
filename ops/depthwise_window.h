// What the depthwise trio share: their attributes, shape rules and bad calls.
#pragma once
#include "conv2d_window.h"

namespace opgrad {

struct DepthwiseAttributes : Conv2DAttributes {
  std::int64_t multiplier = 0;  // of the kernel that is sought; 0 where none is
  static constexpr auto fields() {
    return std::tuple_cat(Conv2DAttributes::fields(),
                          std::tuple{field("multiplier", &DepthwiseAttributes::multiplier)});
  }
};

Result depthwise_shape(const Call& call);
Result depthwise_kernel_gradient_shape(const Call& call);
Result depthwise_input_gradient_shape(const Call& call);

BadCalls depthwise_bad_calls();
BadCalls depthwise_kernel_gradient_bad_calls();
BadCalls depthwise_input_gradient_bad_calls();

}  // namespace opgrad
