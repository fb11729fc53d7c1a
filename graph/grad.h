// Reverse mode: adds the nodes of the gradient to the graph.
#pragma once
#include <span>
#include <utility>
#include <vector>

#include "parameter.h"

namespace opgrad {

// dy/dx for each x, as new (pending) tensors of x's type, for y of one element and float type. Gradients of
// gradients work: what is returned is an ordinary graph. UserError when y is not one float, when y does not
// depend on some x (it says whether the path was cut by an operation without gradient, and which), when the
// graph behind y was consumed by a step, and when x is the leaf of a parameter since replaced.
std::vector<Tensor> grad(const Operand& y, std::span<const Tensor> xs);
inline std::vector<Tensor> grad(const Operand& y, std::initializer_list<Tensor> xs) {
  return grad(y, std::span<const Tensor>(xs.begin(), xs.size()));
}
inline Tensor grad(const Operand& y, const Tensor& x) { return grad(y, {x})[0]; }

// The same with a cotangent dy of y's type in place of 1: the vector-Jacobian product. y may have any shape.
std::vector<Tensor> vjp(const Operand& y, const Tensor& dy, std::span<const Tensor> xs);
// The same, with an empty Tensor in place of the error for an x that y does not depend on.
std::vector<Tensor> vjp_where_connected(const Operand& y, const Tensor& dy, std::span<const Tensor> xs);

// y = f(x) and dy/dx, both pending. f maps a tensor to a tensor of one element.
template <class F>
std::pair<Tensor, Tensor> value_and_grad(F&& f, const Tensor& x) {
  const Tensor v = variable(x);
  Tensor y = f(v);
  Tensor g = grad(y, v);
  return {std::move(y), std::move(g)};
}

// The trainable parameters that y depends on, in the order in which a walk from y meets them, and their
// gradients. UserError when there is none.
struct Gradients {
  Tensor loss;
  std::vector<Parameter> parameters;
  std::vector<Tensor> gradients;
};
Gradients gradients(const Operand& loss);
// The same for the given parameters only; those that the loss does not depend on are an error.
Gradients gradients(const Operand& loss, std::span<const Parameter> parameters);

}  // namespace opgrad
