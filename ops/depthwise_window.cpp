// Shape rules of the depthwise trio.
#include "depthwise_window.h"

#include <fmt/format.h>

#include <algorithm>

#include "conv2d_checks.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

constexpr ConvolutionWords words{"depthwise_conv2d", "multiplier"};

void check_no_multiplier(const Call& call, const DepthwiseAttributes& a) {
  if (a.multiplier != 0)
    call.fail(format("multiplier is {}, but must be 0: the kernel has its own", a.multiplier));
}

}  // namespace

Result depthwise_shape(const Call& call) {
  check_types(call, "input", "kernel");
  check_image_rank(call, 0, "input", "batch, rows, columns, channels");
  const auto& a = call.attributes<DepthwiseAttributes>();
  const Shape &x = call.shape(0), w = check_kernel(call, 1, a, words);
  check_window(call, a, words);
  check_no_multiplier(call, a);
  if (a.sought != decltype(a.sought){})
    call.fail(format("sought is {}, but must be [0, 0]: only the derivatives seek rows and columns",
                     field_text(a.sought)));
  if (x[3] != w[2]) {
    std::string hint = "the input's last axis must equal the kernel's third";
    if (x[1] == w[2])
      hint = "this looks like channels first; permute(x, {0, 2, 3, 1})";
    else if (w[2] == 1 && w[3] == x[3])
      hint = "the kernel looks like [rows, columns, multiplier, in]; permute(w, {0, 1, 3, 2})";
    else if (x[3] == w[0])
      hint = "the kernel looks like [in, multiplier, rows, columns]; permute(w, {2, 3, 0, 1})";
    call.fail(format("input {} has {} rows, {} columns and {} channels, but kernel {} takes {} channels; {}",
                     type_text(call, 0), x[1], x[2], x[3], type_text(call, 1), w[2], hint));
  }
  const auto output = output_sizes(call, a, x[1], x[2], std::max(x[3], x[3] * w[3]), w[0], w[1]);
  return {call.dtype(0), Shape{x[0], output[0], output[1], w[2] * w[3]}};
}

Result depthwise_kernel_gradient_shape(const Call& call) {
  check_types(call, "input", "delta");
  check_image_rank(call, 0, "input", "batch, rows, columns, channels");
  check_image_rank(call, 1, "delta", "batch, rows, columns, channels");
  const auto& a = call.attributes<DepthwiseAttributes>();
  check_window(call, a, words);
  const Shape &x = call.shape(0), &d = call.shape(1);
  if (x[0] != d[0])
    call.fail(format("input {} holds {} images and delta {} holds {}; both need the same batch",
                     type_text(call, 0), x[0], type_text(call, 1), d[0]));
  std::int64_t out = 0;
  if (a.multiplier < 0 || __builtin_mul_overflow(x[3], a.multiplier, &out) || out != d[3])
    call.fail(format(
        "delta {} has {} channels, but input {} has {} and the kernel sought {} for each; delta needs their "
        "product",
        type_text(call, 1), d[3], type_text(call, 0), x[3], a.multiplier));
  check_delta(call, a, words, d,
              output_sizes(call, a, x[1], x[2], std::max(x[3], d[3]), a.sought[0], a.sought[1]),
              format("{} with a {} x {} kernel", to_string(x), a.sought[0], a.sought[1]).c_str());
  const Shape w{a.sought[0], a.sought[1], x[3], a.multiplier};
  return {call.dtype(0), a.examples ? in_front(a.examples, w) : w};
}

Result depthwise_input_gradient_shape(const Call& call) {
  check_types(call, "delta", "kernel");
  check_image_rank(call, 0, "delta", "batch, rows, columns, channels");
  const auto& a = call.attributes<DepthwiseAttributes>();
  const Shape &d = call.shape(0), w = check_kernel(call, 1, a, words);
  check_window(call, a, words);
  check_no_multiplier(call, a);
  if (a.sought[0] < 0 || a.sought[1] < 0)
    call.fail(
        format("the input sought has {} x {} pixels, which must not be negative", a.sought[0], a.sought[1]));
  std::int64_t out = 0;
  if (__builtin_mul_overflow(w[2], w[3], &out) || d[3] != out)
    call.fail(
        format("delta {} has {} channels, but kernel {} gives {} for each of {}; delta needs their product",
               type_text(call, 0), d[3], type_text(call, 1), w[3], w[2]));
  check_delta(call, a, words, d,
              output_sizes(call, a, a.sought[0], a.sought[1], std::max(w[2], d[3]), w[0], w[1]),
              format("{} x {} pixels with kernel {}", a.sought[0], a.sought[1], to_string(w)).c_str());
  return {call.dtype(0), Shape{d[0], a.sought[0], a.sought[1], w[2]}};
}

}  // namespace opgrad
