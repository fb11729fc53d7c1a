// Depthwise convolution, channels last: the trio depthwise_conv2d, its kernel gradient and its input
// gradient. Each channel c meets kernels of its own, w[m, n, c, q] for q < multiplier, whose results lie side
// by side as channels c*multiplier + q.
//
// As in conv2d.cpp one number holds all three,
//
//     F(x, w, d) = sum over b, i, j, m, n, c, q of
//                  x[b, i*s + m*r - p, j*s + n*r - p, c] w[m, n, c, q] d[b, i, j, c*multiplier + q],
//
// which is linear in each argument. The trio are its derivatives by each, Y(x, w) = dF/dd, K(x, d) = dF/dw,
// I(d, w) = dF/dx, and each backward rule is the other two. A kernel for each example closes it for gradients
// by example: group e of the images meets w[e, m, n, c, q].
#include <fmt/format.h>

#include <algorithm>

#include "convolution_claims.h"
#include "convolution_trio.h"
#include "depthwise_kernels.h"

namespace opgrad {

using fmt::format;

namespace {

struct Depthwise {
  using Attributes = DepthwiseAttributes;
  static constexpr const Op &forward = records::depthwise_conv2d_op,
                            &kernel_gradient = records::depthwise_conv2d_kernel_gradient_op,
                            &input_gradient = records::depthwise_conv2d_input_gradient_op;
  static constexpr ConvolutionWords words{"depthwise_conv2d", "multiplier"};
  static void check_kernel_made(Location where, const Shape& w, const Shape& made, const Shape& x,
                                const Shape&) {
    if (w != made)
      refuse(kernel_gradient.name, where,
             format("kernel_shape {} takes {} channels, but input {} has {}", to_string(w), w[2],
                    to_string(x), x[3]));
  }
};
using Trio = ConvolutionTrio<Depthwise>;
using enum ConvDirection;

// ------------------------------------------------------------------------------------------------ shapes

void check_no_multiplier(const Call& call, const DepthwiseAttributes& a) {
  if (a.multiplier != 0)
    call.fail(format("multiplier is {}, but must be 0: the kernel has its own", a.multiplier));
}

Result forward_shape(const Call& call) {
  const auto& a = call.attributes<DepthwiseAttributes>();
  const Shape &x = call.shape(0), w = check_convolution(call, a, Depthwise::words);
  check_no_multiplier(call, a);
  const char* hint = nullptr;
  if (w[2] == 1 && w[3] == x[3])
    hint = "the kernel looks like [rows, columns, multiplier, in]; permute(w, {0, 1, 3, 2})";
  else if (x[3] == w[0])
    hint = "the kernel looks like [in, multiplier, rows, columns]; permute(w, {2, 3, 0, 1})";
  check_channels(call, x, w, hint);
  const auto [rows, columns] = output_sizes(call, a, x[1], x[2], std::max(x[3], x[3] * w[3]), w[0], w[1]);
  return {call.dtype(0), Shape{x[0], rows, columns, w[2] * w[3]}};
}

Result kernel_gradient_shape(const Call& call) {
  const auto& a = call.attributes<DepthwiseAttributes>();
  check_kernel_gradient(call, a, Depthwise::words);
  const Shape &x = call.shape(0), &d = call.shape(1);
  std::int64_t out = 0;
  if (a.multiplier < 0 || __builtin_mul_overflow(x[3], a.multiplier, &out) || out != d[3])
    call.fail(format(
        "delta {} has {} channels, but input {} has {} and the kernel sought {} for each; delta needs their "
        "product",
        type_text(call, 1), d[3], type_text(call, 0), x[3], a.multiplier));
  return kernel_sought(call, a, Depthwise::words, std::max(x[3], d[3]), a.multiplier);
}

Result input_gradient_shape(const Call& call) {
  const auto& a = call.attributes<DepthwiseAttributes>();
  const Shape &d = call.shape(0), w = check_input_gradient(call, a, Depthwise::words);
  check_no_multiplier(call, a);
  std::int64_t out = 0;
  if (__builtin_mul_overflow(w[2], w[3], &out) || d[3] != out)
    call.fail(
        format("delta {} has {} channels, but kernel {} gives {} for each of {}; delta needs their product",
               type_text(call, 0), d[3], type_text(call, 1), w[3], w[2]));
  return image_sought(call, a, Depthwise::words, std::max(w[2], d[3]), w);
}

// ------------------------------------------------------------------------------------------------ kernels

template <ConvDirection direction, class K>
DepthwiseSizes sizes_of(const K& k) {  // KernelArgs or Call
  const auto& a = k.template attributes<DepthwiseAttributes>();
  const auto f = shapes<direction>(k);
  auto s = window_sizes<DepthwiseSizes>(f, a);
  s.batch = f.x[0], s.images = f.x[0] / std::max<std::int64_t>(1, a.examples);
  s.channels = f.x[3], s.multiplier = f.w.dim(-1);
  return s;
}

// Without an element on either side there are no products, and the result is 0.
bool nothing_to_add(const KernelArgs& k) {
  if (k.in[0].numel() > 0 && k.in[1].numel() > 0 && k.out.numel() > 0) return false;
  dispatch_float(k.out.dtype(), [&]<class T>() { std::fill_n(k.out.as<T>(), k.out.numel(), T{}); });
  if (k.finished && k.out.numel() > 0) (*k.finished)(0, k.out.numel());
  return true;
}

template <ConvDirection direction>
void convolve(const KernelArgs& k) {
  if (nothing_to_add(k)) return;
  const DepthwiseSizes s = sizes_of<direction>(k);
  dispatch_float(k.out.dtype(), [&]<class T>() {
    const auto [x, w, y] = arrays<direction, T>(k);
    if constexpr (direction == forward) depthwise_forward<T>(s, x, w, y, k.finished);
    if constexpr (direction == input_gradient) depthwise_input_gradient<T>(s, y, w, x, k.finished);
    if constexpr (direction == kernel_gradient)
      depthwise_kernel_gradient<T>(s, x, y, w, static_cast<T*>(k.workspace));
  });
}

std::size_t kernel_gradient_bytes(const Call& call) {
  if (call.shape(0).numel() == 0 || call.shape(1).numel() == 0) return 0;
  return depthwise_gradient_workspace(sizes_of<kernel_gradient>(call), size_of(call.dtype(0)));
}

}  // namespace

constinit const Op records::depthwise_conv2d_op{
    .name = "depthwise_conv2d",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
    .about =
        "y[b,i,j,c*M+q] = sum over m,n of x[b, i*s + m*d - top, j*s + n*d - left, c] w[m,n,c,q], M being the "
        "size of w's last axis: each channel by itself",
    .shape = forward_shape,
    .forward = convolve<forward>,
    .backward = Trio::backward<forward>,
    .examples =
        [] {
          return Examples{{{sample({2, 5, 4, 3}), sample({3, 2, 3, 1})},
                           [](std::span<const Tensor> in) { return depthwise_conv2d(in[0], in[1]); }},
                          {{sample({2, 6, 7, 2}), sample({3, 3, 2, 2})},
                           [](std::span<const Tensor> in) {
                             return depthwise_conv2d(in[0], in[1], window(2, 1, {}, Padding::same));
                           }},
                          {{sample({1, 7, 6, 17}), sample({2, 3, 17, 1})},
                           [](std::span<const Tensor> in) {
                             return depthwise_conv2d(in[0], in[1], window(1, 2, {0, 2, 1, 3}));
                           }},
                          {{sample({2, 3, 3, 3}), sample({1, 1, 3, 4})},
                           [](std::span<const Tensor> in) { return depthwise_conv2d(in[0], in[1]); }}};
        },
    .identities = depthwise_identities,
    .bad_calls = depthwise_bad_calls,
    .attributes = &attribute_info<DepthwiseAttributes>,
    .rows = Trio::images_apart,
    .per_example = {Trio::by_example<forward>, Trio::lift}};

constinit const Op records::depthwise_conv2d_kernel_gradient_op{
    .name = "depthwise_conv2d_kernel_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear,
    .about = "dw[m,n,c,q] = sum over b,i,j of x[b, i*s + m*d - top, j*s + n*d - left, c] delta[b,i,j,c*M+q]",
    .shape = kernel_gradient_shape,
    .forward = convolve<kernel_gradient>,
    .backward = Trio::backward<kernel_gradient>,
    .examples =
        [] {
          return Examples{{{sample({2, 5, 4, 3}), sample({2, 3, 3, 3})},
                           [](std::span<const Tensor> in) {
                             return depthwise_conv2d_kernel_gradient(in[0], in[1], {3, 2, 3, 1});
                           }},
                          {{sample({1, 8, 7, 2}), sample({1, 4, 4, 6})}, [](std::span<const Tensor> in) {
                             return depthwise_conv2d_kernel_gradient(in[0], in[1], {2, 2, 2, 3},
                                                                     window(2, 2, {1, 0, 1, 2}));
                           }}};
        },
    .bad_calls = depthwise_kernel_gradient_bad_calls,
    .attributes = &attribute_info<DepthwiseAttributes>,
    .workspace = kernel_gradient_bytes,
    .per_example = {.lift = Trio::lift}};

constinit const Op records::depthwise_conv2d_input_gradient_op{
    .name = "depthwise_conv2d_input_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
    .about =
        "dx[b,k,l,c] = sum of delta[b,i,j,c*M+q] w[m,n,c,q] over q and all i,j,m,n with i*s + m*d - top = k, "
        "j*s + n*d - left = l",
    .shape = input_gradient_shape,
    .forward = convolve<input_gradient>,
    .backward = Trio::backward<input_gradient>,
    .examples =
        [] {
          return Examples{{{sample({2, 3, 3, 3}), sample({3, 2, 3, 1})},
                           [](std::span<const Tensor> in) {
                             return depthwise_conv2d_input_gradient(in[0], in[1], {2, 5, 4, 3});
                           }},
                          {{sample({1, 4, 4, 6}), sample({2, 2, 2, 3})}, [](std::span<const Tensor> in) {
                             return depthwise_conv2d_input_gradient(in[0], in[1], {1, 8, 7, 2},
                                                                    window(2, 2, {1, 0, 1, 2}));
                           }}};
        },
    .bad_calls = depthwise_input_gradient_bad_calls,
    .attributes = &attribute_info<DepthwiseAttributes>,
    .rows = Trio::images_apart,
    .per_example = {Trio::by_example<input_gradient>, Trio::lift}};

Tensor depthwise_conv2d(const Operand& input, const Operand& kernel, const Window& window) {
  return Trio::convolve(input, kernel, window);
}
Tensor depthwise_conv2d_kernel_gradient(const Operand& input, const Operand& delta, const Shape& kernel_shape,
                                        const Window& window) {
  return Trio::kernel_gradient(input, delta, kernel_shape, window);
}
Tensor depthwise_conv2d_input_gradient(const Operand& delta, const Operand& kernel, const Shape& input_shape,
                                       const Window& window) {
  return Trio::input_gradient(delta, kernel, input_shape, window);
}

}  // namespace opgrad
