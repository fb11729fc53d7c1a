// Wrong backward rules, derived mechanically from the right one: what a tester of gradients must reject.
//
// A rule is written in operations, so what it returns is a graph between y, y's inputs, dy and each gradient.
// Edits change one thing in that graph (changes.h), by its nodes' traits, attributes and shapes alone; no
// operation is known here by its name, and one that is registered tomorrow has its mutants without a line
// written.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "../../graph/override.h"
#include "changes.h"

namespace opgrad::gradtests {

// What a rule returned, and the nodes it made for that: down to, and without, `ends`.
struct GradientGraph {
  Grads gradients;
  std::vector<Tensor> nodes;  // inputs before users
  std::vector<Tensor> ends;   // y, dy, y's inputs
};
GradientGraph gradient_graph(const Op& op, const Tensor& y, const Tensor& dy);

// The gradients after one change; nothing where it does not apply to this graph or a shape rule refuses it.
using Edit = std::function<std::optional<Grads>(const GradientGraph&)>;

struct Mutant {
  std::string name;  // "factor 1.001 on gradient 0", "operand 1 taken as 1 at node 2 (multiply)"
  BackwardRule rule;
};

// The rule with this gradient changed.
Mutant changed_gradient(const Op& op, int input, const Change& change);

// Every mutant that changes the graph of at least one of these calls of the rule, each once by name. Where an
// edit does not apply, its rule is the right one.
struct RuleCall {
  Tensor y, dy;
  Wanted wanted;
};
std::vector<Mutant> mutants_of(const Op& op, const std::vector<RuleCall>& calls);

// The calls of op's rule while y is differentiated with respect to xs.
std::vector<RuleCall> rule_calls(const Op& op, const Tensor& y, const Tensor& dy,
                                 const std::vector<Tensor>& xs);

}  // namespace opgrad::gradtests
