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

#include "conv2d_checks.h"
#include "define.h"
#include "depthwise_identities.h"
#include "depthwise_kernels.h"
#include "depthwise_window.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

// ------------------------------------------------------------------------------------------------ kernels

DepthwiseSizes sizes_of(const Shape& x, const Shape& kernels, const Shape& y, const DepthwiseAttributes& a) {
  const Shape w = one_kernel(kernels, a);
  // A step that is never taken may be of any size; here it is 1.
  const auto taken = [](std::int64_t step, std::int64_t count) { return count > 1 ? step : 1; };
  return {.batch = x[0],
          .rows = x[1],
          .columns = x[2],
          .channels = x[3],
          .kernel_rows = w[0],
          .kernel_columns = w[1],
          .multiplier = w[3],
          .out_rows = y[1],
          .out_columns = y[2],
          .strides = {taken(a.strides[0], y[1]), taken(a.strides[1], y[2])},
          .dilations = {taken(a.dilations[0], w[0]), taken(a.dilations[1], w[1])},
          .top = a.pads[0],
          .left = a.pads[2],
          .images = x[0] / std::max<std::int64_t>(1, a.examples)};
}

// Without an element on either side there are no products, and the result is 0.
bool nothing_to_add(const KernelArgs& k) {
  if (k.in[0].numel() > 0 && k.in[1].numel() > 0 && k.out.numel() > 0) return false;
  dispatch_float(k.out.dtype(), [&]<class T>() { std::fill_n(k.out.as<T>(), k.out.numel(), T{}); });
  if (k.finished && k.out.numel() > 0) (*k.finished)(0, k.out.numel());
  return true;
}

void depthwise_kernel(const KernelArgs& k) {
  if (nothing_to_add(k)) return;
  const auto sizes =
      sizes_of(k.in[0].shape(), k.in[1].shape(), k.out.shape(), k.attributes<DepthwiseAttributes>());
  dispatch_float(k.out.dtype(), [&]<class T>() {
    depthwise_forward<T>(sizes, k.in[0].as<T>(), k.in[1].as<T>(), k.out.as<T>(), k.finished);
  });
}

void kernel_gradient_kernel(const KernelArgs& k) {
  if (nothing_to_add(k)) return;
  const auto sizes =
      sizes_of(k.in[0].shape(), k.out.shape(), k.in[1].shape(), k.attributes<DepthwiseAttributes>());
  dispatch_float(k.out.dtype(), [&]<class T>() {
    depthwise_kernel_gradient<T>(sizes, k.in[0].as<T>(), k.in[1].as<T>(), k.out.as<T>(),
                                 static_cast<T*>(k.workspace));
  });
}

void input_gradient_kernel(const KernelArgs& k) {
  if (nothing_to_add(k)) return;
  const auto sizes =
      sizes_of(k.out.shape(), k.in[1].shape(), k.in[0].shape(), k.attributes<DepthwiseAttributes>());
  dispatch_float(k.out.dtype(), [&]<class T>() {
    depthwise_input_gradient<T>(sizes, k.in[0].as<T>(), k.in[1].as<T>(), k.out.as<T>(), k.finished);
  });
}

std::size_t kernel_gradient_bytes(const Call& call) {
  const auto& a = call.attributes<DepthwiseAttributes>();
  const Shape &x = call.shape(0), &d = call.shape(1);
  if (x.numel() == 0 || d.numel() == 0) return 0;
  const Shape w{a.sought[0], a.sought[1], x[3], a.multiplier};
  return depthwise_gradient_workspace(sizes_of(x, a.examples ? in_front(a.examples, w) : w, d, a),
                                      size_of(call.dtype(0)));
}

// With one kernel for all, an image meets no other.
std::uint64_t images_apart(const void* attributes, const Shape&) {
  return static_cast<const DepthwiseAttributes*>(attributes)->examples ? 0 : 1;
}

// ------------------------------------------------------------------------------------------------ nodes

DepthwiseAttributes attributes_for(const Window& window, const Shape& x, const Shape& w) {
  return {resolve(window, x, w), 0};
}

Tensor forward_node(const Tensor& x, const Tensor& w, DepthwiseAttributes a, Location where = {}) {
  a.sought = {};
  a.multiplier = 0;
  return make(records::depthwise_conv2d_op, {x.node(), w.node()}, where, a);
}
Tensor kernel_gradient_node(const Tensor& x, const Tensor& delta, const Shape& w, DepthwiseAttributes a,
                            Location where = {}) {
  const Shape one = one_kernel(w, a);
  a.sought = {one[0], one[1]};
  a.multiplier = one[3];
  return make(records::depthwise_conv2d_kernel_gradient_op, {x.node(), delta.node()}, where, a);
}
Tensor input_gradient_node(const Tensor& delta, const Tensor& w, const Shape& x, DepthwiseAttributes a,
                           Location where = {}) {
  a.sought = {x[1], x[2]};
  a.multiplier = 0;
  return make(records::depthwise_conv2d_input_gradient_op, {delta.node(), w.node()}, where, a);
}

// ------------------------------------------------------------------------------------------------ by example

// The operation with a kernel for each example, where it has one kernel for all.
DepthwiseAttributes apart(const Tensor& y, std::int64_t examples) {
  DepthwiseAttributes a = y.attributes<DepthwiseAttributes>();
  a.examples = examples;
  return a;
}

// All images in one batch, which the kernels of all entries cut into their groups.
Tensor lift(const Tensor& y, std::span<const Tensor> inputs) {
  const std::int64_t n = inputs[0].dim(0);
  const auto own = std::max<std::int64_t>(1, y.attributes<DepthwiseAttributes>().examples);
  const auto folded = [&](const Tensor& x, bool kernels) {
    std::vector<std::int64_t> dims(x.shape().begin() + 1, x.shape().end());
    if (kernels && dims.size() == 4) dims.insert(dims.begin(), 1);
    dims[0] *= n;
    return reshape(x, Shape(dims));
  };
  const bool kernel_last = y.node()->op != &records::depthwise_conv2d_kernel_gradient_op;
  const Tensor a = folded(inputs[0], false), b = folded(inputs[1], kernel_last);
  const Tensor all = make(*y.node()->op, {a.node(), b.node()}, {}, apart(y, n * own));
  return reshape(all, in_front(n, y.shape()));
}

}  // namespace

constinit const Op records::depthwise_conv2d_op{
    .name = "depthwise_conv2d",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
    .about =
        "y[b,i,j,c*M+q] = sum over m,n of x[b, i*s + m*d - top, j*s + n*d - left, c] w[m,n,c,q], M being the "
        "size of w's last axis: each channel by itself",
    .shape = depthwise_shape,
    .forward = depthwise_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor x = y.input(0), w = y.input(1);
          const auto& a = y.attributes<DepthwiseAttributes>();
          return Grads{wanted(0) ? input_gradient_node(dy, w, x.shape(), a) : Tensor(),
                       wanted(1) ? kernel_gradient_node(x, dy, w.shape(), a) : Tensor()};
        },
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
    .rows = images_apart,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const Tensor x = y.input(0), w = y.input(1);
                      const auto& a = y.attributes<DepthwiseAttributes>();
                      if (a.examples) return Grads{};
                      return Grads{wanted(0) ? input_gradient_node(dy, w, x.shape(), a) : Tensor(),
                                   wanted(1) ? kernel_gradient_node(x, dy, in_front(examples, w.shape()),
                                                                    apart(y, examples))
                                             : Tensor()};
                    },
                    lift}};

constinit const Op records::depthwise_conv2d_kernel_gradient_op{
    .name = "depthwise_conv2d_kernel_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear,
    .about = "dw[m,n,c,q] = sum over b,i,j of x[b, i*s + m*d - top, j*s + n*d - left, c] delta[b,i,j,c*M+q]",
    .shape = depthwise_kernel_gradient_shape,
    .forward = kernel_gradient_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor x = y.input(0), delta = y.input(1);
          const auto& a = y.attributes<DepthwiseAttributes>();
          return Grads{wanted(0) ? input_gradient_node(delta, dy, x.shape(), a) : Tensor(),
                       wanted(1) ? forward_node(x, dy, a) : Tensor()};
        },
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
    .per_example = {.lift = lift}};

constinit const Op records::depthwise_conv2d_input_gradient_op{
    .name = "depthwise_conv2d_input_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::multilinear | Traits::pieces,
    .about =
        "dx[b,k,l,c] = sum of delta[b,i,j,c*M+q] w[m,n,c,q] over q and all i,j,m,n with i*s + m*d - top = k, "
        "j*s + n*d - left = l",
    .shape = depthwise_input_gradient_shape,
    .forward = input_gradient_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor delta = y.input(0), w = y.input(1);
          const auto& a = y.attributes<DepthwiseAttributes>();
          return Grads{wanted(0) ? forward_node(dy, w, a) : Tensor(),
                       wanted(1) ? kernel_gradient_node(dy, delta, w.shape(), a) : Tensor()};
        },
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
    .rows = images_apart,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const Tensor delta = y.input(0), w = y.input(1);
                      const auto& a = y.attributes<DepthwiseAttributes>();
                      if (a.examples) return Grads{};
                      return Grads{wanted(0) ? forward_node(dy, w, a) : Tensor(),
                                   wanted(1) ? kernel_gradient_node(dy, delta, in_front(examples, w.shape()),
                                                                    apart(y, examples))
                                             : Tensor()};
                    },
                    lift}};

// ------------------------------------------------------------------------------------------------ public
// functions

Tensor depthwise_conv2d(const Operand& input, const Operand& kernel, const Window& window) {
  const char* name = records::depthwise_conv2d_op.name;
  const Tensor x = input.tensor(name), w = kernel.tensor(name);
  return forward_node(x, w, attributes_for(window, x.shape(), w.shape()), input.where());
}

Tensor depthwise_conv2d_kernel_gradient(const Operand& input, const Operand& delta, const Shape& kernel_shape,
                                        const Window& window) {
  const char* name = records::depthwise_conv2d_kernel_gradient_op.name;
  const Tensor x = input.tensor(name), d = delta.tensor(name);
  if (kernel_shape.rank() != 4)
    refuse(name, input.where(),
           format("kernel_shape {} has rank {}, but must be [rows, columns, in, multiplier] of rank 4",
                  to_string(kernel_shape), kernel_shape.rank()));
  Tensor w = kernel_gradient_node(x, d, kernel_shape, attributes_for(window, x.shape(), kernel_shape),
                                  input.where());
  if (w.shape() != kernel_shape)
    refuse(name, input.where(),
           format("kernel_shape {} takes {} channels, but input {} has {}", to_string(kernel_shape),
                  kernel_shape[2], to_string(x.shape()), x.dim(3)));
  return w;
}

Tensor depthwise_conv2d_input_gradient(const Operand& delta, const Operand& kernel, const Shape& input_shape,
                                       const Window& window) {
  const char* name = records::depthwise_conv2d_input_gradient_op.name;
  const Tensor d = delta.tensor(name), w = kernel.tensor(name);
  if (input_shape.rank() != 4)
    refuse(name, delta.where(),
           format("input_shape {} has rank {}, but must be [batch, rows, columns, channels] of rank 4",
                  to_string(input_shape), input_shape.rank()));
  Tensor x =
      input_gradient_node(d, w, input_shape, attributes_for(window, input_shape, w.shape()), delta.where());
  if (x.shape() != input_shape)
    refuse(name, delta.where(),
           format("input_shape {} has {} images of {} channels, but delta {} and kernel {} give {} images of "
                  "{} channels",
                  to_string(input_shape), input_shape[0], input_shape[3], to_string(d.shape()),
                  to_string(w.shape()), d.dim(0), w.dim(2)));
  return x;
}

}  // namespace opgrad
