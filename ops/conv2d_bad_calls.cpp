// Calls of the convolution trio that must be refused.
#include "conv2d_window.h"
#include "define.h"

namespace opgrad {
BadCalls conv2d_bad_calls() {
  return BadCalls{
      {"input is f32[28, 28, 1] of rank 3, but must be [batch, rows, columns, channels] of rank 4; "
       "add a batch of "
       "one: expand_dims(x, 0)",
       [] {
         conv2d(zeros({28, 28, 1}), zeros({3, 3, 1, 8}));
       }},
      {"add batch and channel: reshape(x, {1, rows, columns, 1})",
       [] {
         conv2d(zeros({28, 28}), zeros({3, 3, 1, 8}));
       }},
      {"kernel is f32[3, 3] of rank 2, but must be [rows, columns, in, out] of rank 4; add its "
       "channels: "
       "reshape(w, {rows, columns, 1, 1})",
       [] {
         conv2d(zeros({1, 28, 28, 1}), zeros({3, 3}));
       }},
      {"input f32[8, 1, 28, 28] has 1 rows, 28 columns and 28 channels, but kernel f32[3, 3, 1, 32] "
       "takes 1 "
       "channels; this looks like channels first; permute(x, {0, 2, 3, 1})",
       [] {
         conv2d(zeros({8, 1, 28, 28}), zeros({3, 3, 1, 32}));
       }},
      {"the kernel looks like [out, in, rows, columns]; permute(w, {2, 3, 1, 0})",
       [] {
         conv2d(zeros({8, 28, 28, 4}), zeros({32, 4, 3, 3}));
       }},
      {"takes 5 channels; the input's last axis must equal the kernel's third",
       [] {
         conv2d(zeros({8, 28, 28, 4}), zeros({3, 3, 5, 32}));
       }},
      {"the kernel spans 5 rows = (3 - 1) * dilation 2 + 1, but the padded input has only 4 = 2 + 1 "
       "+ 1; use a "
       "smaller kernel, or pad by at least 1 rows more",
       [] {
         conv2d(zeros({1, 2, 9, 1}), zeros({3, 3, 1, 1}), window(1, 2, {1, 1, 0, 0}));
       }},
      {"the kernel spans 5 columns = (5 - 1) * dilation 1 + 1, but the padded input has only 4 = 4 + "
       "0 + 0",
       [] {
         conv2d(zeros({1, 9, 4, 1}), zeros({5, 5, 1, 1}));
       }},
      {"the kernel has 0 rows, but needs at least 1",
       [] {
         conv2d(zeros({1, 9, 4, 1}), zeros({0, 5, 1, 1}));
       }},
      {"the kernel spans 4294967297 rows = (3 - 1) * dilation 2147483648 + 1",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(1, 1LL << 31));
       }},
      {"conv2d: the shape [1, 4611686018427387913, 9, 1] has more than 2^56",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"sought is [3, 3], but must be [0, 0]",
       [] {
         const Tensor x = zeros({1, 9, 9, 1}), w = zeros({3, 3, 1, 1});
         make(records::conv2d_op, {x.node(), w.node()}, {}, Conv2DAttributes{.sought = {3, 3}});
       }},
      {"correlate2d: kernel f32[0, 3] has no elements; it needs at least one row and one column",
       [] {
         correlate2d(zeros({4, 4}), zeros({0, 3}), true);
       }},
      {"conv2d: 3 images are not 2 equal groups",
       [] {
         const Tensor x = zeros({3, 9, 9, 1}), w = zeros({2, 3, 3, 1, 1});
         make(records::conv2d_op, {x.node(), w.node()}, {}, Conv2DAttributes{.examples = 2});
       }},
      {"strides are [0, 0], but must be at least 1; to up-sample, use conv2d_input_gradient",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(0, 1));
       }},
      {"dilations are [-1, -1], but must be at least 1",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(1, -1, {}, Padding::same));
       }},
      {"pads (top, bottom, left, right) are [0, 0, -1, 0], but must not be negative; to crop, slice "
       "the input",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(1, 1, {0, 0, -1, 0}));
       }},
      {"9 + 9223372036854775807 + 0 rows of padded input do not fit 64 bits; use smaller pads",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(1, 1, {INT64_MAX, 0, 0, 0}));
       }},
      {"the kernel's (3 - 1) * 9223372036854775807 + 1 rows do not fit 64 bits; use smaller "
       "dilations",
       [] {
         conv2d(zeros({1, 9, 9, 1}), zeros({3, 3, 1, 1}), window(1, INT64_MAX));
       }},
      {"input is i64[1, 9, 9, 1], but convolution needs f32 or f64; convert with cast(x, DType::f32)",
       [] {
         conv2d(zeros({1, 9, 9, 1}, DType::i64), zeros({3, 3, 1, 1}));
       }},
      {"input is f64[1, 9, 9, 1] and kernel is f32[3, 3, 1, 1], but both must be f32 or both f64; "
       "convert one: "
       "cast(x, DType::f64)",
       [] {
         conv2d(zeros({1, 9, 9, 1}, DType::f64), zeros({3, 3, 1, 1}));
       }}};
}

BadCalls conv2d_kernel_gradient_bad_calls() {
  return BadCalls{
      {"delta [1, 4, 5, 2] has 4 x 5 pixels, but the convolution of [1, 7, 7, 3] with a "
       "3 x 3 kernel gives 5 x 5; "
       "give delta the shape of conv2d's result",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 4, 5, 2}), {3, 3, 3, 2});
       }},
      {"holds 2 images and delta f32[1, 5, 5, 2] holds 1; both need the same batch",
       [] {
         conv2d_kernel_gradient(zeros({2, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 3, 2});
       }},
      {"delta is f32[5, 5, 2] of rank 3, but must be [batch, rows, columns, channels]",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({5, 5, 2}), {3, 3, 3, 2});
       }},
      {"kernel_shape [3, 3] has rank 2, but must be [rows, columns, in, out] of rank 4",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3});
       }},
      {"kernel_shape [3, 3, 4, 2] has 4 and 2 channels, but input [1, 7, 7, 3] and delta "
       "[1, 5, 5, 2] have 3 and 2",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 4, 2});
       }},
      {"input is i32[1, 7, 7, 3], but convolution needs f32 or f64",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}, DType::i32), zeros({1, 5, 5, 2}), {3, 3, 3, 2});
       }},
      {"the kernel has 0 rows, but needs at least 1",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {0, 3, 3, 2});
       }},
      {"strides are [-1, -1], but must be at least 1",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 3, 2}, window(-1, 1));
       }},
      {"pads (top, bottom, left, right) are [0, -1, 0, 0], but must not be negative",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 3, 2},
                                window(1, 1, {0, -1, 0, 0}));
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 3, 2},
                                window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"the kernel spans 4294967297 rows = (3 - 1) * dilation 2147483648 + 1",
       [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 3, 2}, window(1, 1LL << 31));
       }},
      {"the kernel spans 8 rows", [] {
         conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {8, 3, 3, 2});
       }}};
}

BadCalls conv2d_input_gradient_bad_calls() {
  return BadCalls{
      {"delta [1, 4, 5, 2] has 4 x 5 pixels, but the convolution of 7 x 7 pixels with kernel [3, 3, "
       "3, 2] gives 5 "
       "x 5",
       [] {
         conv2d_input_gradient(zeros({1, 4, 5, 2}), zeros({3, 3, 3, 2}), {1, 7, 7, 3});
       }},
      {"delta f32[1, 5, 5, 4] has 4 channels, but kernel f32[3, 3, 3, 2] gives 2; delta's last axis "
       "must equal the "
       "kernel's",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 4}), zeros({3, 3, 3, 2}), {1, 7, 7, 3});
       }},
      {"kernel is f64[3, 3, 3, 2], but both must be f32 or both f64",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}, DType::f64), {1, 7, 7, 3});
       }},
      {"strides are [0, 0], but must be at least 1",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}), {1, 7, 7, 3}, window(0, 1));
       }},
      {"dilations are [-1, -1], but must be at least 1",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}), {1, 7, 7, 3}, window(1, -1));
       }},
      {"pads (top, bottom, left, right) are [0, 0, 0, -1], but must not be negative",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}), {1, 7, 7, 3},
                               window(1, 1, {0, 0, 0, -1}));
       }},
      {"the convolution of 2147483648 x 7 pixels with kernel [3, 3, 3, 2] gives 2147483646 x 5",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}), {1, 1LL << 31, 7, 3});
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}), {1, 7, 7, 3},
                               window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"the input sought has -1 x 7 pixels, which must not be negative",
       [] {
         const Tensor d = zeros({1, 5, 5, 2}), w = zeros({3, 3, 3, 2});
         make(records::conv2d_input_gradient_op, {d.node(), w.node()}, {},
              Conv2DAttributes{.pads = {8, 0, 0, 0}, .sought = {-1, 7}});
       }},
      {"input_shape [7, 7, 3] has rank 3, but must be [batch, rows, columns, channels] of rank 4",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}), {7, 7, 3});
       }},
      {"input_shape [2, 7, 7, 3] has 2 images of 3 channels, but delta [1, 5, 5, 2] and kernel [3, "
       "3, 3, 2] give 1 "
       "images of 3 channels",
       [] {
         conv2d_input_gradient(zeros({1, 5, 5, 2}), zeros({3, 3, 3, 2}), {2, 7, 7, 3});
       }}};
}

}  // namespace opgrad
