// Views composed along chains of movements.
#include "views.h"

#include <unordered_map>

#include "planner.h"

namespace opgrad {

ShownItems::ShownItems(const Program& p) : items_(p.items.size()) {
  std::unordered_map<ShapeId, const Layout*> dense;
  const Layout* const number = &layouts_.emplace_back();
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    const auto itself = [&] {
      const Layout*& known = dense[item.shape];
      if (!known) known = &layouts_.emplace_back(Layout{0, dense_strides(p.shape(i))});
      return known;
    };
    items_[i] = {.root = i, .layout = item.kind == ItemKind::number ? number : itself()};
    if (item.kind != ItemKind::op || !has(item.op->traits, Traits::movement)) continue;
    const std::uint32_t input = p.inputs_of(item)[0];
    Layout layout = *items_[input].layout;
    if (item.op->view(item.attributes, p.shape(input), p.shape(i), layout))
      items_[i] = {.root = items_[input].root, .layout = &layouts_.emplace_back(layout)};
    else
      items_[i].copied = true;
  }
}

bool shows_all_in_order(const Program& p, const ShownItems& shown, std::uint32_t i) {
  const Shown& s = shown[i];
  return s.root == i ||
         (s.layout->offset == 0 && p.items[s.root].kind != ItemKind::number &&
          p.shape(i).numel() == p.shape(s.root).numel() && dense_layout(p.shape(i), *s.layout));
}

}  // namespace opgrad
