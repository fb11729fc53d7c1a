// Calls of the depthwise trio that must be refused.
#include "define.h"
#include "depthwise_window.h"

namespace opgrad {

BadCalls depthwise_bad_calls() {
  return BadCalls{
      {"input is f32[28, 28, 4] of rank 3, but must be [batch, rows, columns, channels] of rank 4; add a "
       "batch "
       "of one: expand_dims(x, 0)",
       [] {
         depthwise_conv2d(zeros({28, 28, 4}), zeros({3, 3, 4, 1}));
       }},
      {"kernel is f32[3, 3, 4] of rank 3, but must be [rows, columns, in, multiplier] of rank 4",
       [] {
         depthwise_conv2d(zeros({1, 28, 28, 4}), zeros({3, 3, 4}));
       }},
      {"input f32[8, 4, 28, 28] has 4 rows, 28 columns and 28 channels, but kernel f32[3, 3, 4, 1] takes 4 "
       "channels; this looks like channels first; permute(x, {0, 2, 3, 1})",
       [] {
         depthwise_conv2d(zeros({8, 4, 28, 28}), zeros({3, 3, 4, 1}));
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
      {"takes 5 channels; the input's last axis must equal the kernel's third",
       [] {
         depthwise_conv2d(zeros({8, 28, 28, 4}), zeros({3, 3, 5, 2}));
       }},
      {"the kernel spans 5 rows = (3 - 1) * dilation 2 + 1, but the padded input has only 4 = 2 + 1 + 1; use "
       "a "
       "smaller kernel, or pad by at least 1 rows more",
       [] {
         depthwise_conv2d(zeros({1, 2, 9, 2}), zeros({3, 3, 2, 1}), window(1, 2, {1, 1, 0, 0}));
       }},
      {"the kernel has 0 rows, but needs at least 1",
       [] {
         depthwise_conv2d(zeros({1, 9, 4, 2}), zeros({0, 5, 2, 1}));
       }},
      {"the kernel spans 4294967297 rows = (3 - 1) * dilation 2147483648 + 1",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}), zeros({3, 3, 2, 1}), window(1, 1LL << 31));
       }},
      {"depthwise_conv2d: the shape [1, 4611686018427387913, 9, 2] has more than 2^56",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}), zeros({3, 3, 2, 1}), window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}), zeros({3, 3, 2, 1}), window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"sought is [3, 3], but must be [0, 0]",
       [] {
         const Tensor x = zeros({1, 9, 9, 2}), w = zeros({3, 3, 2, 1});
         make(records::depthwise_conv2d_op, {x.node(), w.node()}, {},
              DepthwiseAttributes{{.sought = {3, 3}}});
       }},
      {"multiplier is 2, but must be 0: the kernel has its own",
       [] {
         const Tensor x = zeros({1, 9, 9, 2}), w = zeros({3, 3, 2, 2});
         make(records::depthwise_conv2d_op, {x.node(), w.node()}, {}, DepthwiseAttributes{{}, 2});
       }},
      {"depthwise_conv2d: 3 images are not 2 equal groups",
       [] {
         const Tensor x = zeros({3, 9, 9, 1}), w = zeros({2, 3, 3, 1, 1});
         make(records::depthwise_conv2d_op, {x.node(), w.node()}, {}, DepthwiseAttributes{{.examples = 2}});
       }},
      {"the kernels are f32[3, 3, 1, 1], but must be [3, rows, columns, in, multiplier], one for each "
       "example",
       [] {
         const Tensor x = zeros({3, 9, 9, 1}), w = zeros({3, 3, 1, 1});
         make(records::depthwise_conv2d_op, {x.node(), w.node()}, {}, DepthwiseAttributes{{.examples = 3}});
       }},
      {"strides are [0, 0], but must be at least 1; to up-sample, use depthwise_conv2d_input_gradient",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}), zeros({3, 3, 2, 1}), window(0, 1));
       }},
      {"dilations are [-1, -1], but must be at least 1",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}), zeros({3, 3, 2, 1}), window(1, -1, {}, Padding::same));
       }},
      {"pads (top, bottom, left, right) are [0, 0, -1, 0], but must not be negative; to crop, slice the "
       "input",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}), zeros({3, 3, 2, 1}), window(1, 1, {0, 0, -1, 0}));
       }},
      {"input is i64[1, 9, 9, 2], but convolution needs f32 or f64; convert with cast(x, DType::f32)",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}, DType::i64), zeros({3, 3, 2, 1}));
       }},
      {"input is f64[1, 9, 9, 2] and kernel is f32[3, 3, 2, 1], but both must be f32 or both f64; convert "
       "one: "
       "cast(x, DType::f64)",
       [] {
         depthwise_conv2d(zeros({1, 9, 9, 2}, DType::f64), zeros({3, 3, 2, 1}));
       }}};
}

BadCalls depthwise_kernel_gradient_bad_calls() {
  return BadCalls{
      {"delta [1, 4, 5, 6] has 4 x 5 pixels, but the convolution of [1, 7, 7, 3] with a 3 x 3 kernel gives 5 "
       "x "
       "5; give delta the shape of depthwise_conv2d's result, and the window that depthwise_conv2d had",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 4, 5, 6}), {3, 3, 3, 2});
       }},
      {"holds 2 images and delta f32[1, 5, 5, 6] holds 1; both need the same batch",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({2, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 3, 2});
       }},
      {"delta is f32[5, 5, 6] of rank 3, but must be [batch, rows, columns, channels]",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({5, 5, 6}), {3, 3, 3, 2});
       }},
      {"delta f32[1, 5, 5, 6] has 6 channels, but input f32[1, 7, 7, 3] has 3 and the kernel sought 4 for "
       "each; delta needs their product",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 3, 4});
       }},
      {"has 3 and the kernel sought -1 for each",
       [] {
         const Tensor x = zeros({1, 7, 7, 3}), d = zeros({1, 5, 5, 6});
         make(records::depthwise_conv2d_kernel_gradient_op, {x.node(), d.node()}, {},
              DepthwiseAttributes{{.sought = {3, 3}}, -1});
       }},
      {"kernel_shape [3, 3] has rank 2, but must be [rows, columns, in, multiplier] of rank 4",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3});
       }},
      {"kernel_shape [3, 3, 4, 2] takes 4 channels, but input [1, 7, 7, 3] has 3",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 4, 2});
       }},
      {"input is i32[1, 7, 7, 3], but convolution needs f32 or f64",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}, DType::i32), zeros({1, 5, 5, 6}), {3, 3, 3, 2});
       }},
      {"the kernel has 0 rows, but needs at least 1",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {0, 3, 3, 2});
       }},
      {"strides are [-1, -1], but must be at least 1",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 3, 2},
                                          window(-1, 1));
       }},
      {"pads (top, bottom, left, right) are [0, -1, 0, 0], but must not be negative",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 3, 2},
                                          window(1, 1, {0, -1, 0, 0}));
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 3, 2},
                                          window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"the kernel spans 4294967297 rows = (3 - 1) * dilation 2147483648 + 1", [] {
         depthwise_conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 6}), {3, 3, 3, 2},
                                          window(1, 1LL << 31));
       }}};
}

BadCalls depthwise_input_gradient_bad_calls() {
  return BadCalls{
      {"delta [1, 4, 5, 6] has 4 x 5 pixels, but the convolution of 7 x 7 pixels with kernel [3, 3, 3, 2] "
       "gives 5 x 5",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 4, 5, 6}), zeros({3, 3, 3, 2}), {1, 7, 7, 3});
       }},
      {"delta f32[1, 5, 5, 4] has 4 channels, but kernel f32[3, 3, 3, 2] gives 2 for each of 3; delta needs "
       "their product",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 4}), zeros({3, 3, 3, 2}), {1, 7, 7, 3});
       }},
      {"kernel is f64[3, 3, 3, 2], but both must be f32 or both f64",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}, DType::f64), {1, 7, 7, 3});
       }},
      {"multiplier is 2, but must be 0: the kernel has its own",
       [] {
         const Tensor d = zeros({1, 5, 5, 6}), w = zeros({3, 3, 3, 2});
         make(records::depthwise_conv2d_input_gradient_op, {d.node(), w.node()}, {},
              DepthwiseAttributes{{.sought = {7, 7}}, 2});
       }},
      {"strides are [0, 0], but must be at least 1",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}), {1, 7, 7, 3},
                                         window(0, 1));
       }},
      {"dilations are [-1, -1], but must be at least 1",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}), {1, 7, 7, 3},
                                         window(1, -1));
       }},
      {"pads (top, bottom, left, right) are [0, 0, 0, -1], but must not be negative",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}), {1, 7, 7, 3},
                                         window(1, 1, {0, 0, 0, -1}));
       }},
      {"the convolution of 2147483648 x 7 pixels with kernel [3, 3, 3, 2] gives 2147483646 x 5",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}), {1, 1LL << 31, 7, 3});
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}), {1, 7, 7, 3},
                                         window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"the input sought has -1 x 7 pixels, which must not be negative",
       [] {
         const Tensor d = zeros({1, 5, 5, 6}), w = zeros({3, 3, 3, 2});
         make(records::depthwise_conv2d_input_gradient_op, {d.node(), w.node()}, {},
              DepthwiseAttributes{{.pads = {8, 0, 0, 0}, .sought = {-1, 7}}});
       }},
      {"input_shape [7, 7, 3] has rank 3, but must be [batch, rows, columns, channels] of rank 4",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}), {7, 7, 3});
       }},
      {"input_shape [2, 7, 7, 3] has 2 images of 3 channels, but delta [1, 5, 5, 6] and kernel [3, 3, 3, 2] "
       "give 1 images of 3 channels",
       [] {
         depthwise_conv2d_input_gradient(zeros({1, 5, 5, 6}), zeros({3, 3, 3, 2}), {2, 7, 7, 3});
       }}};
}

}  // namespace opgrad
