// Calls that every convolution must refuse: with one input channel all of them are the same.
#pragma once
#include <string>

#include "convolution_window.h"
#include "define.h"

namespace opgrad {

// A node that no public function would make.
template <class A>
void make_on(const Op& op, const Shape& first, const Shape& second, const A& attributes) {
  const Tensor a = zeros(first), b = zeros(second);
  make(op, {a.node(), b.node()}, {}, attributes);
}

// Those of `f`, which makes nodes of `op` with attributes A, and then `own`. Two more such for the gradients.
template <Tensor (*f)(const Operand&, const Operand&, const Window&), const Op& op, class A>
BadCalls bad_convolutions(const BadCalls& own) {
  static const Shape x{1, 9, 9, 1}, w{3, 3, 1, 1};
  static const std::string name = op.name, up_sample = "to up-sample, use " + name + "_input_gradient",
                           too_large = name + ": the shape [1, 4611686018427387913, 9, 1] has more than 2^56",
                           groups = name + ": 3 images are not 2 equal groups";
  BadCalls all{
      {"input is f32[28, 28, 1] of rank 3, but must be [batch, rows, columns, channels] of rank 4; add a "
       "batch of one: expand_dims(x, 0)",
       [] {
         f(zeros({28, 28, 1}), zeros(w), {});
       }},
      {"add batch and channel: reshape(x, {1, rows, columns, 1})",
       [] {
         f(zeros({28, 28}), zeros(w), {});
       }},
      {"input f32[8, 1, 28, 28] has 1 rows, 28 columns and 28 channels, but kernel f32[3, 3, 1, 1] takes 1 "
       "channels; this looks like channels first; permute(x, {0, 2, 3, 1})",
       [] {
         f(zeros({8, 1, 28, 28}), zeros(w), {});
       }},
      {"takes 5 channels; the input's last axis must equal the kernel's third",
       [] {
         f(zeros({8, 28, 28, 4}), zeros({3, 3, 5, 2}), {});
       }},
      {"the kernel spans 5 rows = (3 - 1) * dilation 2 + 1, but the padded input has only 4 = 2 + 1 + 1; use "
       "a smaller kernel, or pad by at least 1 rows more",
       [] {
         f(zeros({1, 2, 9, 1}), zeros(w), window(1, 2, {1, 1, 0, 0}));
       }},
      {"the kernel spans 5 columns = (5 - 1) * dilation 1 + 1, but the padded input has only 4 = 4 + 0 + 0",
       [] {
         f(zeros({1, 9, 4, 1}), zeros({5, 5, 1, 1}), {});
       }},
      {"the kernel has 0 rows, but needs at least 1",
       [] {
         f(zeros(x), zeros({0, 5, 1, 1}), {});
       }},
      {"the kernel spans 4294967297 rows = (3 - 1) * dilation 2147483648 + 1",
       [] { f(zeros(x), zeros(w), window(1, 1LL << 31)); }},
      {too_large.c_str(),
       [] {
         f(zeros(x), zeros(w), window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         f(zeros(x), zeros(w), window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"sought is [3, 3], but must be [0, 0]",
       [] {
         make_on(op, x, w, A{Conv2DAttributes{.sought = {3, 3}}});
       }},
      {groups.c_str(),
       [] {
         make_on(op, {3, 9, 9, 1}, {2, 3, 3, 1, 1}, A{Conv2DAttributes{.examples = 2}});
       }},
      {"strides are [0, 0], but must be at least 1", [] { f(zeros(x), zeros(w), window(0, 1)); }},
      {up_sample.c_str(), [] { f(zeros(x), zeros(w), window(0, 1)); }},
      {"dilations are [-1, -1], but must be at least 1",
       [] { f(zeros(x), zeros(w), window(1, -1, {}, Padding::same)); }},
      {"pads (top, bottom, left, right) are [0, 0, -1, 0], but must not be negative; to crop, slice the "
       "input",
       [] {
         f(zeros(x), zeros(w), window(1, 1, {0, 0, -1, 0}));
       }},
      {"9 + 9223372036854775807 + 0 rows of padded input do not fit 64 bits; use smaller pads",
       [] {
         f(zeros(x), zeros(w), window(1, 1, {INT64_MAX, 0, 0, 0}));
       }},
      {"the kernel's (3 - 1) * 9223372036854775807 + 1 rows do not fit 64 bits; use smaller dilations",
       [] { f(zeros(x), zeros(w), window(1, INT64_MAX)); }},
      {"input is i64[1, 9, 9, 1], but convolution needs f32 or f64; convert with cast(x, DType::f32)",
       [] { f(zeros(x, DType::i64), zeros(w), {}); }},
      {"input is f64[1, 9, 9, 1] and kernel is f32[3, 3, 1, 1], but both must be f32 or both f64; convert "
       "one: cast(x, DType::f64)",
       [] { f(zeros(x, DType::f64), zeros(w), {}); }}};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

using ConvolutionGradient = Tensor (*)(const Operand&, const Operand&, const Shape&, const Window&);

template <ConvolutionGradient f, const Op& forward>
BadCalls bad_kernel_gradients(const BadCalls& own) {
  static const Shape x{1, 7, 7, 1}, d{1, 5, 5, 2}, w{3, 3, 1, 2};
  static const std::string name = forward.name,
                           delta =
                               "delta [1, 4, 5, 2] has 4 x 5 pixels, but the convolution of [1, 7, 7, 1] "
                               "with a 3 x 3 kernel gives 5 x 5; give delta the shape of " +
                               name + "'s result, and the window that " + name + " had: not strides";
  BadCalls all{
      {delta.c_str(),
       [] {
         f(zeros(x), zeros({1, 4, 5, 2}), w, {});
       }},
      {"holds 2 images and delta f32[1, 5, 5, 2] holds 1; both need the same batch",
       [] {
         f(zeros({2, 7, 7, 1}), zeros(d), w, {});
       }},
      {"delta is f32[5, 5, 2] of rank 3, but must be [batch, rows, columns, channels]",
       [] {
         f(zeros(x), zeros({5, 5, 2}), w, {});
       }},
      {"input is i32[1, 7, 7, 1], but convolution needs f32 or f64",
       [] { f(zeros(x, DType::i32), zeros(d), w, {}); }},
      {"the kernel has 0 rows, but needs at least 1",
       [] {
         f(zeros(x), zeros(d), {0, 3, 1, 2}, {});
       }},
      {"strides are [-1, -1], but must be at least 1", [] { f(zeros(x), zeros(d), w, window(-1, 1)); }},
      {"pads (top, bottom, left, right) are [0, -1, 0, 0], but must not be negative",
       [] {
         f(zeros(x), zeros(d), w, window(1, 1, {0, -1, 0, 0}));
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         f(zeros(x), zeros(d), w, window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"the kernel spans 4294967297 rows = (3 - 1) * dilation 2147483648 + 1",
       [] { f(zeros(x), zeros(d), w, window(1, 1LL << 31)); }},
      {"the kernel spans 8 rows", [] {
         f(zeros(x), zeros(d), {8, 3, 1, 2}, {});
       }}};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

template <ConvolutionGradient f, const Op& op, class A>
BadCalls bad_input_gradients(const BadCalls& own) {
  static const Shape x{1, 7, 7, 1}, d{1, 5, 5, 2}, w{3, 3, 1, 2};
  BadCalls all{
      {"delta [1, 4, 5, 2] has 4 x 5 pixels, but the convolution of 7 x 7 pixels with kernel [3, 3, 1, 2] "
       "gives 5 x 5",
       [] {
         f(zeros({1, 4, 5, 2}), zeros(w), x, {});
       }},
      {"kernel is f64[3, 3, 1, 2], but both must be f32 or both f64",
       [] { f(zeros(d), zeros(w, DType::f64), x, {}); }},
      {"strides are [0, 0], but must be at least 1", [] { f(zeros(d), zeros(w), x, window(0, 1)); }},
      {"dilations are [-1, -1], but must be at least 1", [] { f(zeros(d), zeros(w), x, window(1, -1)); }},
      {"pads (top, bottom, left, right) are [0, 0, 0, -1], but must not be negative",
       [] {
         f(zeros(d), zeros(w), x, window(1, 1, {0, 0, 0, -1}));
       }},
      {"the convolution of 2147483648 x 7 pixels with kernel [3, 3, 1, 2] gives 2147483646 x 5",
       [] {
         f(zeros(d), zeros(w), {1, 1LL << 31, 7, 1}, {});
       }},
      {"pads=[4611686018427387904, 0, 0, 0]",
       [] {
         f(zeros(d), zeros(w), x, window(1, 1, {1LL << 62, 0, 0, 0}));
       }},
      {"the input sought has -1 x 7 pixels, which must not be negative",
       [] {
         make_on(op, d, w, A{Conv2DAttributes{.pads = {8, 0, 0, 0}, .sought = {-1, 7}}});
       }},
      {"input_shape [7, 7, 1] has rank 3, but must be [batch, rows, columns, channels] of rank 4",
       [] {
         f(zeros(d), zeros(w), {7, 7, 1}, {});
       }},
      {"input_shape [2, 7, 7, 1] has 2 images of 1 channels, but delta [1, 5, 5, 2] and kernel [3, 3, 1, 2] "
       "give 1 images of 1 channels",
       [] {
         f(zeros(d), zeros(w), {2, 7, 7, 1}, {});
       }}};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

}  // namespace opgrad
