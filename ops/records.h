// Every record of this room by name, for rules that make a node of another file's operation and for the list
// in all.cpp.
#pragma once
#include "../graph/ir.h"

namespace opgrad::records {

// arithmetic.cpp
extern const Op add_op, subtract_op, multiply_op, divide_op, negate_op, pow_op, square_op, maximum_op,
    minimum_op;
// unary.cpp
extern const Op exp_op, expm1_op, log_op, log1p_op, sqrt_op, sin_op, cos_op, tanh_op, sigmoid_op, erf_op,
    relu_op, abs_op, gate_op;
// select.cpp
extern const Op equal_op, not_equal_op, less_op, less_equal_op, greater_op, greater_equal_op, where_op,
    cast_op;
// reduce.cpp
extern const Op sum_op, max_op, first_max_op, argmax_op;
// softmax.cpp
extern const Op softmax_op, log_softmax_op, cross_entropy_op;
// matmul.cpp
extern const Op matmul_op;
// reshape.cpp
extern const Op reshape_op;
// broadcast_to.cpp
extern const Op broadcast_to_op;
// permute.cpp
extern const Op permute_op, flip_op;
// slice.cpp
extern const Op slice_op, pad_op;
// concatenate.cpp
extern const Op concatenate_op;
// gather.cpp
extern const Op gather_op, scatter_add_op;
// along.cpp
extern const Op take_along_op, add_along_op;
// one_hot.cpp
extern const Op one_hot_op;
// conv2d.cpp
extern const Op conv2d_op, conv2d_kernel_gradient_op, conv2d_input_gradient_op;
// depthwise.cpp
extern const Op depthwise_conv2d_op, depthwise_conv2d_kernel_gradient_op, depthwise_conv2d_input_gradient_op;
// pool2d.cpp
extern const Op max_pool2d_op, max_pool2d_gradient_op, max_pool2d_pick_op;
// random.cpp
extern const Op random_uniform_op, random_normal_op;
// custom_gradient.cpp
extern const Op custom_gradient_op;

}  // namespace opgrad::records
