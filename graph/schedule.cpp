// The order of execution that every plan begins with.
#include <algorithm>

#include "passes.h"

namespace opgrad {
namespace {

// May stand in the tail: cannot throw, and all it feeds stands there too. Movements are views and fail never.
std::vector<bool> tail_items(const Program& p) {
  std::vector<bool> donated(p.items.size(), false), tail(p.items.size(), false);
  for (const Output& o : p.outputs) donated[o.item] = o.donor != no_index;
  const Users users(p);
  for (std::uint32_t i = static_cast<std::uint32_t>(p.items.size()); i-- > 0;) {
    const Item& item = p.items[i];
    if (item.kind != ItemKind::op || !has(item.op->traits, Traits::nothrow) ||
        !has(item.op->traits, Traits::pointwise))
      continue;
    const auto of = users.of(i);
    tail[i] =
        (donated[i] || !of.empty()) && std::ranges::all_of(of, [&](std::uint32_t u) { return tail[u]; });
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
