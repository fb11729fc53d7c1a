// Epilogues: a group that reads the result of a kernel right after it runs on each piece that the kernel
// finishes, while the piece is in cache.
#include <algorithm>

#include "passes.h"
#include "views.h"

namespace opgrad {

void attach_epilogues(Program& p) {
  const ShownItems shown(p);
  std::uint32_t head = no_index;  // the kernel that came last, with nothing but views since
  bool usable = false;            // the group after it reads it in order only
  std::uint32_t group = no_index;
  const auto settle = [&] {
    if (head != no_index && group != no_index && usable) p.items[head].epilogue = group;
    head = group = no_index;
  };
  for (std::uint32_t k = 0; k <= p.order.size(); ++k) {
    if (k == p.tail || k == p.order.size()) settle();
    if (k == p.order.size()) break;
    const std::uint32_t i = p.order[k];
    const Item& item = p.items[i];
    if (is_view(p, shown, i)) continue;
    if (item.group == no_index) {
      settle();
      if (has(item.op->traits, Traits::pieces)) head = i;
      continue;
    }
    if (head == no_index) continue;
    if (group == no_index) {
      group = item.group;
      usable = p.shape(i).numel() == p.shape(head).numel();
    } else if (item.group != group) {
      settle();
      continue;
    }
    for (const std::uint32_t in : p.inputs_of(item))
      usable = usable && (shown[in].root != head || shows_all_in_order(p, shown, in));
  }
}

}  // namespace opgrad
