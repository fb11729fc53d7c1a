// Calls that the convolution trio must refuse, beside those of every convolution.
#include "convolution_bad_calls.h"
#include "convolution_claims.h"

namespace opgrad {

BadCalls conv2d_bad_calls() {
  return bad_convolutions<conv2d, records::conv2d_op, Conv2DAttributes>(
      {{"kernel is f32[3, 3] of rank 2, but must be [rows, columns, in, out] of rank 4; add its channels: "
        "reshape(w, {rows, columns, 1, 1})",
        [] {
          conv2d(zeros({1, 28, 28, 1}), zeros({3, 3}));
        }},
       {"the kernel looks like [out, in, rows, columns]; permute(w, {2, 3, 1, 0})",
        [] {
          conv2d(zeros({8, 28, 28, 4}), zeros({32, 4, 3, 3}));
        }},
       {"correlate2d: kernel f32[0, 3] has no elements; it needs at least one row and one column", [] {
          correlate2d(zeros({4, 4}), zeros({0, 3}), true);
        }}});
}

BadCalls conv2d_kernel_gradient_bad_calls() {
  return bad_kernel_gradients<conv2d_kernel_gradient, records::conv2d_op>(
      {{"kernel_shape [3, 3] has rank 2, but must be [rows, columns, in, out] of rank 4",
        [] {
          conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3});
        }},
       {"kernel_shape [3, 3, 4, 2] has 4 and 2 channels, but input [1, 7, 7, 3] and delta [1, 5, 5, 2] have "
        "3 and 2",
        [] {
          conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 4, 2});
        }}});
}

BadCalls conv2d_input_gradient_bad_calls() {
  return bad_input_gradients<conv2d_input_gradient, records::conv2d_input_gradient_op, Conv2DAttributes>(
      {{"delta f32[1, 5, 5, 4] has 4 channels, but kernel f32[3, 3, 3, 2] gives 2; delta's last axis must "
        "equal the kernel's",
        [] {
          conv2d_input_gradient(zeros({1, 5, 5, 4}), zeros({3, 3, 3, 2}), {1, 7, 7, 3});
        }}});
}

}  // namespace opgrad
