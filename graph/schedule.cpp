// The order of execution that every plan begins with.
#include <algorithm>

#include "passes.h"

namespace opgrad {
namespace {

// May stand in the tail: cannot throw, and all it feeds stands there too. What the user asked for stands
// before, so that it is complete when it is looked at. Movements are views and never fail.
//
// Besides pointwise operations these are kernels that report their pieces, so that an update can run on the
// pieces of its gradient; not, though, where they read what the tail overwrites.
std::vector<bool> tail_items(const Program& p) {
  const auto count = static_cast<std::uint32_t>(p.items.size());
  std::vector<bool> donated(count, false), asked(count, false), tail(count, false), overwritten(count, false);
  std::vector<bool> donor(p.slots, false);
  for (const Output& o : p.outputs) {
    (o.donor == no_index ? asked : donated)[o.item] = true;
    if (o.donor != no_index) donor[o.donor] = true;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const Item& item = p.items[i];
    if (item.kind == ItemKind::slot) overwritten[i] = donor[item.place];
    if (item.kind == ItemKind::op && has(item.op->traits, Traits::movement))
      overwritten[i] = overwritten[p.inputs_of(item)[0]];
  }
  const Users users(p);
  for (std::uint32_t i = count; i-- > 0;) {
    const Item& item = p.items[i];
    if (item.kind != ItemKind::op || asked[i] || !has(item.op->traits, Traits::nothrow)) continue;
    const auto of = users.of(i);
    const auto feeds_tail = std::ranges::all_of(of, [&](std::uint32_t u) { return tail[u]; });
    if (has(item.op->traits, Traits::pointwise))
      tail[i] = (donated[i] || !of.empty()) && feeds_tail;
    else if (has(item.op->traits, Traits::pieces))
      tail[i] = !of.empty() && feeds_tail &&
                std::ranges::none_of(p.inputs_of(item), [&](std::uint32_t in) { return overwritten[in]; });
  }
  return tail;
}

}  // namespace

void schedule(Program& p) {
  const std::vector<bool> tail = tail_items(p);
  p.order.clear();
  for (const bool in_tail : {false, true}) {
    p.tail = static_cast<std::uint32_t>(p.order.size());
    for (std::uint32_t i = 0; i < p.items.size(); ++i)
      if (p.items[i].kind == ItemKind::op && tail[i] == in_tail) p.order.push_back(i);
  }
}

}  // namespace opgrad
