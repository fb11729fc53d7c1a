// The order of execution: Boost.Graph decides it, the tail is ours.
#include <algorithm>

#include "passes.h"

namespace opgrad {
namespace {

// Which items an output depends on: everything else is dead.
std::vector<bool> reached(const Program& p) {
  std::vector<bool> live(p.items.size(), false);
  for (const Output& o : p.outputs) live[o.item] = true;
  for (std::size_t i = p.items.size(); i-- > 0;)
    if (live[i])
      for (const std::uint32_t input : p.inputs_of(p.items[i])) live[input] = true;
  return live;
}

// May stand in the tail: cannot throw, and all it feeds stands there too. Movements are views and fail never.
std::vector<bool> tail_items(const Program& p, const std::vector<bool>& live) {
  std::vector<bool> donated(p.items.size(), false), tail(p.items.size(), false);
  for (const Output& o : p.outputs) donated[o.item] = o.donor != no_index;
  const Users users(p);
  for (std::uint32_t i = static_cast<std::uint32_t>(p.items.size()); i-- > 0;) {
    const Item& item = p.items[i];
    if (!live[i] || item.kind != ItemKind::op || !has(item.op->traits, Traits::nothrow) ||
        !has(item.op->traits, Traits::pointwise))
      continue;
    const auto of = users.of(i);
    tail[i] = (donated[i] || !of.empty()) &&
              std::ranges::all_of(of, [&](std::uint32_t u) { return !live[u] || tail[u]; });
  }
  return tail;
}

}  // namespace

void schedule(Program& p) {
  const std::vector<std::uint32_t> sorted = topological_order(p);
  const std::vector<bool> live = reached(p), tail = tail_items(p, live);
  p.order.clear();
  for (const bool in_tail : {false, true}) {
    p.tail = static_cast<std::uint32_t>(p.order.size());
    for (const std::uint32_t i : sorted)
      if (live[i] && p.items[i].kind == ItemKind::op && tail[i] == in_tail) p.order.push_back(i);
  }
}

}  // namespace opgrad
