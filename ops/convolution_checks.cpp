// The checks of windows, images, kernels and deltas.
#include "convolution_checks.h"

#include <fmt/format.h>

#include <algorithm>

#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

auto at(int i) { return static_cast<std::size_t>(i); }

constexpr const char* image_axes = "batch, rows, columns, channels";

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

// Inputs 0 and 1 are f32, or f64, and called so.
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

void check_image_rank(const Call& call, int i, const char* what) {
  const int rank = call.shape(i).rank();
  if (rank == 4) return;
  const char* way_out = rank == 3   ? "; add a batch of one: expand_dims(x, 0)"
                        : rank == 2 ? "; add batch and channel: reshape(x, {1, rows, columns, 1})"
                                    : "";
  call.fail(format("{} is {} of rank {}, but must be [{}] of rank 4{}", what, type_text(call, i), rank,
                   image_axes, way_out));
}

// Of the kernel, which is input 1, or of each of the kernels.
Shape check_kernel(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words) {
  const Shape& w = call.shape(1);
  const int rank = w.rank();
  if (a.examples && (rank != 5 || w[0] != a.examples))
    call.fail(format("the kernels are {}, but must be [{}, rows, columns, in, {}], one for each example",
                     type_text(call, 1), a.examples, words.last));
  if (!a.examples && rank != 4)
    call.fail(format("kernel is {} of rank {}, but must be [rows, columns, in, {}] of rank 4{}",
                     type_text(call, 1), rank, words.last,
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

// That delta is of the size of the result `output`, which is that of what `of` says.
template <class Text>
void check_delta(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words,
                 const Shape& delta, const std::array<std::int64_t, 2>& output, Text of) {
  if (delta[1] != output[0] || delta[2] != output[1])
    call.fail(format(
        "delta {} has {} x {} pixels, but the convolution of {} gives {} x {}; give delta the shape of "
        "{}'s result, and the window that {} had: not strides {}, dilations {}, pads {}",
        to_string(delta), delta[1], delta[2], of(), output[0], output[1], words.name, words.name,
        field_text(a.strides), field_text(a.dilations), field_text(a.pads)));
}

}  // namespace

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

Shape check_convolution(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words) {
  check_types(call, "input", "kernel");
  check_image_rank(call, 0, "input");
  const Shape w = check_kernel(call, a, words);
  check_window(call, a, words);
  if (a.sought != decltype(a.sought){})
    call.fail(format("sought is {}, but must be [0, 0]: only the derivatives seek rows and columns",
                     field_text(a.sought)));
  return w;
}

void check_kernel_gradient(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words) {
  check_types(call, "input", "delta");
  check_image_rank(call, 0, "input");
  check_image_rank(call, 1, "delta");
  check_window(call, a, words);
  const Shape &x = call.shape(0), &d = call.shape(1);
  if (x[0] != d[0])
    call.fail(format("input {} holds {} images and delta {} holds {}; both need the same batch",
                     type_text(call, 0), x[0], type_text(call, 1), d[0]));
}

Shape check_input_gradient(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words) {
  check_types(call, "delta", "kernel");
  check_image_rank(call, 0, "delta");
  const Shape w = check_kernel(call, a, words);
  check_window(call, a, words);
  if (a.sought[0] < 0 || a.sought[1] < 0)
    call.fail(
        format("the input sought has {} x {} pixels, which must not be negative", a.sought[0], a.sought[1]));
  return w;
}

void check_channels(const Call& call, const Shape& x, const Shape& w, const char* hint) {
  if (x[3] == w[2]) return;
  if (x[1] == w[2])
    hint = "this looks like channels first; permute(x, {0, 2, 3, 1})";
  else if (!hint)
    hint = "the input's last axis must equal the kernel's third";
  call.fail(format("input {} has {} rows, {} columns and {} channels, but kernel {} takes {} channels; {}",
                   type_text(call, 0), x[1], x[2], x[3], type_text(call, 1), w[2], hint));
}

Result kernel_sought(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words,
                     std::int64_t channels, std::int64_t last) {
  const Shape& x = call.shape(0);
  const auto [rows, columns] = a.sought;
  check_delta(call, a, words, call.shape(1), output_sizes(call, a, x[1], x[2], channels, rows, columns),
              [&] { return format("{} with a {} x {} kernel", to_string(x), a.sought[0], a.sought[1]); });
  const Shape w{rows, columns, x[3], last};
  return {call.dtype(0), a.examples ? in_front(a.examples, w) : w};
}

Result image_sought(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words,
                    std::int64_t channels, const Shape& w) {
  const Shape& d = call.shape(0);
  const auto [rows, columns] = a.sought;
  check_delta(call, a, words, d, output_sizes(call, a, rows, columns, channels, w[0], w[1]), [&] {
    return format("{} x {} pixels with kernel {}", a.sought[0], a.sought[1], to_string(w));
  });
  return {call.dtype(0), Shape{d[0], rows, columns, w[2]}};
}

void check_kernel_shape(const char* operation, Location where, const Shape& w,
                        const ConvolutionWords& words) {
  if (w.rank() != 4)
    refuse(operation, where,
           format("kernel_shape {} has rank {}, but must be [rows, columns, in, {}] of rank 4", to_string(w),
                  w.rank(), words.last));
}

void check_input_shape(const char* operation, Location where, const Shape& x) {
  if (x.rank() != 4)
    refuse(
        operation, where,
        format("input_shape {} has rank {}, but must be [{}] of rank 4", to_string(x), x.rank(), image_axes));
}

void check_image_made(const char* operation, Location where, const Shape& x, const Tensor& made,
                      const Tensor& delta, const Tensor& kernel) {
  if (made.shape() != x)
    refuse(operation, where,
           format("input_shape {} has {} images of {} channels, but delta {} and kernel {} give {} images of "
                  "{} channels",
                  to_string(x), x[0], x[3], to_string(delta.shape()), to_string(kernel.shape()), delta.dim(0),
                  kernel.dim(2)));
}

}  // namespace opgrad
