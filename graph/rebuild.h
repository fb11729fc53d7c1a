// The same operations on other inputs: a graph read as a function of some of its nodes.
#pragma once
#include <functional>
#include <span>

#include "ir.h"

namespace opgrad {

struct Rebuild {
  // What stands for a node that depends on none of `from`; by default the node itself.
  std::function<Tensor(const Tensor& node)> constant;
  // What stands for a node whose inputs have new forms; by default the same operation with the same
  // attributes on the new inputs.
  std::function<Tensor(const Tensor& node, std::span<Node* const> inputs)> make;
};

// y with to[i] in the place of from[i]; nodes keep their origins. `to` may differ in type as far as the
// shape rules of the operations behind y admit. UserError where they refuse, where y does not depend on some
// from[i] (a node that was computed and depends on no parameter has let go of its inputs).
Tensor rebuild(const Tensor& y, std::span<const Tensor> from, std::span<const Tensor> to,
               const Rebuild& how = {});

}  // namespace opgrad
