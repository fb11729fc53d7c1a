// The trio of a form F(x, w, d) that is linear in each argument: its nodes, backward rules, gradients by
// example and public functions, once for every convolution. conv2d.cpp says what the three are.
#pragma once
#include <algorithm>
#include <span>
#include <vector>

#include "conv2d_kernels.h"
#include "convolution_checks.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

// The arguments of F. An operation of the trio takes two of them, and its result, or a cotangent of that,
// stands for the third.
template <class T>
struct Arguments {
  T x, w, d;
};
template <ConvDirection direction, class T>
Arguments<T> arguments(const T& first, const T& second, const T& result) {
  if constexpr (direction == ConvDirection::forward)
    return {first, second, result};
  else if constexpr (direction == ConvDirection::kernel_gradient)
    return {first, result, second};
  else
    return {result, second, first};
}
template <ConvDirection direction>
Arguments<const Shape&> shapes(const KernelArgs& k) {
  return arguments<direction, const Shape&>(k.in[0].shape(), k.in[1].shape(), k.out.shape());
}
template <ConvDirection direction>
Arguments<const Shape&> shapes(const Call& call) {
  return arguments<direction, const Shape&>(call.shape(0), call.shape(1),
                                            shape_of(call.op.shape(call).shape));
}
template <ConvDirection direction, class T>
Arguments<T*> arrays(const KernelArgs& k) {
  return arguments<direction>(k.in[0].as<T>(), k.in[1].as<T>(), k.out.as<T>());
}

// Numbers of a convolution for its kernels: all but batch and channels, under the names that they have there.
template <class Sizes>
Sizes window_sizes(const Arguments<const Shape&>& f, const Conv2DAttributes& a) {
  // A step that is never taken may be of any size; here it is 1.
  const auto taken = [](std::int64_t step, std::int64_t count) { return count > 1 ? step : 1; };
  const Shape w = one_kernel(f.w, a);
  Sizes s{};
  s.rows = f.x[1], s.columns = f.x[2];
  s.kernel_rows = w[0], s.kernel_columns = w[1];
  s.out_rows = f.d[1], s.out_columns = f.d[2];
  s.strides = {taken(a.strides[0], f.d[1]), taken(a.strides[1], f.d[2])};
  s.dilations = {taken(a.dilations[0], w[0]), taken(a.dilations[1], w[1])};
  s.top = a.pads[0], s.left = a.pads[2];
  return s;
}

// C says which convolution: `Attributes`, a Conv2DAttributes with what else derivatives have to seek; the
// records `forward`, `kernel_gradient` and `input_gradient`; `words` for messages; and
// `check_kernel_made(where, w, made, x, d)`, which refuses a kernel_shape w when another one was made of x
// and d.
template <class C>
struct ConvolutionTrio {
  using Attributes = typename C::Attributes;

  // The three nodes, for any attributes of the trio.
  static Tensor forward_node(const Tensor& x, const Tensor& w, const Conv2DAttributes& a,
                             Location where = {}) {
    return make(C::forward, {x.node(), w.node()}, where, seeking(a, 0, 0));
  }
  static Tensor kernel_gradient_node(const Tensor& x, const Tensor& d, const Shape& w,
                                     const Conv2DAttributes& a, Location where = {}) {
    Attributes sought{a};
    sought.seek_kernel(one_kernel(w, a));
    return make(C::kernel_gradient, {x.node(), d.node()}, where, sought);
  }
  static Tensor input_gradient_node(const Tensor& d, const Tensor& w, const Shape& x,
                                    const Conv2DAttributes& a, Location where = {}) {
    return make(C::input_gradient, {d.node(), w.node()}, where, seeking(a, x[1], x[2]));
  }

  // For Op::backward: F is linear in each argument, so its derivative by one is an operation on the others.
  template <ConvDirection direction>
  static Grads backward(const Tensor& y, const Tensor& dy, Wanted wanted) {
    return gradients<direction>(y, dy, wanted, 0);
  }
  // For PerExample, where the images are the rows: a kernel for each example closes the trio.
  template <ConvDirection direction>
  static Grads by_example(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
    if (y.attributes<Attributes>().examples) return {};
    return gradients<direction>(y, dy, wanted, examples);
  }
  // All images in one batch, which the kernels of all entries cut into their groups.
  static Tensor lift(const Tensor& y, std::span<const Tensor> inputs) {
    const std::int64_t n = inputs[0].dim(0);
    const auto& own = y.attributes<Attributes>();
    const auto folded = [&](const Tensor& x, bool kernels) {
      std::vector<std::int64_t> dims(x.shape().begin() + 1, x.shape().end());
      if (kernels && dims.size() == 4) dims.insert(dims.begin(), 1);
      dims[0] *= n;
      return reshape(x, Shape(dims));
    };
    const bool kernel_last = y.node()->op != &C::kernel_gradient;
    const Tensor a = folded(inputs[0], false), b = folded(inputs[1], kernel_last);
    const Tensor all = make(*y.node()->op, {a.node(), b.node()}, {},
                            apart(own, n * std::max<std::int64_t>(1, own.examples)));
    return reshape(all, in_front(n, y.shape()));
  }
  // For Op::rows: with one kernel for all, an image meets no other.
  static std::uint64_t images_apart(const void* attributes, const Shape&) {
    return static_cast<const Attributes*>(attributes)->examples ? 0 : 1;
  }

  // The public functions.
  static Tensor convolve(const Operand& input, const Operand& kernel, const Window& window) {
    const char* name = C::forward.name;
    const Tensor x = input.tensor(name), w = kernel.tensor(name);
    return forward_node(x, w, resolve(window, x.shape(), w.shape()), input.where());
  }
  static Tensor kernel_gradient(const Operand& input, const Operand& delta, const Shape& kernel_shape,
                                const Window& window) {
    const char* name = C::kernel_gradient.name;
    const Tensor x = input.tensor(name), d = delta.tensor(name);
    check_kernel_shape(name, input.where(), kernel_shape, C::words);
    const Tensor w =
        kernel_gradient_node(x, d, kernel_shape, resolve(window, x.shape(), kernel_shape), input.where());
    C::check_kernel_made(input.where(), kernel_shape, w.shape(), x.shape(), d.shape());
    return w;
  }
  static Tensor input_gradient(const Operand& delta, const Operand& kernel, const Shape& input_shape,
                               const Window& window) {
    const char* name = C::input_gradient.name;
    const Tensor d = delta.tensor(name), w = kernel.tensor(name);
    check_input_shape(name, delta.where(), input_shape);
    const Tensor x =
        input_gradient_node(d, w, input_shape, resolve(window, input_shape, w.shape()), delta.where());
    check_image_made(name, delta.where(), input_shape, x, d, w);
    return x;
  }

 private:
  static Attributes seeking(const Conv2DAttributes& a, std::int64_t rows, std::int64_t columns) {
    Attributes sought{a};
    sought.sought = {rows, columns};
    return sought;
  }
  // The operation with a kernel for each example.
  static Attributes apart(Attributes a, std::int64_t examples) {
    a.examples = examples;
    return a;
  }

  // `examples`: the kernel's gradient for each of so many groups of images; 0: for all images together.
  template <ConvDirection direction>
  static Grads gradients(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
    const auto f = arguments<direction>(y.input(0), y.input(1), dy);
    const auto& a = y.attributes<Attributes>();
    const auto by_x = [&] { return input_gradient_node(f.d, f.w, f.x.shape(), a); };
    const auto by_w = [&] {
      return examples ? kernel_gradient_node(f.x, f.d, in_front(examples, f.w.shape()), apart(a, examples))
                      : kernel_gradient_node(f.x, f.d, f.w.shape(), a);
    };
    const auto by_d = [&] { return forward_node(f.x, f.w, a); };
    const auto first = [&] { return direction == ConvDirection::input_gradient ? by_d() : by_x(); };
    const auto second = [&] { return direction == ConvDirection::kernel_gradient ? by_d() : by_w(); };
    return {wanted(0) ? first() : Tensor(), wanted(1) ? second() : Tensor()};
  }
};

}  // namespace opgrad
