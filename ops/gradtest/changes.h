// One small change of a node or of a gradient: what edits of a gradient graph are made of.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "../../graph/ir.h"

namespace opgrad::gradtests {

// A gradient changed in a way that needs no look at its graph: factors, sign, zero, 1e-6 added, an element
// zeroed, reversed, rolled by one, turned, two axes exchanged. The type stays; an empty tensor where the
// change is none for this shape.
struct Change {
  std::string name;
  std::function<Tensor(const Tensor& gradient)> apply;
};
std::vector<Change> gradient_changes();

// What stands in the place of a node: of its type or of another one; an empty tensor where there is nothing
// to change. It may throw UserError when a shape rule refuses.
using NodeChange = std::function<Tensor(const Tensor& node)>;
using AddChange = std::function<void(const std::string& what, NodeChange)>;

// Proposes changes for this node: an operand dropped (taken as 0 or 1), negated, inverted (bool), turned or
// transposed; two operands exchanged; the node left out; a fold or a repetition that does not fold or repeat;
// an attribute's number moved by one, exchanged with its neighbour, inverted; a constant moved by one.
void propose_changes(const Tensor& node, const AddChange& add);

}  // namespace opgrad::gradtests
