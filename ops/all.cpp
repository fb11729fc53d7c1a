// The one list of built-in operations.
#include "all.h"

#include "../graph/registry.h"
#include "records.h"

namespace opgrad {
namespace records {
namespace {

constexpr const Op* arithmetic[] = {&add_op, &subtract_op, &multiply_op, &divide_op, &negate_op,
                                    &pow_op, &square_op,   &maximum_op,  &minimum_op};
constexpr const Op* unary[] = {&exp_op,  &expm1_op,   &log_op, &log1p_op, &sqrt_op, &sin_op, &cos_op,
                               &tanh_op, &sigmoid_op, &erf_op, &relu_op,  &gate_op, &abs_op};
constexpr const Op* select[] = {&equal_op,   &not_equal_op,     &less_op,  &less_equal_op,
                                &greater_op, &greater_equal_op, &where_op, &cast_op};
constexpr const Op* reduce[] = {&sum_op, &max_op, &first_max_op, &argmax_op};
constexpr const Op* softmax[] = {&softmax_op, &log_softmax_op, &cross_entropy_op};
constexpr const Op* matmul[] = {&matmul_op};
constexpr const Op* movement[] = {&reshape_op, &permute_op, &broadcast_to_op, &flip_op};
constexpr const Op* slice[] = {&slice_op, &pad_op, &concatenate_op};
constexpr const Op* gather[] = {&gather_op, &scatter_add_op, &take_along_op, &add_along_op, &one_hot_op};
constexpr const Op* conv2d[] = {&conv2d_op, &conv2d_kernel_gradient_op, &conv2d_input_gradient_op};
constexpr const Op* depthwise[] = {&depthwise_conv2d_op, &depthwise_conv2d_kernel_gradient_op,
                                   &depthwise_conv2d_input_gradient_op};
constexpr const Op* pool2d[] = {&max_pool2d_op, &max_pool2d_gradient_op, &max_pool2d_pick_op};
constexpr const Op* random[] = {&random_uniform_op, &random_normal_op};
constexpr const Op* custom_gradient[] = {&custom_gradient_op};

}  // namespace
}  // namespace records

bool register_builtin_ops() {
  using namespace records;
  static const bool done = [] {
    const auto add = [](const auto& family) {
      for (const Op* op : family) detail::register_builtin(*op);
    };
    add(arithmetic);
    add(unary);
    add(select);
    add(reduce);
    add(softmax);
    add(matmul);
    add(movement);
    add(slice);
    add(gather);
    add(conv2d);
    add(depthwise);
    add(pool2d);
    add(random);
    add(custom_gradient);
    return true;
  }();
  return done;
}

}  // namespace opgrad
