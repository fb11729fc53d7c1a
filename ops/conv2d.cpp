// Convolution, channels last: the trio conv2d, its kernel gradient and its input gradient, and the lecture's
// operators on plain images.
//
// One number holds all three. For an input x, a kernel w and a delta d, let
//
//     F(x, w, d) = sum over b, i, j, m, n, c, o of
//                  x[b, i*s + m*r - p, j*s + n*r - p, c] w[m, n, c, o] d[b, i, j, o]
//
// with strides s, dilations r and pads p (x is zero outside). F is linear in each argument, and the trio are
// its derivatives by each: Y(x, w) = dF/dd, K(x, d) = dF/dw, I(d, w) = dF/dx. So for cotangents y', w' and x'
//
//     <Y(x, w), y'> = F(x, w, y')   has derivatives   dx = I(y', w)   dw = K(x, y')
//     <K(x, d), w'> = F(x, w', d)                     dx = I(d, w')   dd = Y(x, w')
//     <I(d, w), x'> = F(x', w, d)                     dd = Y(x', w)   dw = K(x', d)
//
// and each backward rule is the other two. In the lecture's words K is the convolution of the input with the
// flipped delta, which is its correlation with delta, and I the full convolution of delta with the kernel.
//
// Gradients by example need one more form of the trio, with a kernel for each example: the images come in
// `examples` equal groups, and group e meets w[e, m, n, c, o]. It is closed under differentiation as well.
#include <fmt/format.h>

#include <algorithm>

#include "../core/buffer.h"
#include "../core/parallel.h"
#include "conv2d_identities.h"
#include "conv2d_kernels.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

struct Conv2DAttributes {
  std::array<std::int64_t, 2> strides{1, 1}, dilations{1, 1};
  std::array<std::int64_t, 4> pads{};    // top, bottom, left, right
  std::array<std::int64_t, 2> sought{};  // rows and columns of what a derivative is by; 0 in conv2d itself
  std::int64_t examples = 0;  // each with a kernel of its own; 0: one kernel for all, without that axis
  static constexpr auto fields() {
    return std::tuple{field("strides", &Conv2DAttributes::strides),
                      field("dilations", &Conv2DAttributes::dilations),
                      field("pads", &Conv2DAttributes::pads), field("sought", &Conv2DAttributes::sought),
                      field("examples", &Conv2DAttributes::examples)};
  }
};

auto at(int i) { return static_cast<std::size_t>(i); }

// ------------------------------------------------------------------------------------------------ shape
// rules

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

// The kernel, or each of the kernels, by its shape.
Shape one_kernel(const Shape& w, const Conv2DAttributes& a) {
  return a.examples ? Shape(w.dims().subspan(1)) : w;
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

// ------------------------------------------------------------------------------------------------ kernels

// One convolution: all of it, or that of one example.
ConvSizes sizes_of(const Shape& x, const Shape& kernels, const Shape& y, const Conv2DAttributes& a) {
  const Shape w = one_kernel(kernels, a);
  // A step that is never taken may be of any size; here it is 1.
  const auto taken = [](std::int64_t step, std::int64_t count) { return count > 1 ? step : 1; };
  return {.batch = x[0] / std::max<std::int64_t>(1, a.examples),
          .rows = x[1],
          .columns = x[2],
          .in = x[3],
          .kernel_rows = w[0],
          .kernel_columns = w[1],
          .out = w[3],
          .out_rows = y[1],
          .out_columns = y[2],
          .strides = {taken(a.strides[0], y[1]), taken(a.strides[1], y[2])},
          .dilations = {taken(a.dilations[0], w[0]), taken(a.dilations[1], w[1])},
          .top = a.pads[0],
          .left = a.pads[2]};
}

// Calls one(x, w, y) for the convolution, or for that of each example. Many examples: one a thread; few: each
// on all threads.
template <class T, class F>
void for_each_convolution(const ConvSizes& s, const Conv2DAttributes& a, T* x, T* w, T* y, F one) {
  if (!a.examples) return one(x, w, y);
  const std::int64_t image = s.rows * s.columns * s.in, pixels = s.image_pixels() * s.out;
  const auto example = [&](std::int64_t e) {
    one(x + e * s.batch * image, w + e * s.kernel_size(), y + e * s.batch * pixels);
  };
  if (a.examples >= 8) return parallel_for(a.examples, example);
  for (std::int64_t e = 0; e < a.examples; ++e) example(e);
}

void conv2d_kernel(const KernelArgs& k) {
  const auto& a = k.attributes<Conv2DAttributes>();
  const auto sizes = sizes_of(k.in[0].shape(), k.in[1].shape(), k.out.shape(), a);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    for_each_convolution(sizes, a, k.in[0].as<T>(), k.in[1].as<T>(), k.out.as<T>(),
                         [&](T* x, T* w, T* y) { convolve_forward<T>(sizes, x, w, y); });
  });
}

void kernel_gradient_kernel(const KernelArgs& k) {
  const auto& a = k.attributes<Conv2DAttributes>();
  const auto sizes = sizes_of(k.in[0].shape(), k.out.shape(), k.in[1].shape(), a);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    for_each_convolution(
        sizes, a, k.in[0].as<T>(), k.out.as<T>(), k.in[1].as<T>(), [&](T* x, T* w, T* delta) {
          // Several examples at once cannot share the planned workspace.
          BufferRef own;
          if (a.examples) own = allocate(kernel_gradient_workspace(sizes, sizeof(T)));
          convolve_kernel_gradient<T>(sizes, x, delta, w,
                                      own ? reinterpret_cast<T*>(own->data) : static_cast<T*>(k.workspace));
        });
  });
}

void input_gradient_kernel(const KernelArgs& k) {
  const auto& a = k.attributes<Conv2DAttributes>();
  const auto sizes = sizes_of(k.out.shape(), k.in[1].shape(), k.in[0].shape(), a);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    for_each_convolution(sizes, a, k.out.as<T>(), k.in[1].as<T>(), k.in[0].as<T>(),
                         [&](T* x, T* w, T* delta) { convolve_input_gradient<T>(sizes, delta, w, x); });
  });
}

std::size_t kernel_gradient_bytes(const Call& call) {
  const auto& a = call.attributes<Conv2DAttributes>();
  if (a.examples) return 0;
  const Shape &x = call.shape(0), &d = call.shape(1);
  const Shape w{a.sought[0], a.sought[1], x[3], d[3]};
  return kernel_gradient_workspace(sizes_of(x, w, d, a), size_of(call.dtype(0)));
}

// ------------------------------------------------------------------------------------------------ nodes

Tensor forward_node(const Tensor& x, const Tensor& w, Conv2DAttributes a, Location where = {}) {
  a.sought = {};
  return make(records::conv2d_op, {x.node(), w.node()}, where, a);
}
Tensor kernel_gradient_node(const Tensor& x, const Tensor& delta, const Shape& w, Conv2DAttributes a,
                            Location where = {}) {
  const Shape one = one_kernel(w, a);
  a.sought = {one[0], one[1]};
  return make(records::conv2d_kernel_gradient_op, {x.node(), delta.node()}, where, a);
}
Tensor input_gradient_node(const Tensor& delta, const Tensor& w, const Shape& x, Conv2DAttributes a,
                           Location where = {}) {
  a.sought = {x[1], x[2]};
  return make(records::conv2d_input_gradient_op, {delta.node(), w.node()}, where, a);
}

// The window with its pads as numbers. What the shape rules refuse is passed on to them as it is.
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

// ------------------------------------------------------------------------------------------------ by example

// The operation with a kernel for each example, where it has one kernel for all.
Conv2DAttributes apart(const Tensor& y, std::int64_t examples) {
  Conv2DAttributes a = y.attributes<Conv2DAttributes>();
  a.examples = examples;
  return a;
}

// All images in one batch, which the kernels of all entries cut into their groups.
Tensor lift(const Tensor& y, std::span<const Tensor> inputs) {
  const std::int64_t n = inputs[0].dim(0);
  const auto own = std::max<std::int64_t>(1, y.attributes<Conv2DAttributes>().examples);
  const auto folded = [&](const Tensor& x, bool kernels) {
    std::vector<std::int64_t> dims(x.shape().begin() + 1, x.shape().end());
    if (kernels && dims.size() == 4) dims.insert(dims.begin(), 1);
    dims[0] *= n;
    return reshape(x, Shape(dims));
  };
  const bool kernel_last = y.node()->op != &records::conv2d_kernel_gradient_op;
  const Tensor a = folded(inputs[0], false), b = folded(inputs[1], kernel_last);
  const Tensor all = make(*y.node()->op, {a.node(), b.node()}, {}, apart(y, n * own));
  return reshape(all, in_front(n, y.shape()));
}

// ------------------------------------------------------------------------------------------------ examples

Window window(std::int64_t stride, std::int64_t dilation, std::array<std::int64_t, 4> pads = {},
              Padding padding = Padding::valid) {
  return {{stride, stride}, {dilation, dilation}, padding, pads};
}

}  // namespace

constinit const Op records::conv2d_op{
    .name = "conv2d",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear,
    .about =
        "y[b,i,j,o] = sum over m,n,c of x[b, i*s + m*d - top, j*s + n*d - left, c] w[m,n,c,o]: "
        "cross-correlation",
    .shape = conv2d_shape,
    .forward = conv2d_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor x = y.input(0), w = y.input(1);
          const auto& a = y.attributes<Conv2DAttributes>();
          return Grads{wanted(0) ? input_gradient_node(dy, w, x.shape(), a) : Tensor(),
                       wanted(1) ? kernel_gradient_node(x, dy, w.shape(), a) : Tensor()};
        },
    .examples =
        [] {
          return Examples{{{sample({2, 5, 4, 2}), sample({3, 2, 2, 3})},
                           [](std::span<const Tensor> in) { return conv2d(in[0], in[1]); }},
                          {{sample({2, 7, 8, 1}), sample({3, 3, 1, 4})},
                           [](std::span<const Tensor> in) {
                             return conv2d(in[0], in[1], window(2, 1, {}, Padding::same));
                           }},
                          {{sample({1, 7, 6, 3}), sample({2, 3, 3, 2})},
                           [](std::span<const Tensor> in) {
                             return conv2d(in[0], in[1], window(1, 2, {0, 2, 1, 3}));
                           }},
                          {{sample({2, 3, 3, 4}), sample({1, 1, 4, 3})},
                           [](std::span<const Tensor> in) { return conv2d(in[0], in[1]); }},
                          {{sample({1, 5, 5, 5}), sample({3, 3, 5, 2})}, [](std::span<const Tensor> in) {
                             return conv2d(in[0], in[1], window(2, 1, {1, 0, 2, 1}));
                           }}};
        },
    .identities = conv2d_identities,
    .bad_calls =
        [] {
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
        },
    .attributes = &attribute_info<Conv2DAttributes>,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const Tensor x = y.input(0), w = y.input(1);
                      const auto& a = y.attributes<Conv2DAttributes>();
                      if (a.examples) return Grads{};
                      return Grads{wanted(0) ? input_gradient_node(dy, w, x.shape(), a) : Tensor(),
                                   wanted(1) ? kernel_gradient_node(x, dy, in_front(examples, w.shape()),
                                                                    apart(y, examples))
                                             : Tensor()};
                    },
                    lift}};

constinit const Op records::conv2d_kernel_gradient_op{
    .name = "conv2d_kernel_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear,
    .about = "dw[m,n,c,o] = sum over b,i,j of x[b, i*s + m*d - top, j*s + n*d - left, c] delta[b,i,j,o]",
    .shape = kernel_gradient_shape,
    .forward = kernel_gradient_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor x = y.input(0), delta = y.input(1);
          const auto& a = y.attributes<Conv2DAttributes>();
          return Grads{wanted(0) ? input_gradient_node(delta, dy, x.shape(), a) : Tensor(),
                       wanted(1) ? forward_node(x, dy, a) : Tensor()};
        },
    .examples =
        [] {
          return Examples{
              {{sample({2, 5, 4, 2}), sample({2, 3, 3, 3})},
               [](std::span<const Tensor> in) {
                 return conv2d_kernel_gradient(in[0], in[1], {3, 2, 2, 3});
               }},
              {{sample({1, 8, 7, 2}), sample({1, 4, 4, 3})}, [](std::span<const Tensor> in) {
                 return conv2d_kernel_gradient(in[0], in[1], {2, 2, 2, 3}, window(2, 2, {1, 0, 1, 2}));
               }}};
        },
    .bad_calls =
        [] {
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
                 conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 3, 2},
                                        window(-1, 1));
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
                 conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {3, 3, 3, 2},
                                        window(1, 1LL << 31));
               }},
              {"the kernel spans 8 rows", [] {
                 conv2d_kernel_gradient(zeros({1, 7, 7, 3}), zeros({1, 5, 5, 2}), {8, 3, 3, 2});
               }}};
        },
    .attributes = &attribute_info<Conv2DAttributes>,
    .workspace = kernel_gradient_bytes,
    .per_example = {.lift = lift}};

constinit const Op records::conv2d_input_gradient_op{
    .name = "conv2d_input_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear,
    .about =
        "dx[b,k,l,c] = sum of delta[b,i,j,o] w[m,n,c,o] over o and all i,j,m,n with i*s + m*d - top = k, "
        "j*s + n*d - left = l: the transposed convolution",
    .shape = input_gradient_shape,
    .forward = input_gradient_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor delta = y.input(0), w = y.input(1);
          const auto& a = y.attributes<Conv2DAttributes>();
          return Grads{wanted(0) ? forward_node(dy, w, a) : Tensor(),
                       wanted(1) ? kernel_gradient_node(dy, delta, w.shape(), a) : Tensor()};
        },
    .examples =
        [] {
          return Examples{
              {{sample({2, 3, 3, 3}), sample({3, 2, 2, 3})},
               [](std::span<const Tensor> in) {
                 return conv2d_input_gradient(in[0], in[1], {2, 5, 4, 2});
               }},
              {{sample({1, 4, 4, 3}), sample({2, 2, 2, 3})}, [](std::span<const Tensor> in) {
                 return conv2d_input_gradient(in[0], in[1], {1, 8, 7, 2}, window(2, 2, {1, 0, 1, 2}));
               }}};
        },
    .bad_calls =
        [] {
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
        },
    .attributes = &attribute_info<Conv2DAttributes>,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const Tensor delta = y.input(0), w = y.input(1);
                      const auto& a = y.attributes<Conv2DAttributes>();
                      if (a.examples) return Grads{};
                      return Grads{wanted(0) ? forward_node(dy, w, a) : Tensor(),
                                   wanted(1) ? kernel_gradient_node(dy, delta, in_front(examples, w.shape()),
                                                                    apart(y, examples))
                                             : Tensor()};
                    },
                    lift}};

// ------------------------------------------------------------------------------------------------ public
// functions

Tensor conv2d(const Operand& input, const Operand& kernel, const Window& window) {
  const Tensor x = input.tensor("conv2d"), w = kernel.tensor("conv2d");
  return forward_node(x, w, resolve(window, x.shape(), w.shape()), input.where());
}

Tensor conv2d_kernel_gradient(const Operand& input, const Operand& delta, const Shape& kernel_shape,
                              const Window& window) {
  const char* name = records::conv2d_kernel_gradient_op.name;
  const Tensor x = input.tensor(name), d = delta.tensor(name);
  if (kernel_shape.rank() != 4)
    refuse(name, input.where(),
           format("kernel_shape {} has rank {}, but must be [rows, columns, in, out] of rank 4",
                  to_string(kernel_shape), kernel_shape.rank()));
  Tensor w =
      kernel_gradient_node(x, d, kernel_shape, resolve(window, x.shape(), kernel_shape), input.where());
  if (w.shape() != kernel_shape)
    refuse(name, input.where(),
           format("kernel_shape {} has {} and {} channels, but input {} and delta {} have {} and {}",
                  to_string(kernel_shape), kernel_shape[2], kernel_shape[3], to_string(x.shape()),
                  to_string(d.shape()), x.dim(3), d.dim(3)));
  return w;
}

Tensor conv2d_input_gradient(const Operand& delta, const Operand& kernel, const Shape& input_shape,
                             const Window& window) {
  const char* name = records::conv2d_input_gradient_op.name;
  const Tensor d = delta.tensor(name), w = kernel.tensor(name);
  if (input_shape.rank() != 4)
    refuse(name, delta.where(),
           format("input_shape {} has rank {}, but must be [batch, rows, columns, channels] of rank 4",
                  to_string(input_shape), input_shape.rank()));
  Tensor x = input_gradient_node(d, w, input_shape, resolve(window, input_shape, w.shape()), delta.where());
  if (x.shape() != input_shape)
    refuse(name, delta.where(),
           format("input_shape {} has {} images of {} channels, but delta {} and kernel {} give {} images of "
                  "{} channels",
                  to_string(input_shape), input_shape[0], input_shape[3], to_string(d.shape()),
                  to_string(w.shape()), d.dim(0), w.dim(2)));
  return x;
}

namespace {

Tensor correlate(const char* name, const Operand& image, const Operand& kernel, bool full, bool turn) {
  const Tensor x = image.tensor(name), w = kernel.tensor(name);
  if (x.rank() != 2 || w.rank() != 2)
    refuse(name, image.where(),
           format("image {} and kernel {} must both have rank 2: [rows, columns]; for batches and "
                  "channels use conv2d",
                  type_text(x), type_text(w)));
  const std::int64_t rows = w.dim(0), columns = w.dim(1);
  if (rows == 0 || columns == 0)
    refuse(name, image.where(),
           format("kernel {} has no elements; it needs at least one row and one column", type_text(w)));
  if (!full && (rows > x.dim(0) || columns > x.dim(1)))
    refuse(name, image.where(),
           format("kernel {} is larger than image {}, so that nothing is left; pass full = true, or "
                  "exchange the two",
                  to_string(w.shape()), to_string(x.shape())));
  const CallScope scope(image.where());
  Window window;
  if (full) window.pads = {rows - 1, rows - 1, columns - 1, columns - 1};
  const Tensor taps = reshape(turn ? rot180(w) : w, Shape{rows, columns, 1, 1});
  const Tensor y = conv2d(reshape(x, Shape{1, x.dim(0), x.dim(1), 1}), taps, window);
  return reshape(y, Shape{y.dim(1), y.dim(2)});
}

}  // namespace

Tensor correlate2d(const Operand& image, const Operand& kernel, bool full) {
  return correlate("correlate2d", image, kernel, full, false);
}
Tensor convolve2d(const Operand& image, const Operand& kernel, bool full) {
  return correlate("convolve2d", image, kernel, full, true);
}

Tensor rot180(const Operand& kernel) {
  const Tensor w = kernel.tensor("rot180");
  if (w.rank() < 2 || w.rank() > 4)
    refuse("rot180", kernel.where(),
           format("{} has rank {}, but must be [rows, columns], [batch, rows, columns] or [rows, "
                  "columns, in, out]; use flip",
                  type_text(w), w.rank()));
  const CallScope scope(kernel.where());
  return w.rank() == 3 ? flip(w, {1, 2}) : flip(w, {0, 1});
}

}  // namespace opgrad
