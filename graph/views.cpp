// Views composed along chains of movements.
#include "views.h"

#include "planner.h"

namespace opgrad {

std::vector<Shown> shown_items(const Program& p) {
  std::vector<Shown> shown(p.items.size());
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    shown[i] = {i, {0, dense_strides(p.shape(i))}};
    if (item.kind == ItemKind::number) shown[i].layout = {};
    if (item.kind != ItemKind::op || !has(item.op->traits, Traits::movement)) continue;
    const std::uint32_t input = p.inputs_of(item)[0];
    Shown s = shown[input];
    s.copied = false;
    if (item.op->view(item.attributes, p.shape(input), p.shape(i), s.layout))
      shown[i] = s;
    else
      shown[i].copied = true;
  }
  return shown;
}

bool shows_all_in_order(const Program& p, const std::vector<Shown>& shown, std::uint32_t i) {
  const Shown& s = shown[i];
  return s.root == i || (s.layout.offset == 0 && p.items[s.root].kind != ItemKind::number &&
                         p.shape(i).numel() == p.shape(s.root).numel() && dense_layout(p.shape(i), s.layout));
}

}  // namespace opgrad
