// Pieces: intervals of the order in which nodes are numbered, so that each reads earlier ones only.
#include "pieces.h"

#include <algorithm>

#include "order.h"

namespace opgrad {

std::vector<std::uint32_t> for_each_piece(std::span<Node* const> roots, bool with_held,
                                          std::span<Node* const> counted,
                                          FunctionRef<void(std::span<Node* const>)> run) {
  constexpr std::uint32_t never = ~std::uint32_t{0};
  std::vector<Node*> nodes;
  std::vector<std::uint32_t> last_use, uses_of_counted;
  {
    Numbering numbering(roots, false);
    last_use.assign(numbering.nodes().size(), 0);
    std::vector<std::uint32_t> uses(numbering.nodes().size(), 0);
    for (const Node* n : numbering.nodes())
      if (!n->value)
        for (const Node* input : n->inputs()) {
          last_use[Numbering::of(input)] = std::max(last_use[Numbering::of(input)], Numbering::of(n));
          ++uses[Numbering::of(input)];
        }
    for (const Node* n : counted)
      uses_of_counted.push_back(n && Numbering::met(n) ? uses[Numbering::of(n)] : 0);
    if (with_held)
      for (const Node* n : numbering.nodes())
        if (!n->value && n->refs.load() > uses[Numbering::of(n)]) last_use[Numbering::of(n)] = never;
    // A root is nobody's to compute but the caller's, who may want it in memory of its own.
    for (const Node* root : roots) last_use[Numbering::of(root)] = 0;
    nodes = numbering.finish();
  }
  std::vector<Node*> needed;
  for (std::size_t begin = 0; begin + nodes_of_piece < nodes.size(); begin += nodes_of_piece) {
    const std::size_t end = begin + nodes_of_piece;
    needed.clear();
    for (std::size_t i = begin; i < end; ++i)
      if (last_use[i] >= end && !nodes[i]->value && nodes[i]->op != &structural::number)
        needed.push_back(nodes[i]);
    if (!needed.empty()) run(needed);
  }
  Numbering::give_back(nodes);
  return uses_of_counted;
}

void donate_behind_pieces(Capture& c, std::span<const Wish> wishes, std::span<const std::uint32_t> uses,
                          std::uint64_t& missed) {
  for (std::size_t i = 0; i < wishes.size(); ++i) {
    const auto [node, donor] = wishes[i];
    Output& out = c.outputs[i];
    if (!donor || out.donor != no_index) continue;
    const auto slot = std::ranges::find(c.leaves, donor);
    if (slot == c.leaves.end() || node->value || node->op == &structural::number ||
        node->shape != donor->shape || node->dtype != donor->dtype)
      continue;
    // One reference is the parameter's own.
    if (donor->refs.load() != 1 + uses[i] || !donor->value->buffer.unique()) continue;
    out.donor = static_cast<std::uint32_t>(slot - c.leaves.begin());
    --missed;
    // The key ends with its outputs, a word each; two captures whose keys are equal keep equal hashes.
    const std::uint64_t word = out.item | std::uint64_t{out.donor} << 32;
    c.key[c.key.size() - c.outputs.size() + i] = word;
    c.hash += word;
  }
}

}  // namespace opgrad
