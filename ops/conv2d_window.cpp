// Shape rules of the convolution trio, and the pads that "same" stands for.
#include "conv2d_window.h"

#include <fmt/format.h>

#include <algorithm>

#include "conv2d_checks.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

auto at(int i) { return static_cast<std::size_t>(i); }

constexpr ConvolutionWords words{"conv2d", "out"};

}  // namespace

Result conv2d_shape(const Call& call) {
  check_types(call, "input", "kernel");
  check_image_rank(call, 0, "input", "batch, rows, columns, channels");
  const auto& a = call.attributes<Conv2DAttributes>();
  const Shape &x = call.shape(0), w = check_kernel(call, 1, a, words);
  check_window(call, a, words);
  if (a.sought != decltype(a.sought){})
    call.fail(format("sought is {}, but must be [0, 0]: only the derivatives seek rows and columns",
                     field_text(a.sought)));
  if (x[3] != w[2]) {
    std::string hint = "the input's last axis must equal the kernel's third";
    if (x[1] == w[2])
      hint = "this looks like channels first; permute(x, {0, 2, 3, 1})";
    else if (x[3] == w[1])
      hint = "the kernel looks like [out, in, rows, columns]; permute(w, {2, 3, 1, 0})";
    call.fail(format("input {} has {} rows, {} columns and {} channels, but kernel {} takes {} channels; {}",
                     type_text(call, 0), x[1], x[2], x[3], type_text(call, 1), w[2], hint));
  }
  const auto output = output_sizes(call, a, x[1], x[2], x[3], w[0], w[1]);
  return {call.dtype(0), Shape{x[0], output[0], output[1], w[3]}};
}

Result kernel_gradient_shape(const Call& call) {
  check_types(call, "input", "delta");
  check_image_rank(call, 0, "input", "batch, rows, columns, channels");
  check_image_rank(call, 1, "delta", "batch, rows, columns, channels");
  const auto& a = call.attributes<Conv2DAttributes>();
  check_window(call, a, words);
  const Shape &x = call.shape(0), &d = call.shape(1);
  if (x[0] != d[0])
    call.fail(format("input {} holds {} images and delta {} holds {}; both need the same batch",
                     type_text(call, 0), x[0], type_text(call, 1), d[0]));
  check_delta(call, a, words, d, output_sizes(call, a, x[1], x[2], x[3], a.sought[0], a.sought[1]),
              format("{} with a {} x {} kernel", to_string(x), a.sought[0], a.sought[1]).c_str());
  const Shape w{a.sought[0], a.sought[1], x[3], d[3]};
  return {call.dtype(0), a.examples ? in_front(a.examples, w) : w};
}

Result input_gradient_shape(const Call& call) {
  check_types(call, "delta", "kernel");
  check_image_rank(call, 0, "delta", "batch, rows, columns, channels");
  const auto& a = call.attributes<Conv2DAttributes>();
  const Shape &d = call.shape(0), w = check_kernel(call, 1, a, words);
  check_window(call, a, words);
  if (a.sought[0] < 0 || a.sought[1] < 0)
    call.fail(
        format("the input sought has {} x {} pixels, which must not be negative", a.sought[0], a.sought[1]));
  if (d[3] != w[3])
    call.fail(
        format("delta {} has {} channels, but kernel {} gives {}; delta's last axis must equal the kernel's",
               type_text(call, 0), d[3], type_text(call, 1), w[3]));
  check_delta(call, a, words, d, output_sizes(call, a, a.sought[0], a.sought[1], w[2], w[0], w[1]),
              format("{} x {} pixels with kernel {}", a.sought[0], a.sought[1], to_string(w)).c_str());
  return {call.dtype(0), Shape{d[0], a.sought[0], a.sought[1], w[2]}};
}

Conv2DAttributes resolve(const Window& window, const Shape& x, const Shape& w) {
  Conv2DAttributes a{window.strides, window.dilations, window.pads, {}, 0};
  const bool sound = x.rank() == 4 && w.rank() == 4 &&
                     std::min({a.strides[0], a.strides[1], a.dilations[0], a.dilations[1]}) >= 1;
  if (window.padding == Padding::valid || !sound) return a;
  for (const int axis : {0, 1}) {
    // ceil(size / stride) outputs need (outputs - 1) * stride + extent rows.
    const std::int64_t size = x[axis + 1], stride = a.strides[at(axis)];
    std::int64_t needed = 0;
    if (size == 0 || __builtin_mul_overflow(w[axis] - 1, a.dilations[at(axis)], &needed) ||
        __builtin_add_overflow(needed, 1 + (size - 1) / stride * stride - size, &needed))
      continue;
    const std::int64_t missing = std::max<std::int64_t>(0, needed);
    std::int64_t &before = a.pads[at(2 * axis)], &after = a.pads[at(2 * axis + 1)];
    if (before < 0 || after < 0 || __builtin_add_overflow(before, missing / 2, &before) ||
        __builtin_add_overflow(after, missing - missing / 2, &after))
      a.pads = window.pads;
  }
  return a;
}

Window window(std::int64_t stride, std::int64_t dilation, std::array<std::int64_t, 4> pads, Padding padding) {
  return {{stride, stride}, {dilation, dilation}, padding, pads};
}

}  // namespace opgrad
