// Pointwise fusion: neighbours in the order of execution become one group.
#include <algorithm>
#include <vector>

#include "passes.h"
#include "plan.h"

namespace opgrad {

void fuse_pointwise(Program& p) {
  std::uint32_t group = 0, members = 0;
  ShapeId shape = 0;
  // The item whose memory a movement shows.
  std::vector<std::uint32_t> root(p.items.size());
  for (std::uint32_t i = 0; i < root.size(); ++i) root[i] = i;
  for (std::uint32_t k = 0; k < p.order.size(); ++k) {
    const std::uint32_t i = p.order[k];
    Item& item = p.items[i];
    const auto inputs = p.inputs_of(item);
    if (has(item.op->traits, Traits::movement)) {  // a view is no step: it does not part neighbours
      root[i] = root[inputs[0]];
      continue;
    }
    if (!has(item.op->traits, Traits::pointwise) || item.count > widest_member ||
        shape_of(item.shape).numel() == 0) {
      members = 0;
      continue;
    }
    // What reads a member through a movement reads it at other indices: the member must be complete by then.
    const bool moved = std::ranges::any_of(inputs, [&](std::uint32_t in) {
      return root[in] != in && members && p.items[root[in]].group == group;
    });
    if (members == 0 || members == longest_group || item.shape != shape || k == p.tail || moved) {
      ++group;
      members = 0;
      shape = item.shape;
    }
    item.group = group;
    ++members;
  }
}

}  // namespace opgrad
