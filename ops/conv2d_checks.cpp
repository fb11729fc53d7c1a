// The checks of windows, images and kernels.
#include "conv2d_checks.h"

#include <fmt/format.h>

#include <algorithm>

#include "define.h"

namespace opgrad {

using fmt::format;

namespace {

auto at(int i) { return static_cast<std::size_t>(i); }

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

}  // namespace

Shape one_kernel(const Shape& w, const Conv2DAttributes& a) {
  return a.examples ? Shape(w.dims().subspan(1)) : w;
}

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

Shape check_kernel(const Call& call, int i, const Conv2DAttributes& a, const ConvolutionWords& words) {
  const Shape& w = call.shape(i);
  const int rank = w.rank();
  if (a.examples && (rank != 5 || w[0] != a.examples))
    call.fail(format("the kernels are {}, but must be [{}, rows, columns, in, {}], one for each example",
                     type_text(call, i), a.examples, words.last));
  if (!a.examples && rank != 4)
    call.fail(format("kernel is {} of rank {}, but must be [rows, columns, in, {}] of rank 4{}",
                     type_text(call, i), rank, words.last,
                     rank == 2 ? "; add its channels: reshape(w, {rows, columns, 1, 1})" : ""));
  return one_kernel(w, a);
}

void check_window(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words) {
  if (a.examples < 0 || (a.examples && call.shape(0).dims()[0] % a.examples != 0))
    call.fail(format("{} images are not {} equal groups", call.shape(0).dims()[0], a.examples));
  for (const int i : {0, 1}) {
    if (a.strides[at(i)] < 1)
      call.fail(format("strides are {}, but must be at least 1; to up-sample, use {}_input_gradient",
                       field_text(a.strides), words.name));
    if (a.dilations[at(i)] < 1)
      call.fail(format("dilations are {}, but must be at least 1 (1: neighbouring pixels)",
                       field_text(a.dilations)));
  }
  if (*std::min_element(a.pads.begin(), a.pads.end()) < 0)
    call.fail(
        format("pads (top, bottom, left, right) are {}, but must not be negative; to crop, slice the input",
               field_text(a.pads)));
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

void check_delta(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words,
                 const Shape& delta, const std::array<std::int64_t, 2>& output, const char* of) {
  if (delta[1] != output[0] || delta[2] != output[1])
    call.fail(format(
        "delta {} has {} x {} pixels, but the convolution of {} gives {} x {}; give delta the shape of "
        "{}'s result, and the window that {} had: not strides {}, dilations {}, pads {}",
        to_string(delta), delta[1], delta[2], of, output[0], output[1], words.name, words.name,
        field_text(a.strides), field_text(a.dilations), field_text(a.pads)));
}

}  // namespace opgrad
