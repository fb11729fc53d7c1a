// The walk over a gradient graph, the places where an edit applies, and the rules made of edits.
#include "mutate.h"

#include <fmt/format.h>

#include <set>
#include <unordered_map>
#include <unordered_set>

#include "../../graph/grad.h"
#include "changes.h"

namespace opgrad::gradtests {

using fmt::format;

namespace {

bool same_type(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.node()->shape == b.node()->shape;
}

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// ------------------------------------------------------------------------------------------------ the graph

// Appends the nodes behind root, inputs before users, but for those in `met`, which it extends.
void walk(const Tensor& root, std::unordered_set<Node*>& met, std::vector<Tensor>& nodes) {
  struct Visit {
    Node* node;
    std::size_t next;
  };
  std::vector<Visit> stack;
  if (met.insert(root.node()).second) stack.push_back({root.node(), 0});
  while (!stack.empty()) {
    Visit& v = stack.back();
    if (v.next == v.node->inputs().size()) {
      nodes.push_back(Tensor::share(v.node));
      stack.pop_back();
    } else if (Node* const in = v.node->inputs()[v.next++]; met.insert(in).second) {
      stack.push_back({in, 0});
    }
  }
}

std::vector<Tensor> behind(const GradientGraph& g, Wanted wanted) {
  std::unordered_set<Node*> met;
  for (const Tensor& end : g.ends) met.insert(end.node());
  std::vector<Tensor> nodes;
  for (std::size_t i = 0; i < g.gradients.size(); ++i)
    if (g.gradients[i] && wanted(static_cast<int>(i))) walk(g.gradients[i], met, nodes);
  return nodes;
}

// The gradients with `to` in the place of a node or an end; nothing where none of them depends on it.
std::optional<Grads> replaced(const GradientGraph& g, Node* from, const Tensor& to) {
  std::unordered_map<Node*, Tensor> now{{from, to}};
  const auto form = [&](Node* n) {
    const auto found = now.find(n);
    return found == now.end() ? n : found->second.node();
  };
  std::vector<Node*> inputs;
  for (const Tensor& t : g.nodes) {
    Node* const n = t.node();
    if (n == from) continue;
    bool changed = false;
    inputs.clear();
    for (Node* const in : n->inputs()) {
      inputs.push_back(form(in));
      changed = changed || inputs.back() != in;
    }
    if (changed) now.emplace(n, make_node(*n->op, inputs, {}, n->attributes()));
  }
  Grads out = g.gradients;
  bool changed = false;
  for (Tensor& t : out) {
    if (!t || form(t.node()) == t.node()) continue;
    t = now.at(t.node());
    changed = true;
  }
  return changed ? std::optional(std::move(out)) : std::nullopt;
}

// An edit's result if it is one: no shape rule refused, and every type is what it was.
std::optional<Grads> applied(const Edit& edit, const GradientGraph& g) {
  try {
    std::optional<Grads> out = edit(g);
    if (out)
      for (std::size_t i = 0; i < out->size(); ++i)
        if ((*out)[i] && !same_type((*out)[i], g.gradients[i])) return std::nullopt;
    return out;
  } catch (const UserError&) {
    return std::nullopt;
  }
}

Mutant mutant(const Op& op, std::string name, Edit edit) {
  return {std::move(name), [&op, edit = std::move(edit)](const Tensor& y, const Tensor& dy, Wanted) {
            const GradientGraph g = gradient_graph(op, y, dy);
            std::optional<Grads> out = applied(edit, g);
            return out ? *out : g.gradients;
          }};
}

// ------------------------------------------------------------------------------------------------ edits

Edit edit_gradient(std::size_t i, std::function<Tensor(const Tensor&)> change) {
  return [i, change = std::move(change)](const GradientGraph& g) -> std::optional<Grads> {
    if (i >= g.gradients.size() || !g.gradients[i]) return std::nullopt;
    Grads out = g.gradients;
    out[i] = change(g.gradients[i]);
    return out[i] ? std::optional(std::move(out)) : std::nullopt;
  };
}

// Rules may return different graphs for different calls: an edit speaks of a place and of the operation
// there.
Edit edit_node(std::size_t i, const Op* op, NodeChange change) {
  return [i, op, change = std::move(change)](const GradientGraph& g) -> std::optional<Grads> {
    if (i >= g.nodes.size() || g.nodes[i].node()->op != op) return std::nullopt;
    const Tensor to = change(g.nodes[i]);
    return to ? replaced(g, g.nodes[i].node(), to) : std::nullopt;
  };
}

Edit edit_end(std::size_t i) {
  return [i](const GradientGraph& g) -> std::optional<Grads> {
    if (i >= g.ends.size() || !is_float(g.ends[i].dtype())) return std::nullopt;
    return replaced(g, g.ends[i].node(), detach(g.ends[i]));
  };
}

struct Candidate {
  std::string name;
  Edit edit;
};

std::vector<Candidate> candidates(const GradientGraph& g, Wanted wanted) {
  std::vector<Candidate> found;
  const int inputs = static_cast<int>(g.gradients.size());
  for (int i = 0; i < inputs; ++i) {
    if (!g.gradients[at(i)] || !wanted(i)) continue;
    for (Change& c : gradient_changes())
      found.push_back({format("{} on gradient {}", c.name, i), edit_gradient(at(i), std::move(c.apply))});
    for (int j = 0; j < inputs; ++j)
      if (j != i)
        found.push_back({format("gradient {} in place of gradient {}", j, i),
                         [i, j](const GradientGraph& h) -> std::optional<Grads> {
                           const auto n = static_cast<int>(h.gradients.size());
                           if (i >= n || j >= n || !h.gradients[at(i)] || !h.gradients[at(j)] ||
                               h.gradients[at(i)].node() == h.gradients[at(j)].node())
                             return std::nullopt;
                           Grads out = h.gradients;
                           out[at(i)] = out[at(j)];
                           return out;
                         }});
  }
  std::unordered_set<Node*> used;
  for (const Tensor& t : behind(g, wanted)) used.insert(t.node());
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    const Tensor& node = g.nodes[i];
    if (!used.contains(node.node())) continue;
    const AddChange add = [&](const std::string& what, NodeChange change) {
      found.push_back({format("{} at node {} ({})", what, i, node.node()->op->name),
                       edit_node(i, node.node()->op, std::move(change))});
    };
    propose_changes(node, add);
  }
  for (std::size_t i = 0; i < g.ends.size(); ++i)
    found.push_back({i == 0   ? "y detached"
                     : i == 1 ? "dy detached"
                              : format("input {} detached", i - 2),
                     edit_end(i)});
  return found;
}

}  // namespace

// ------------------------------------------------------------------------------------------------ public

GradientGraph gradient_graph(const Op& op, const Tensor& y, const Tensor& dy) {
  // All gradients, whatever is wanted now, so that a node has one number in every call.
  GradientGraph g;
  g.ends = {y, dy};
  Wanted all;
  for (int i = 0; i < y.node()->arity; ++i) {
    g.ends.push_back(y.input(i));
    if (i < 64 && is_float(g.ends.back().dtype())) all.bits |= std::uint64_t{1} << i;
  }
  g.gradients = op.backward(y, dy, all);
  g.nodes = behind(g, Wanted{~std::uint64_t{0}});
  return g;
}

Mutant changed_gradient(const Op& op, int input, const Change& change) {
  return mutant(op, format("{} on gradient {}", change.name, input), edit_gradient(at(input), change.apply));
}

std::vector<Mutant> mutants_of(const Op& op, const std::vector<RuleCall>& calls) {
  std::vector<Mutant> mutants;
  std::set<std::string> known;
  for (const RuleCall& call : calls) {
    const GradientGraph g = gradient_graph(op, call.y, call.dy);
    for (Candidate& c : candidates(g, call.wanted)) {
      if (known.contains(c.name) || !applied(c.edit, g)) continue;
      known.insert(c.name);
      mutants.push_back(mutant(op, std::move(c.name), std::move(c.edit)));
    }
  }
  return mutants;
}

std::vector<RuleCall> rule_calls(const Op& op, const Tensor& y, const Tensor& dy,
                                 const std::vector<Tensor>& xs) {
  std::vector<RuleCall> calls;
  const BackwardOverride listen(op, [&](const Tensor& node, const Tensor& cotangent, Wanted wanted) {
    calls.push_back({node, cotangent, wanted});
    return op.backward(node, cotangent, wanted);
  });
  vjp_where_connected(y, dy, xs);
  return calls;
}

}  // namespace opgrad::gradtests
