// Gradients by example: the table of every training example's own wish for every weight.
#pragma once
#include <initializer_list>
#include <span>
#include <vector>

#include "../graph/grad.h"

namespace opgrad {

// For each x a tensor [batch, x.shape...] whose entry b is the gradient of losses[b] with respect to x.
// `losses` has rank 1, one float for each example, such as cross_entropy(net(images), labels,
// Reduction::none); wherever examples meet weights, axis 0 holds them one behind the other, as equal groups
// of rows ([batch * time, features] is fine). One backward graph serves all examples; the mean over axis 0 is
// the gradient of mean(losses). What is returned can be differentiated again. UserError as grad gives it;
// where what holds the examples is also taken as a whole (a sum over axis 0, batch normalisation in
// training), since then no example has a gradient of its own; and where an operation has no rule: PerExample
// in graph/ir.h.
std::vector<Tensor> per_example_gradients(const Operand& losses, std::span<const Tensor> xs);
inline std::vector<Tensor> per_example_gradients(const Operand& losses, std::initializer_list<Tensor> xs) {
  return per_example_gradients(losses, std::span<const Tensor>(xs.begin(), xs.size()));
}
inline Tensor per_example_gradients(const Operand& losses, const Tensor& x) {
  return per_example_gradients(losses, {x})[0];
}

// The same for the trainable parameters that the losses depend on, as gradients() finds them, or for those
// given. Gradients::loss is `losses`.
Gradients per_example_gradients(const Operand& losses);
Gradients per_example_gradients(const Operand& losses, std::span<const Parameter> parameters);

}  // namespace opgrad
