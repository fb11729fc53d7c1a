// Pieces: intervals of the order in which nodes are numbered, so that each reads earlier ones only.
#include "pieces.h"

#include <algorithm>

#include "order.h"

namespace opgrad {

void for_each_piece(std::span<Node* const> roots, FunctionRef<void(std::span<Node* const>)> run) {
  std::vector<Node*> nodes;
  std::vector<std::uint32_t> last_use;
  {
    Numbering numbering(roots, false);
    last_use.assign(numbering.nodes().size(), 0);
    for (const Node* n : numbering.nodes())
      if (!n->value)
        for (const Node* input : n->inputs())
          last_use[Numbering::of(input)] = std::max(last_use[Numbering::of(input)], Numbering::of(n));
    // A root is nobody's to compute but the caller's, who may want it in memory of its own.
    for (const Node* root : roots) last_use[Numbering::of(root)] = 0;
    nodes = numbering.finish();
  }
  std::vector<Node*> needed;
  for (std::size_t begin = 0; begin + most_nodes_at_once < nodes.size(); begin += most_nodes_at_once) {
    const std::size_t end = begin + most_nodes_at_once;
    needed.clear();
    for (std::size_t i = begin; i < end; ++i)
      if (last_use[i] >= end && !nodes[i]->value && nodes[i]->op != &structural::number)
        needed.push_back(nodes[i]);
    if (!needed.empty()) run(needed);
  }
  Numbering::give_back(nodes);
}

}  // namespace opgrad
