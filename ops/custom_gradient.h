// A gradient of one's own for something composed of operations.
#pragma once
#include <initializer_list>
#include <span>
#include <type_traits>

#include "../graph/ir.h"

namespace opgrad {

// The backward rule: from y, its cotangent dy and the xs, one gradient for each x, of its type; an empty
// Tensor for an x without one (an integer, a constant).
using GradientRule = Grads (*)(const Tensor& y, const Tensor& dy, std::span<const Tensor> xs);

// y's value, whose gradient goes to the xs by the rule and never through y's own graph; what the rule does is
// differentiated in its turn. y is of floats. A plan is chosen by the rule's address, so the rule may capture
// nothing: what it needs goes in among the xs. `rows_apart` says that the rule treats each row (entry of axis
// 0) by itself, as gradients by example have to know. UserError, with the line of this call, where the rule
// gives another count of gradients or one of another type than its x.
//
//     Tensor clipped = custom_gradient(x, {x}, [](const Tensor&, const Tensor& dy, std::span<const Tensor>)
//     -> Grads {
//       return {minimum(maximum(dy, -1), 1)};
//     });
Tensor custom_gradient(const Operand& y, std::span<const Tensor> xs, GradientRule rule,
                       bool rows_apart = false);

template <class F>
Tensor custom_gradient(const Operand& y, std::initializer_list<Tensor> xs, F rule, bool rows_apart = false) {
  constexpr bool called =
      std::is_invocable_r_v<Grads, F, const Tensor&, const Tensor&, std::span<const Tensor>>;
  constexpr bool bare = std::is_convertible_v<F, GradientRule>;
  static_assert(
      called,
      "custom_gradient: the rule must be [](const Tensor& y, const Tensor& dy, std::span<const Tensor> xs) "
      "-> Grads { ... }");
  static_assert(
      bare || !called,
      "custom_gradient: the rule captures something; pass what it needs among the xs, {x, captured}, and "
      "return an empty Tensor for it");
  if constexpr (bare)
    return custom_gradient(y, std::span<const Tensor>(xs.begin(), xs.size()), static_cast<GradientRule>(rule),
                           rows_apart);
}

}  // namespace opgrad
