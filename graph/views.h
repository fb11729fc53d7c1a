// Inside the room: what movement operations show of which item.
#pragma once
#include <vector>

#include "program.h"

namespace opgrad {

// An item's elements lie in the memory of `root` (itself, unless it is a movement) with this layout.
struct Shown {
  std::uint32_t root;
  Layout layout;
  // The movement's input must be copied first; the copy is a step, and the root is the item itself.
  bool copied = false;
};

std::vector<Shown> shown_items(const Program& p);

// It costs nothing at run time: a movement that needs no copy.
inline bool is_view(const Program& p, const std::vector<Shown>& shown, std::uint32_t i) {
  const Item& item = p.items[i];
  return item.kind == ItemKind::op && has(item.op->traits, Traits::movement) && !shown[i].copied;
}

// All of the root in its own order, whatever the shape.
bool shows_all_in_order(const Program& p, const std::vector<Shown>& shown, std::uint32_t i);

}  // namespace opgrad
