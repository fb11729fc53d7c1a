// Jacobians, Hessians and their products with vectors, beside grad and vjp. All build graphs, as grad does.
#pragma once
#include <concepts>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "../graph/grad.h"

namespace opgrad {

// A function of one tensor, for the forms that take y as a function: it is given x as a variable.
template <class F>
concept TensorFunction = std::invocable<const F&, const Tensor&>;

// dy/dx of shape y.shape + x.shape, for each x: entry [i..., j...] is dy[i...] / dx[j...]. One backward graph
// for each element of y; where y is one number, grad's result. Zero-sized where y or x is. UserError where y
// is no float, where y.rank + x.rank exceeds 8, and as grad gives it: y has to depend on every x.
std::vector<Tensor> jacobian(const Operand& y, std::span<const Tensor> xs);

// sum over xs of dy/dx tangent, of y's type: the derivative of y along the tangents, which have the types of
// the xs. Forward mode by differentiating the backward graph twice: vjp is linear in its cotangent, and its
// adjoint is jvp; the cost is some three times that of y, whatever the number of elements. UserError where
// counts or types differ, and as grad gives it. Source: J. Townsend, "A new trick for calculating Jacobian
// vector products", 2017.
Tensor jvp(const Operand& y, std::span<const Tensor> xs, std::span<const Tensor> tangents);

// d2y/dx_i dx_j of shape x_i.shape + x_j.shape as [i][j], for y of one element; zeros where the gradient by
// x_i does not depend on x_j (y is linear in it). Piecewise constant parts of the gradient count as constant:
// relu'' = 0. UserError as grad and jacobian give it.
std::vector<std::vector<Tensor>> hessian(const Operand& y, std::span<const Tensor> xs);

// sum over j of (d2y/dx_i dx_j) v_j for each i, of x_i's type, without the Hessian: the gradient of
// sum(grad(y, xs) * vs). Zeros as hessian has them. UserError as jvp and grad give it.
std::vector<Tensor> hvp(const Operand& y, std::span<const Tensor> xs, std::span<const Tensor> vs);

// -- several xs as {x1, x2}

namespace detail {
using Tensors = std::initializer_list<Tensor>;
inline std::span<const Tensor> span_of(const Tensors& list) { return {list.begin(), list.size()}; }
}  // namespace detail

inline std::vector<Tensor> jacobian(const Operand& y, detail::Tensors xs) {
  return jacobian(y, detail::span_of(xs));
}
inline Tensor jvp(const Operand& y, detail::Tensors xs, detail::Tensors tangents) {
  return jvp(y, detail::span_of(xs), detail::span_of(tangents));
}
inline std::vector<std::vector<Tensor>> hessian(const Operand& y, detail::Tensors xs) {
  return hessian(y, detail::span_of(xs));
}
inline std::vector<Tensor> hvp(const Operand& y, detail::Tensors xs, detail::Tensors vs) {
  return hvp(y, detail::span_of(xs), detail::span_of(vs));
}

// -- one x

inline Tensor jacobian(const Operand& y, const Tensor& x) { return jacobian(y, {x})[0]; }
inline Tensor jvp(const Operand& y, const Tensor& x, const Tensor& tangent) { return jvp(y, {x}, {tangent}); }
inline Tensor hessian(const Operand& y, const Tensor& x) { return hessian(y, {x})[0][0]; }
inline Tensor hvp(const Operand& y, const Tensor& x, const Tensor& v) { return hvp(y, {x}, {v})[0]; }

// -- y = f(x), for a function f from a tensor to a tensor. jvp gives y as well.

template <TensorFunction F>
Tensor jacobian(const F& f, const Tensor& x, const char* file = __builtin_FILE(),
                int line = __builtin_LINE()) {
  const Tensor v = variable(x);
  return jacobian(Operand(f(v), file, line), v);
}
template <TensorFunction F>
std::pair<Tensor, Tensor> jvp(const F& f, const Tensor& x, const Tensor& tangent,
                              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const Tensor v = variable(x);
  Tensor y = f(v);
  Tensor along = jvp(Operand(y, file, line), v, tangent);
  return {std::move(y), std::move(along)};
}
template <TensorFunction F>
Tensor hessian(const F& f, const Tensor& x, const char* file = __builtin_FILE(),
               int line = __builtin_LINE()) {
  const Tensor v = variable(x);
  return hessian(Operand(f(v), file, line), v);
}
template <TensorFunction F>
Tensor hvp(const F& f, const Tensor& x, const Tensor& v, const char* file = __builtin_FILE(),
           int line = __builtin_LINE()) {
  const Tensor at = variable(x);
  return hvp(Operand(f(at), file, line), at, v);
}

}  // namespace opgrad
