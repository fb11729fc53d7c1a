// Convolution, channels last: the trio conv2d, its kernel gradient and its input gradient.
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
#include "conv2d_direct_gradient.h"
#include "conv2d_identities.h"
#include "conv2d_kernels.h"
#include "conv2d_window.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

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

// Calls one(x, w, y, finished) for the convolution, or for that of each example. Many examples: one a thread;
// few: each on all threads.
template <class T, class F>
void for_each_convolution(const ConvSizes& s, const Conv2DAttributes& a, T* x, T* w, T* y,
                          const KernelArgs& k, F one) {
  if (!a.examples) return one(x, w, y, k.finished);
  // Op::rows holds for one kernel for all images; groups cut apart would meet the wrong kernels.
  if (const std::int64_t images = k.in[0].shape()[0]; images != s.batch * a.examples)
    throw InternalError(format(
        "conv2d: a kernel was called with {} images, which are not {} equal groups; a convolution with a "
        "kernel for each example must not be cut by images",
        images, a.examples));
  const std::int64_t image = s.rows * s.columns * s.in, pixels = s.image_pixels() * s.out;
  const auto example = [&](std::int64_t e) {
    // Pieces are counted in the whole result, which is x in the input gradient.
    const std::int64_t before = k.out.as<T>() == x ? e * s.batch * image : e * s.batch * pixels;
    const auto report = [&](std::int64_t begin, std::int64_t end) {
      (*k.finished)(before + begin, before + end);
    };
    const Finished finished(report);
    one(x + e * s.batch * image, w + e * s.kernel_size(), y + e * s.batch * pixels,
        k.finished ? &finished : nullptr);
  };
  if (a.examples >= 8) return parallel_for(a.examples, example);
  for (std::int64_t e = 0; e < a.examples; ++e) example(e);
}

void conv2d_kernel(const KernelArgs& k) {
  const auto& a = k.attributes<Conv2DAttributes>();
  const auto sizes = sizes_of(k.in[0].shape(), k.in[1].shape(), k.out.shape(), a);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    for_each_convolution(sizes, a, k.in[0].as<T>(), k.in[1].as<T>(), k.out.as<T>(), k,
                         [&](T* x, T* w, T* y, const Finished* f) {
                           convolve_forward<T>(sizes, x, w, y, static_cast<const T*>(k.workspace), f);
                         });
  });
}

void kernel_gradient_kernel(const KernelArgs& k) {
  const auto& a = k.attributes<Conv2DAttributes>();
  const auto sizes = sizes_of(k.in[0].shape(), k.out.shape(), k.in[1].shape(), a);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    for_each_convolution(sizes, a, k.in[0].as<T>(), k.out.as<T>(), k.in[1].as<T>(), k,
                         [&](T* x, T* w, T* delta, const Finished*) {
                           // Several examples at once cannot share the planned workspace.
                           BufferRef own;
                           if (a.examples) own = allocate(kernel_gradient_workspace(sizes, dtype_of<T>));
                           convolve_kernel_gradient<T>(
                               sizes, x, delta, w,
                               own ? reinterpret_cast<T*>(own->data) : static_cast<T*>(k.workspace));
                         });
  });
}

void input_gradient_kernel(const KernelArgs& k) {
  const auto& a = k.attributes<Conv2DAttributes>();
  const auto sizes = sizes_of(k.out.shape(), k.in[1].shape(), k.in[0].shape(), a);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    for_each_convolution(sizes, a, k.out.as<T>(), k.in[1].as<T>(), k.in[0].as<T>(), k,
                         [&](T* x, T* w, T* delta, const Finished* f) {
                           convolve_input_gradient<T>(sizes, delta, w, x, static_cast<const T*>(k.workspace),
                                                      f);
                         });
  });
}

std::size_t kernel_gradient_bytes(const Call& call) {
  const auto& a = call.attributes<Conv2DAttributes>();
  if (a.examples) return 0;
  const Shape &x = call.shape(0), &d = call.shape(1);
  const Shape w{a.sought[0], a.sought[1], x[3], d[3]};
  return kernel_gradient_workspace(sizes_of(x, w, d, a), call.dtype(0));
}

// Op::over_rows of the kernel's gradient.
ConvSizes gradient_sizes(const KernelArgs& k) {
  ConvSizes s = sizes_of(k.in[0].shape(), k.out.shape(), k.in[1].shape(), k.attributes<Conv2DAttributes>());
  s.batch = k.all_rows;
  return s;
}
std::int64_t gradient_part(const Call& call) {
  const auto& a = call.attributes<Conv2DAttributes>();
  if (a.examples) return 0;
  return kernel_gradient_part_images(
      sizes_of(call.shape(0), shape_of(call.op.shape(call).shape), call.shape(1), a), call.dtype(0));
}
void gradient_parts(const KernelArgs& k) {
  dispatch_float(k.out.dtype(), [&]<class T>() {
    direct_gradient_parts<T>(gradient_sizes(k), k.first_row, k.in[0].shape()[0], k.in[0].as<T>(),
                             k.in[1].as<T>(), static_cast<T*>(k.workspace));
  });
}
void gradient_of_parts(const KernelArgs& k) {
  dispatch_float(k.out.dtype(), [&]<class T>() {
    direct_gradient_of_parts<T>(gradient_sizes(k), static_cast<const T*>(k.workspace), k.out.as<T>());
  });
}

// Kernels in the order of use, once for all blocks of images.
template <ConvDirection direction>
ConvSizes sizes_between(const Shape& first, const Shape& w, const Shape& result, const Conv2DAttributes& a) {
  return direction == ConvDirection::forward ? sizes_of(first, w, result, a) : sizes_of(result, w, first, a);
}
template <ConvDirection direction>
std::size_t prepared_kernel_bytes(const Call& call) {
  const auto& a = call.attributes<Conv2DAttributes>();
  if (a.examples) return 0;
  const Shape& result = shape_of(call.op.shape(call).shape);
  return prepared_bytes(direction, sizes_between<direction>(call.shape(0), call.shape(1), result, a),
                        call.dtype(0));
}
template <ConvDirection direction>
void prepare_kernels(const KernelArgs& k) {
  const auto& a = k.attributes<Conv2DAttributes>();
  const auto sizes = sizes_between<direction>(k.in[0].shape(), k.in[1].shape(), k.out.shape(), a);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    prepare_convolution<T>(direction, sizes, k.in[1].as<T>(), static_cast<T*>(k.workspace));
  });
}

// Which operands are x, w and y, counted from 0 with the result last, differs.
template <ConvDirection direction, int x, int w, int y>
const char* algorithm(const KernelArgs& k) {
  const auto shape = [&](int i) {
    return i == 2 ? k.out.shape() : k.in[static_cast<std::size_t>(i)].shape();
  };
  return conv2d_choice(direction, sizes_of(shape(x), shape(w), shape(y), k.attributes<Conv2DAttributes>()),
                       k.out.dtype());
}

// With one kernel for all, an image meets no other.
std::uint64_t images_apart(const void* attributes, const Shape&) {
  return static_cast<const Conv2DAttributes*>(attributes)->examples ? 0 : 1;
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

}  // namespace

constinit const Op records::conv2d_op{
    .name = "conv2d",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
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
    .bad_calls = conv2d_bad_calls,
    .attributes = &attribute_info<Conv2DAttributes>,
    .workspace = prepared_kernel_bytes<ConvDirection::forward>,
    .prepare = prepare_kernels<ConvDirection::forward>,
    .rows = images_apart,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const Tensor x = y.input(0), w = y.input(1);
                      const auto& a = y.attributes<Conv2DAttributes>();
                      if (a.examples) return Grads{};
                      return Grads{wanted(0) ? input_gradient_node(dy, w, x.shape(), a) : Tensor(),
                                   wanted(1) ? kernel_gradient_node(x, dy, in_front(examples, w.shape()),
                                                                    apart(y, examples))
                                             : Tensor()};
                    },
                    lift},
    .algorithm = algorithm<ConvDirection::forward, 0, 1, 2>};

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
    .bad_calls = conv2d_kernel_gradient_bad_calls,
    .attributes = &attribute_info<Conv2DAttributes>,
    .workspace = kernel_gradient_bytes,
    .over_rows = {gradient_part, kernel_gradient_bytes, gradient_parts, gradient_of_parts},
    .per_example = {.lift = lift},
    .algorithm = algorithm<ConvDirection::kernel_gradient, 0, 2, 1>};

constinit const Op records::conv2d_input_gradient_op{
    .name = "conv2d_input_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
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
    .bad_calls = conv2d_input_gradient_bad_calls,
    .attributes = &attribute_info<Conv2DAttributes>,
    .workspace = prepared_kernel_bytes<ConvDirection::input_gradient>,
    .prepare = prepare_kernels<ConvDirection::input_gradient>,
    .rows = images_apart,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const Tensor delta = y.input(0), w = y.input(1);
                      const auto& a = y.attributes<Conv2DAttributes>();
                      if (a.examples) return Grads{};
                      return Grads{wanted(0) ? forward_node(dy, w, a) : Tensor(),
                                   wanted(1) ? kernel_gradient_node(dy, delta, in_front(examples, w.shape()),
                                                                    apart(y, examples))
                                             : Tensor()};
                    },
                    lift},
    .algorithm = algorithm<ConvDirection::input_gradient, 2, 1, 0>};

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

}  // namespace opgrad
