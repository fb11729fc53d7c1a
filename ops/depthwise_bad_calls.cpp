// Calls that the depthwise trio must refuse, beside those of every convolution.
#include "convolution_bad_calls.h"
#include "convolution_claims.h"

namespace opgrad {

BadCalls depthwise_bad_calls() {
  return bad_convolutions<depthwise_conv2d, records::depthwise_conv2d_op, DepthwiseAttributes>(
      {{"kernel is f32[3, 3, 4] of rank 3, but must be [rows, columns, in, multiplier] of rank 4",
        [] {
          depthwise_conv2d(zeros({1, 28, 28, 4}), zeros({3, 3, 4}));
        }},
       {"but kernel f32[3, 3, 1, 4] takes 1 channels; the kernel looks like [rows, columns, multiplier, in]; "
        "permute(w, {0, 1, 3, 2})",
        [] {
          depthwise_conv2d(zeros({8, 28, 28, 4}), zeros({3, 3, 1, 4}));
        }},
       {"the kernel looks like [in, multiplier, rows, columns]; permute(w, {2, 3, 0, 1})",
        [] {
          depthwise_conv2d(zeros({8, 28, 28, 4}), zeros({4, 1, 3, 3}));
        }},
       {"multiplier is 2, but must be 0: the kernel has its own",
        [] {
          make_on(records::depthwise_conv2d_op, {1, 9, 9, 2}, {3, 3, 2, 2}, DepthwiseAttributes{{}, 2});
        }},
       {"the kernels are f32[3, 3, 1, 1], but must be [3, rows, columns, in, multiplier], one for each "
        "example",
        [] {
          make_on(records::depthwise_conv2d_op, {3, 9, 9, 1}, {3, 3, 1, 1},
                  DepthwiseAttributes{{.examples = 3}});
        }}});
}

BadCalls depthwise_kernel_gradient_bad_calls() {
  return bad_kernel_gradients<depthwise_conv2d_kernel_gradient, records::depthwise_conv2d_op>(
      {{"delta f32[1, 5, 5, 6] has 6 channels, but input f32[1, 7, 7, 3] has 3 and the kernel sought 4 for "
        "each; delta needs their product",
        [] {
          depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 3, 4});
        }},
       {"has 3 and the kernel sought -1 for each",
        [] {
          make_on(records::depthwise_conv2d_kernel_gradient_op, {1, 7, 7, 3}, {1, 5, 5, 6},
                  DepthwiseAttributes{{.sought = {3, 3}}, -1});
        }},
       {"kernel_shape [3, 3] has rank 2, but must be [rows, columns, in, multiplier] of rank 4",
        [] {
          depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3});
        }},
       {"kernel_shape [3, 3, 4, 2] takes 4 channels, but input [1, 7, 7, 3] has 3", [] {
          depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 4, 2});
        }}});
}

BadCalls depthwise_input_gradient_bad_calls() {
  return bad_input_gradients<depthwise_conv2d_input_gradient, records::depthwise_conv2d_input_gradient_op,
                             DepthwiseAttributes>(
      {{"delta f32[1, 5, 5, 4] has 4 channels, but kernel f32[3, 3, 3, 2] gives 2 for each of 3; delta needs "
        "their product",
        [] {
          depthwise_conv2d_input_gradient(zeros({1, 5, 5, 4}), zeros({3, 3, 3, 2}), {1, 7, 7, 3});
        }},
       {"multiplier is 2, but must be 0: the kernel has its own", [] {
          make_on(records::depthwise_conv2d_input_gradient_op, {1, 5, 5, 6}, {3, 3, 3, 2},
                  DepthwiseAttributes{{.sought = {7, 7}}, 2});
        }}});
}

}  // namespace opgrad
