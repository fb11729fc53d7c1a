// Inside the room: what movement operations show of which item.
#pragma once
#include <deque>
#include <vector>

#include "program.h"

namespace opgrad {

// An item's elements lie in the memory of `root` (itself, unless it is a movement) with this layout.
struct Shown {
  std::uint32_t root;
  // The movement's input must be copied first; the copy is a step, and the root is the item itself.
  bool copied = false;
  const Layout* layout = nullptr;
};

// What each item shows. Items are many and shapes few, so items that are no movements share their layouts.
class ShownItems {
 public:
  explicit ShownItems(const Program& p);
  ShownItems(const ShownItems&) = delete;
  ShownItems& operator=(const ShownItems&) = delete;
  const Shown& operator[](std::size_t i) const { return items_[i]; }

 private:
  std::vector<Shown> items_;
  std::deque<Layout> layouts_;
};

// It costs nothing at run time: a movement that needs no copy.
inline bool is_view(const Program& p, const ShownItems& shown, std::uint32_t i) {
  const Item& item = p.items[i];
  return item.kind == ItemKind::op && has(item.op->traits, Traits::movement) && !shown[i].copied;
}

// All of the root in its own order, whatever the shape.
bool shows_all_in_order(const Program& p, const ShownItems& shown, std::uint32_t i);

}  // namespace opgrad
