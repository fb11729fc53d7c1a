// Reductions that read a group's result piece by piece as the group makes it, so that it is never written to
// memory.
#include <algorithm>
#include <vector>

#include "passes.h"
#include "views.h"

namespace opgrad {
namespace {

// Smaller values stay in cache anyway.
constexpr std::int64_t fewest_elements = std::int64_t{1} << 18;

// Nobody but `reader` looks at `value`, directly or through views.
bool read_by_one(const Program& p, const ShownItems& shown, const Users& users,
                 const std::vector<bool>& is_output, std::uint32_t value, std::uint32_t reader) {
  std::vector<std::uint32_t> views{value};
  while (!views.empty()) {
    const std::uint32_t view = views.back();
    views.pop_back();
    if (is_output[view]) return false;
    for (const std::uint32_t user : users.of(view)) {
      if (is_view(p, shown, user))
        views.push_back(user);
      else if (user != reader)
        return false;
    }
  }
  return true;
}

}  // namespace

void feed_reductions(Program& p) {
  const ShownItems shown(p);
  const Users users(p);
  std::vector<bool> is_output(p.items.size(), false);
  for (const Output& o : p.outputs) is_output[o.item] = true;
  std::vector<std::uint32_t> epilogues;
  for (const Item& item : p.items)
    if (item.epilogue != no_index) epilogues.push_back(item.epilogue);
  std::ranges::sort(epilogues);
  std::uint32_t group = no_index;  // of the step that came last, if it is nothing but a group
  for (std::uint32_t k = 0; k < p.order.size(); ++k) {
    const std::uint32_t i = p.order[k];
    Item& item = p.items[i];
    if (k == p.tail) group = no_index;
    if (is_view(p, shown, i)) continue;
    if (item.group == no_index && group != no_index && item.op->forward.consumes_pieces && item.count == 1) {
      const std::uint32_t in = p.inputs_of(item)[0], value = shown[in].root;
      const std::int64_t numel = p.shape(in).numel();
      if (p.items[value].group == group && shows_all_in_order(p, shown, in) && p.shape(i).numel() < numel &&
          (numel >= fewest_elements || thorough()) && read_by_one(p, shown, users, is_output, value, i))
        item.consumes = group;
    }
    group =
        item.group != no_index && !std::ranges::binary_search(epilogues, item.group) ? item.group : no_index;
  }
}

}  // namespace opgrad
