// Shape rules of the convolution trio, and the pads that "same" stands for.
#include "conv2d_window.h"

#include <fmt/format.h>

#include <algorithm>

#include "../core/buffer.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

Shape one_kernel(const Shape& w, const Conv2DAttributes& a) {
  return a.examples ? Shape(w.dims().subspan(1)) : w;
}

namespace {

auto at(int i) { return static_cast<std::size_t>(i); }

void check_types(const Call& call, const char* a, const char* b) {
  for (const int i : {0, 1})
    if (!is_float(call.dtype(i)))
      call.fail(format("{} is {}, but convolution needs f32 or f64; convert with cast(x, DType::f32)",
                       i ? b : a, type_text(call, i)));
  if (call.dtype(0) != call.dtype(1))
    call.fail(
        format("{} is {} and {} is {}, but both must be f32 or both f64; convert one: cast(x, DType::{})", a,
               type_text(call, 0), b, type_text(call, 1), name_of(call.dtype(0))));
}

void check_image_rank(const Call& call, int i, const char* what, const char* layout) {
  const int rank = call.shape(i).rank();
  if (rank == 4) return;
  const char* way_out = rank == 3   ? "; add a batch of one: expand_dims(x, 0)"
                        : rank == 2 ? "; add batch and channel: reshape(x, {1, rows, columns, 1})"
                                    : "";
  call.fail(format("{} is {} of rank {}, but must be [{}] of rank 4{}", what, type_text(call, i), rank,
                   layout, way_out));
}

Shape check_kernel(const Call& call, int i, const Conv2DAttributes& a) {
  const Shape& w = call.shape(i);
  const int rank = w.rank();
  if (a.examples && (rank != 5 || w[0] != a.examples))
    call.fail(format("the kernels are {}, but must be [{}, rows, columns, in, out], one for each example",
                     type_text(call, i), a.examples));
  if (!a.examples && rank != 4)
    call.fail(format("kernel is {} of rank {}, but must be [rows, columns, in, out] of rank 4{}",
                     type_text(call, i), rank,
                     rank == 2 ? "; add its channels: reshape(w, {rows, columns, 1, 1})" : ""));
  return one_kernel(w, a);
}

void check_window(const Call& call, const Conv2DAttributes& a) {
  if (a.examples < 0 || (a.examples && call.shape(0).dims()[0] % a.examples != 0))
    call.fail(format("{} images are not {} equal groups", call.shape(0).dims()[0], a.examples));
  for (const int i : {0, 1}) {
    if (a.strides[at(i)] < 1)
      call.fail(format("strides are {}, but must be at least 1; to up-sample, use conv2d_input_gradient",
                       field_text(a.strides)));
    if (a.dilations[at(i)] < 1)
      call.fail(format("dilations are {}, but must be at least 1 (1: neighbouring pixels)",
                       field_text(a.dilations)));
  }
  if (*std::min_element(a.pads.begin(), a.pads.end()) < 0)
    call.fail(
        format("pads (top, bottom, left, right) are {}, but must not be negative; to crop, slice the input",
               field_text(a.pads)));
}

// Output rows (axis 0) or columns (axis 1).
std::int64_t output_size(const Call& call, const Conv2DAttributes& a, int axis, std::int64_t size,
                         std::int64_t taps) {
  const char* name = axis ? "columns" : "rows";
  const std::int64_t before = a.pads[at(2 * axis)], after = a.pads[at(2 * axis + 1)],
                     dilation = a.dilations[at(axis)];
  if (taps < 1) call.fail(format("the kernel has {} {}, but needs at least 1", taps, name));
  std::int64_t padded = 0, extent = 0;
  if (__builtin_add_overflow(size, before, &padded) || __builtin_add_overflow(padded, after, &padded))
    call.fail(format("{} + {} + {} {} of padded input do not fit 64 bits; use smaller pads", size, before,
                     after, name));
  if (__builtin_mul_overflow(taps - 1, dilation, &extent) || __builtin_add_overflow(extent, 1, &extent))
    call.fail(format("the kernel's ({} - 1) * {} + 1 {} do not fit 64 bits; use smaller dilations", taps,
                     dilation, name));
  if (extent > padded)
    call.fail(format(
        "the kernel spans {0} {1} = ({2} - 1) * dilation {3} + 1, but the padded input has only {4} = {5} + "
        "{6} + {7}; use a smaller kernel, or pad by at least {8} {1} more",
        extent, name, taps, dilation, padded, size, before, after, extent - padded));
  return (padded - extent) / a.strides[at(axis)] + 1;
}

std::array<std::int64_t, 2> output_sizes(const Call& call, const Conv2DAttributes& a, std::int64_t rows,
                                         std::int64_t columns, std::int64_t channels,
                                         std::int64_t kernel_rows, std::int64_t kernel_columns) {
  const std::array<std::int64_t, 2> sizes{output_size(call, a, 0, rows, kernel_rows),
                                          output_size(call, a, 1, columns, kernel_columns)};
  // The kernels count places in the padded input, which exists nowhere: as a Shape they fit 64 bits.
  static_cast<void>(
      Shape{call.shape(0)[0], rows + a.pads[0] + a.pads[1], columns + a.pads[2] + a.pads[3], channels});
  return sizes;
}

void check_delta(const Call& call, const Conv2DAttributes& a, const Shape& delta,
                 const std::array<std::int64_t, 2>& output, const char* of) {
  if (delta[1] != output[0] || delta[2] != output[1])
    call.fail(format(
        "delta {} has {} x {} pixels, but the convolution of {} gives {} x {}; give delta the shape of "
        "conv2d's result, and the window that conv2d had: not strides {}, dilations {}, pads {}",
        to_string(delta), delta[1], delta[2], of, output[0], output[1], field_text(a.strides),
        field_text(a.dilations), field_text(a.pads)));
}

}  // namespace

Result conv2d_shape(const Call& call) {
  check_types(call, "input", "kernel");
  check_image_rank(call, 0, "input", "batch, rows, columns, channels");
  const auto& a = call.attributes<Conv2DAttributes>();
  const Shape &x = call.shape(0), w = check_kernel(call, 1, a);
  check_window(call, a);
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
  check_window(call, a);
  const Shape &x = call.shape(0), &d = call.shape(1);
  if (x[0] != d[0])
    call.fail(format("input {} holds {} images and delta {} holds {}; both need the same batch",
                     type_text(call, 0), x[0], type_text(call, 1), d[0]));
  check_delta(call, a, d, output_sizes(call, a, x[1], x[2], x[3], a.sought[0], a.sought[1]),
              format("{} with a {} x {} kernel", to_string(x), a.sought[0], a.sought[1]).c_str());
  const Shape w{a.sought[0], a.sought[1], x[3], d[3]};
  return {call.dtype(0), a.examples ? in_front(a.examples, w) : w};
}

Result input_gradient_shape(const Call& call) {
  check_types(call, "delta", "kernel");
  check_image_rank(call, 0, "delta", "batch, rows, columns, channels");
  const auto& a = call.attributes<Conv2DAttributes>();
  const Shape &d = call.shape(0), w = check_kernel(call, 1, a);
  check_window(call, a);
  if (a.sought[0] < 0 || a.sought[1] < 0)
    call.fail(
        format("the input sought has {} x {} pixels, which must not be negative", a.sought[0], a.sought[1]));
  if (d[3] != w[3])
    call.fail(
        format("delta {} has {} channels, but kernel {} gives {}; delta's last axis must equal the kernel's",
               type_text(call, 0), d[3], type_text(call, 1), w[3]));
  check_delta(call, a, d, output_sizes(call, a, a.sought[0], a.sought[1], w[2], w[0], w[1]),
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
