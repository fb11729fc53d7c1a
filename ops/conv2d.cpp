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

#include "../core/parallel.h"
#include "../core/scratch.h"
#include "conv2d_direct_gradient.h"
#include "conv2d_kernels.h"
#include "convolution_claims.h"
#include "convolution_trio.h"

namespace opgrad {

using fmt::format;

namespace {

struct Convolution {
  using Attributes = Conv2DAttributes;
  static constexpr const Op &forward = records::conv2d_op,
                            &kernel_gradient = records::conv2d_kernel_gradient_op,
                            &input_gradient = records::conv2d_input_gradient_op;
  static constexpr ConvolutionWords words{"conv2d", "out"};
  static void check_kernel_made(Location where, const Shape& w, const Shape& made, const Shape& x,
                                const Shape& d) {
    if (w != made)
      refuse(kernel_gradient.name, where,
             format("kernel_shape {} has {} and {} channels, but input {} and delta {} have {} and {}",
                    to_string(w), w[2], w[3], to_string(x), to_string(d), x[3], d[3]));
  }
};
using Trio = ConvolutionTrio<Convolution>;
using enum ConvDirection;

// ------------------------------------------------------------------------------------------------ shapes

Result forward_shape(const Call& call) {
  const auto& a = call.attributes<Conv2DAttributes>();
  const Shape &x = call.shape(0), w = check_convolution(call, a, Convolution::words);
  check_channels(
      call, x, w,
      x[3] == w[1] ? "the kernel looks like [out, in, rows, columns]; permute(w, {2, 3, 1, 0})" : nullptr);
  const auto [rows, columns] = output_sizes(call, a, x[1], x[2], x[3], w[0], w[1]);
  return {call.dtype(0), Shape{x[0], rows, columns, w[3]}};
}

Result kernel_gradient_shape(const Call& call) {
  const auto& a = call.attributes<Conv2DAttributes>();
  check_kernel_gradient(call, a, Convolution::words);
  return kernel_sought(call, a, Convolution::words, call.shape(0)[3], call.shape(1)[3]);
}

Result input_gradient_shape(const Call& call) {
  const auto& a = call.attributes<Conv2DAttributes>();
  const Shape &d = call.shape(0), w = check_input_gradient(call, a, Convolution::words);
  if (d[3] != w[3])
    call.fail(
        format("delta {} has {} channels, but kernel {} gives {}; delta's last axis must equal the kernel's",
               type_text(call, 0), d[3], type_text(call, 1), w[3]));
  return image_sought(call, a, Convolution::words, w[2], w);
}

// ------------------------------------------------------------------------------------------------ kernels

// One convolution: all of it, or that of one example.
template <ConvDirection direction, class K>
ConvSizes sizes_of(const K& k) {  // KernelArgs or Call
  const auto& a = k.template attributes<Conv2DAttributes>();
  const auto f = shapes<direction>(k);
  auto s = window_sizes<ConvSizes>(f, a);
  s.batch = f.x[0] / std::max<std::int64_t>(1, a.examples);
  s.in = f.x[3], s.out = f.d[3];
  return s;
}

// Calls one(x, w, y, finished) for the convolution, or for that of each example. Many examples: one a thread;
// few: each on all threads.
template <ConvDirection direction, class T, class F>
void for_each_convolution(const ConvSizes& s, const KernelArgs& k, F one) {
  const auto f = arrays<direction, T>(k);
  const std::int64_t examples = k.attributes<Conv2DAttributes>().examples;
  if (!examples) return one(f.x, f.w, f.d, k.finished);
  // Op::rows holds for one kernel for all images; groups cut apart would meet the wrong kernels.
  if (const std::int64_t images = k.in[0].shape()[0]; images != s.batch * examples)
    throw InternalError(format(
        "conv2d: a kernel was called with {} images, which are not {} equal groups; a convolution with a "
        "kernel for each example must not be cut by images",
        images, examples));
  const std::int64_t image = s.rows * s.columns * s.in, pixels = s.image_pixels() * s.out;
  const auto example = [&](std::int64_t e) {
    const Arguments<std::int64_t> before{e * s.batch * image, e * s.kernel_size(), e * s.batch * pixels};
    // Pieces are counted in the whole result, which is x in the input gradient.
    const std::int64_t told = direction == input_gradient ? before.x : before.d;
    const auto report = [&](std::int64_t begin, std::int64_t end) {
      (*k.finished)(told + begin, told + end);
    };
    const Finished finished(report);
    one(f.x + before.x, f.w + before.w, f.d + before.d, k.finished ? &finished : nullptr);
  };
  if (examples >= 8) return parallel_for(examples, example);
  for (std::int64_t e = 0; e < examples; ++e) example(e);
}

template <ConvDirection direction>
void convolve(const KernelArgs& k) {
  const ConvSizes s = sizes_of<direction>(k);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    for_each_convolution<direction, T>(s, k, [&](T* x, T* w, T* y, const Finished* finished) {
      T* workspace = static_cast<T*>(k.workspace);
      if constexpr (direction == forward) convolve_forward<T>(s, x, w, y, workspace, finished);
      if constexpr (direction == input_gradient) convolve_input_gradient<T>(s, y, w, x, workspace, finished);
      if constexpr (direction == kernel_gradient) {
        // Several examples at once cannot share the planned workspace.
        Scratch<T> own;
        if (k.attributes<Conv2DAttributes>().examples) {
          own = Scratch<T>(static_cast<std::int64_t>(kernel_gradient_workspace(s, dtype_of<T>) / sizeof(T)));
          workspace = own.data();
        }
        convolve_kernel_gradient<T>(s, x, y, w, workspace);
      }
    });
  });
}

template <ConvDirection direction>
const char* algorithm(const KernelArgs& k) {
  return conv2d_choice(direction, sizes_of<direction>(k), k.out.dtype());
}

// Kernels in the order of use, once for all blocks of images.
template <ConvDirection direction>
std::size_t prepared_kernel_bytes(const Call& call) {
  if (call.attributes<Conv2DAttributes>().examples) return 0;
  return prepared_bytes(direction, sizes_of<direction>(call), call.dtype(0));
}
template <ConvDirection direction>
void prepare_kernels(const KernelArgs& k) {
  dispatch_float(k.out.dtype(), [&]<class T>() {
    prepare_convolution<T>(direction, sizes_of<direction>(k), k.in[1].as<T>(), static_cast<T*>(k.workspace));
  });
}

std::size_t kernel_gradient_bytes(const Call& call) {
  if (call.attributes<Conv2DAttributes>().examples) return 0;
  return kernel_gradient_workspace(sizes_of<kernel_gradient>(call), call.dtype(0));
}

// Op::over_rows of the kernel's gradient.
ConvSizes gradient_sizes(const KernelArgs& k) {
  ConvSizes s = sizes_of<kernel_gradient>(k);
  s.batch = k.all_rows;
  return s;
}
std::int64_t gradient_part(const Call& call) {
  if (call.attributes<Conv2DAttributes>().examples) return 0;
  return kernel_gradient_part_images(sizes_of<kernel_gradient>(call), call.dtype(0));
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

}  // namespace

constinit const Op records::conv2d_op{
    .name = "conv2d",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
    .about =
        "y[b,i,j,o] = sum over m,n,c of x[b, i*s + m*d - top, j*s + n*d - left, c] w[m,n,c,o]: "
        "cross-correlation",
    .shape = forward_shape,
    .forward = convolve<forward>,
    .backward = Trio::backward<forward>,
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
    .workspace = prepared_kernel_bytes<forward>,
    .prepare = prepare_kernels<forward>,
    .rows = Trio::images_apart,
    .per_example = {Trio::by_example<forward>, Trio::lift},
    .algorithm = algorithm<forward>};

constinit const Op records::conv2d_kernel_gradient_op{
    .name = "conv2d_kernel_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear,
    .about = "dw[m,n,c,o] = sum over b,i,j of x[b, i*s + m*d - top, j*s + n*d - left, c] delta[b,i,j,o]",
    .shape = kernel_gradient_shape,
    .forward = convolve<kernel_gradient>,
    .backward = Trio::backward<kernel_gradient>,
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
    .per_example = {.lift = Trio::lift},
    .algorithm = algorithm<kernel_gradient>};

constinit const Op records::conv2d_input_gradient_op{
    .name = "conv2d_input_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
    .about =
        "dx[b,k,l,c] = sum of delta[b,i,j,o] w[m,n,c,o] over o and all i,j,m,n with i*s + m*d - top = k, "
        "j*s + n*d - left = l: the transposed convolution",
    .shape = input_gradient_shape,
    .forward = convolve<input_gradient>,
    .backward = Trio::backward<input_gradient>,
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
    .workspace = prepared_kernel_bytes<input_gradient>,
    .prepare = prepare_kernels<input_gradient>,
    .rows = Trio::images_apart,
    .per_example = {Trio::by_example<input_gradient>, Trio::lift},
    .algorithm = algorithm<input_gradient>};

Tensor conv2d(const Operand& input, const Operand& kernel, const Window& window) {
  return Trio::convolve(input, kernel, window);
}
Tensor conv2d_kernel_gradient(const Operand& input, const Operand& delta, const Shape& kernel_shape,
                              const Window& window) {
  return Trio::kernel_gradient(input, delta, kernel_shape, window);
}
Tensor conv2d_input_gradient(const Operand& delta, const Operand& kernel, const Shape& input_shape,
                             const Window& window) {
  return Trio::input_gradient(delta, kernel, input_shape, window);
}

}  // namespace opgrad
