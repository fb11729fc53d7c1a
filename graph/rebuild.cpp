// One walk numbers the graph; one sweep makes the new nodes, inputs before users.
#include "rebuild.h"

#include <fmt/format.h>

#include <vector>

#include "order.h"
#include "scope.h"

namespace opgrad {
namespace {

// The graph in arrays, so that nodes may be made while we sweep.
struct Graph {
  std::vector<Tensor> nodes;
  std::vector<std::uint32_t> inputs, first;
  std::vector<std::int64_t> replaced_by;  // index into `to`, -1 for none
};

Graph collect(const Tensor& y, std::span<const Tensor> from) {
  Node* const root = y.node();
  const Numbering numbering({&root, 1}, true);
  Graph g;
  for (Node* n : numbering.nodes()) {
    g.nodes.push_back(Tensor::share(n));
    g.first.push_back(static_cast<std::uint32_t>(g.inputs.size()));
    for (const Node* input : n->inputs()) g.inputs.push_back(Numbering::of(input));
  }
  g.first.push_back(static_cast<std::uint32_t>(g.inputs.size()));
  g.replaced_by.assign(g.nodes.size(), -1);
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (!Numbering::met(from[i].node()))
      throw UserError(fmt::format("rebuild: {} made at {} does not depend on input {} ({} made at {})",
                                  y.node()->op->name, to_string(*y.node()->origin), i,
                                  to_string(Type{from[i].dtype(), from[i].shape()}),
                                  to_string(*from[i].node()->origin)));
    g.replaced_by[Numbering::of(from[i].node())] = static_cast<std::int64_t>(i);
  }
  return g;
}

}  // namespace

Tensor rebuild(const Tensor& y, std::span<const Tensor> from, std::span<const Tensor> to,
               const Rebuild& how) {
  if (from.size() != to.size())
    throw UserError(fmt::format("rebuild: {} nodes to replace, but {} to put there", from.size(), to.size()));
  const Graph g = collect(y, from);
  std::vector<Tensor> now(g.nodes.size());  // empty: depends on none of `from`
  std::vector<Node*> inputs;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (g.replaced_by[i] >= 0) {
      now[i] = to[static_cast<std::size_t>(g.replaced_by[i])];
      continue;
    }
    bool any = false;
    for (std::uint32_t k = g.first[i]; k < g.first[i + 1]; ++k) any = any || now[g.inputs[k]];
    if (!any) continue;
    const Tensor& old = g.nodes[i];
    std::vector<Tensor> held;  // constants made on the way
    inputs.clear();
    for (std::uint32_t k = g.first[i]; k < g.first[i + 1]; ++k) {
      const std::uint32_t j = g.inputs[k];
      if (!now[j] && how.constant) held.push_back(how.constant(g.nodes[j]));
      inputs.push_back(now[j] ? now[j].node() : how.constant ? held.back().node() : g.nodes[j].node());
    }
    const OriginScope scope(old.node()->origin);
    now[i] =
        how.make ? how.make(old, inputs) : make_node(*old.node()->op, inputs, {}, old.node()->attributes());
  }
  return now.back() ? now.back() : y;
}

}  // namespace opgrad
