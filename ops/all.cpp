// The one list of built-in operations.
#include "all.h"

#include "../graph/registry.h"
#include "records.h"

namespace opgrad {

bool register_builtin_ops() {
  using namespace records;
  static const bool done = [] {
    for (const Op* op : {
             &add_op,           &subtract_op,   &multiply_op,    &divide_op,     &negate_op,
             &pow_op,           &square_op,     &maximum_op,     &minimum_op,    &exp_op,
             &log_op,           &sqrt_op,       &tanh_op,        &sigmoid_op,    &relu_op,
             &gate_op,          &abs_op,        &equal_op,       &not_equal_op,  &less_op,
             &less_equal_op,    &greater_op,    &greater_equal_op, &where_op,    &cast_op,
             &sum_op,           &max_op,        &first_max_op,   &argmax_op,     &softmax_op,
             &log_softmax_op,   &cross_entropy_op, &matmul_op,   &reshape_op,    &permute_op,
             &broadcast_to_op,  &slice_op,      &pad_op,         &flip_op,       &concatenate_op,
             &gather_op,        &scatter_add_op, &take_along_op, &add_along_op,  &one_hot_op,
             &conv2d_op,        &conv2d_kernel_gradient_op, &conv2d_input_gradient_op,
             &max_pool2d_op,    &max_pool2d_gradient_op, &random_uniform_op, &random_normal_op,
         })
      register_op(*op);
    return true;
  }();
  return done;
}

}  // namespace opgrad
