// Movement operations are views, so a chain of them is one view of its root. A chain that shows its root as
// it is (a permutation and its inverse, a reshape and back) is cancelled; two that show the same are one.
#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "passes.h"
#include "views.h"

namespace opgrad {
namespace {

bool same_strides(const Shape& s, const Layout& a, const Layout& b) {
  for (int axis = 0; axis < s.rank(); ++axis) {
    const auto k = static_cast<std::size_t>(axis);
    if (s[axis] != 1 && a.strides[k] != b.strides[k]) return false;
  }
  return a.offset == b.offset;
}

}  // namespace

void cancel_movements(Program& p) {
  const bool any = std::ranges::any_of(p.items, [](const Item& item) {
    return item.kind == ItemKind::op && has(item.op->traits, Traits::movement);
  });
  if (!any) return;
  std::vector<std::uint32_t> stands_for(p.items.size());
  std::iota(stands_for.begin(), stands_for.end(), 0u);
  const ShownItems shown(p);
  std::map<std::tuple<std::uint32_t, ShapeId, std::int64_t, std::array<std::int64_t, max_rank>>,
           std::uint32_t>
      first;  // by what it shows
  bool changed = false;
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    const Shape& shape = p.shape(i);
    if (!is_view(p, shown, i) || shape.numel() == 0) continue;
    const std::uint32_t root = shown[i].root;
    if (p.items[root].shape == item.shape && p.items[root].dtype == item.dtype &&
        same_strides(shape, *shown[i].layout, *shown[root].layout)) {
      stands_for[i] = root;
      changed = true;
      continue;
    }
    Layout layout = *shown[i].layout;
    for (int axis = 0; axis < max_rank; ++axis)
      if (axis >= shape.rank() || shape[axis] == 1) layout.strides[static_cast<std::size_t>(axis)] = 0;
    const auto [at, fresh] = first.emplace(std::tuple(root, item.shape, layout.offset, layout.strides), i);
    if (!fresh) {
      stands_for[i] = at->second;
      changed = true;
    }
  }
  if (changed) keep_representatives(p, std::move(stands_for));
}

}  // namespace opgrad
