// The order of steps. Capture gives one, Boost.Graph's topological sort another, and a third takes of all
// steps that could be next the one that leaves the fewest bytes alive; their peaks are simulated, and the
// lowest wins.
#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "passes.h"
#include "views.h"

namespace opgrad {
namespace {

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

// Looking at the choices again and again is not worth it beyond this many steps.
constexpr std::size_t most_for_greedy = 20'000;

// Of the steps that are ready, the one after which the fewest bytes more are alive; of equals, the first.
std::vector<std::uint32_t> greedy(const Program& p, const std::vector<bool>& in_tail,
                                  const std::vector<std::uint32_t>& root) {
  const Users users(p);
  std::vector<std::uint32_t> waits(p.items.size(), 0), readers(p.items.size(), 0), order;
  for (const std::uint32_t i : p.order)
    for (const std::uint32_t in : p.inputs_of(p.items[i])) {
      waits[i] += p.items[in].kind == ItemKind::op;
      ++readers[root[in]];
    }
  for (const Output& o : p.outputs) ++readers[root[o.item]];
  const auto growth = [&](std::uint32_t i) {
    auto bytes = root[i] == i ? static_cast<std::int64_t>(p.bytes_of(p.items[i])) : 0;
    const auto inputs = p.inputs_of(p.items[i]);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const std::uint32_t r = root[inputs[k]];
      if (p.items[r].kind != ItemKind::op) continue;
      std::uint32_t here = 0;
      bool first = true;
      for (std::size_t m = 0; m < inputs.size(); ++m) {
        here += root[inputs[m]] == r;
        first = first && (m >= k || root[inputs[m]] != r);
      }
      if (first && readers[r] == here) bytes -= static_cast<std::int64_t>(p.bytes_of(p.items[r]));
    }
    return bytes;
  };
  using Choice = std::pair<std::int64_t, std::uint32_t>;
  std::priority_queue<Choice, std::vector<Choice>, std::greater<>> ready[2];
  const auto offer = [&](std::uint32_t i) { ready[in_tail[i]].emplace(growth(i), i); };
  for (const std::uint32_t i : p.order)
    if (waits[i] == 0) offer(i);
  for (auto& side : ready)
    while (!side.empty()) {
      const auto [bytes, i] = side.top();
      side.pop();
      // What it frees may have changed since; then it is offered again.
      if (const std::int64_t now = growth(i); now != bytes) {
        side.emplace(now, i);
        continue;
      }
      order.push_back(i);
      for (const std::uint32_t in : p.inputs_of(p.items[i])) --readers[root[in]];
      for (const std::uint32_t user : users.of(i))
        if (--waits[user] == 0) offer(user);
    }
  return order;
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
  std::vector<std::uint32_t> root(p.items.size());  // the item whose memory each item shows
  {
    const ShownItems shown(p);
    for (std::uint32_t i = 0; i < p.items.size(); ++i) root[i] = shown[i].root;
  }
  std::size_t lowest = peak(p, p.order, root);
  const auto try_order = [&](std::vector<std::uint32_t> order) {
    const std::size_t bytes = peak(p, order, root);
    if (bytes >= lowest) return;
    lowest = bytes;
    p.order = std::move(order);
  };
  if (p.order.size() <= most_for_greedy) try_order(greedy(p, in_tail, root));
  try_order(std::move(sorted));
}

}  // namespace opgrad
