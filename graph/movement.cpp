// Movement operations are views, so a chain of them is one view of its root. A chain that shows its root as
// it is (a permutation and its inverse, a reshape and back) is cancelled; two that show the same are one.
#include <algorithm>
#include <map>
#include <tuple>

#include "passes.h"

namespace opgrad {
namespace {

// What a movement shows: which item's memory, and how.
struct Shown {
  std::uint32_t root;
  Layout layout;
};

bool same_strides(const Shape& s, const Layout& a, const Layout& b) {
  for (int axis = 0; axis < s.rank(); ++axis) {
    const auto k = static_cast<std::size_t>(axis);
    if (s[axis] != 1 && a.strides[k] != b.strides[k]) return false;
  }
  return a.offset == b.offset;
}

}  // namespace

void cancel_movements(Program& p) {
  Rewrite r(p);
  std::vector<Shown> shown(p.items.size());
  std::map<std::tuple<std::uint32_t, ShapeId, std::int64_t, std::array<std::int64_t, max_rank>>,
           std::uint32_t>
      first;  // by what it shows
  bool changed = false;
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    const Shape& shape = p.shape(i);
    shown[i] = {i, {0, dense_strides(shape)}};
    if (item.kind != ItemKind::op || !has(item.op->traits, Traits::movement) || shape.numel() == 0) {
      r.keep(i);
      continue;
    }
    const std::uint32_t input = p.inputs_of(item)[0];
    Shown s = shown[input];
    if (!item.op->view(item.attributes, p.shape(input), shape, s.layout)) {
      // Its input is copied first: a new root.
      r.keep(i);
      continue;
    }
    for (int axis = 0; axis < max_rank; ++axis)
      if (axis >= shape.rank() || shape[axis] == 1) s.layout.strides[static_cast<std::size_t>(axis)] = 0;
    const Item& root = p.items[s.root];
    if (root.shape == item.shape && root.dtype == item.dtype &&
        same_strides(shape, s.layout, shown[s.root].layout)) {
      r.replace(i, r.of(s.root));
      shown[i] = shown[s.root];
      changed = true;
      continue;
    }
    shown[i] = s;
    const auto [at, fresh] =
        first.emplace(std::tuple(s.root, item.shape, s.layout.offset, s.layout.strides), i);
    if (fresh) {
      r.keep(i);
    } else {
      r.replace(i, r.of(at->second));
      changed = true;
    }
  }
  if (changed) p = r.finish();
}

}  // namespace opgrad
