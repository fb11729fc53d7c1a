// The order of steps. Boost.Graph's topological sort gives one, capture another; the peaks of both are
// simulated, and the lower one wins.
#include <algorithm>

#include "passes.h"

namespace opgrad {
namespace {

// The item whose memory a movement shows; others show their own.
std::vector<std::uint32_t> roots(const Program& p) {
  std::vector<std::uint32_t> root(p.items.size());
  for (std::uint32_t i = 0; i < root.size(); ++i) {
    const Item& item = p.items[i];
    root[i] =
        item.kind == ItemKind::op && has(item.op->traits, Traits::movement) ? root[p.inputs_of(item)[0]] : i;
  }
  return root;
}

// The largest sum of bytes that are written and still needed, were every step to run by itself.
std::size_t peak(const Program& p, const std::vector<std::uint32_t>& order,
                 const std::vector<std::uint32_t>& root) {
  std::vector<std::uint32_t> last(p.items.size(), 0);
  for (std::uint32_t k = 0; k < order.size(); ++k)
    for (const std::uint32_t input : p.inputs_of(p.items[order[k]])) last[root[input]] = k;
  for (const Output& o : p.outputs) last[root[o.item]] = static_cast<std::uint32_t>(order.size());
  std::vector<std::size_t> freed(order.size() + 1, 0);
  std::size_t live = 0, most = 0;
  for (std::uint32_t k = 0; k < order.size(); ++k) {
    const std::uint32_t i = order[k];
    if (root[i] == i) {
      live += p.bytes_of(p.items[i]);
      freed[std::max(last[i], k)] += p.bytes_of(p.items[i]);
    }
    most = std::max(most, live);
    live -= freed[k];
  }
  return most;
}

}  // namespace

void order_for_low_peak(Program& p) {
  std::vector<bool> in_tail(p.items.size(), false);
  for (std::size_t k = p.tail; k < p.order.size(); ++k) in_tail[p.order[k]] = true;
  std::vector<std::uint32_t> sorted;
  const std::vector<std::uint32_t> topological = topological_order(p);
  for (const bool tail : {false, true})
    for (const std::uint32_t i : topological)
      if (p.items[i].kind == ItemKind::op && in_tail[i] == tail) sorted.push_back(i);
  const std::vector<std::uint32_t> root = roots(p);
  if (peak(p, sorted, root) < peak(p, p.order, root)) p.order = std::move(sorted);
}

}  // namespace opgrad
