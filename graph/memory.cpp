// Two ways to place: best fit over events in order of time, with a free list that joins neighbours; and, for
// programs of ordinary size, the largest first into the smallest gap that its neighbours in time leave.
#include "memory.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace opgrad {
namespace {

// Free space inside the arena; the arena grows when nothing fits.
class FreeList {
 public:
  std::size_t take(std::size_t bytes) {
    if (const auto fit = by_size_.lower_bound({bytes, 0}); fit != by_size_.end()) {
      const auto [size, offset] = *fit;
      remove(offset, size);
      if (size > bytes) add(offset + bytes, size - bytes);
      return offset;
    }
    // Nothing fits: let the free space at the end, if any, be the start of the new block.
    std::size_t offset = end_;
    if (!by_offset_.empty()) {
      const auto [start, size] = *by_offset_.rbegin();
      if (start + size == end_) {
        remove(start, size);
        offset = start;
      }
    }
    end_ = offset + bytes;
    return offset;
  }

  void give(std::size_t offset, std::size_t bytes) {
    auto next = by_offset_.lower_bound(offset);
    if (next != by_offset_.end() && next->first == offset + bytes) {
      bytes += next->second;
      const auto [o, s] = *next;
      ++next;
      remove(o, s);
    }
    if (next != by_offset_.begin()) {
      const auto [o, s] = *std::prev(next);
      if (o + s == offset) {
        remove(o, s);
        offset = o;
        bytes += s;
      }
    }
    add(offset, bytes);
  }

  std::size_t end() const { return end_; }

 private:
  void add(std::size_t offset, std::size_t size) {
    by_offset_.emplace(offset, size);
    by_size_.emplace(size, offset);
  }
  void remove(std::size_t offset, std::size_t size) {
    by_offset_.erase(offset);
    by_size_.erase({size, offset});
  }

  std::map<std::size_t, std::size_t> by_offset_;
  std::set<std::pair<std::size_t, std::size_t>> by_size_;
  std::size_t end_ = 0;
};

std::size_t rounded(std::size_t bytes) { return std::max<std::size_t>((bytes + 63) / 64 * 64, 64); }

std::size_t place_in_time(std::vector<Lifetime>& lifetimes, std::size_t& lower_bound) {
  std::vector<std::uint32_t> by_begin(lifetimes.size()), by_end(lifetimes.size());
  std::iota(by_begin.begin(), by_begin.end(), 0u);
  by_end = by_begin;
  std::ranges::stable_sort(by_begin, [&](auto a, auto b) { return lifetimes[a].begin < lifetimes[b].begin; });
  std::ranges::stable_sort(by_end, [&](auto a, auto b) { return lifetimes[a].end < lifetimes[b].end; });

  FreeList free;
  std::size_t live = 0, ended = 0;
  lower_bound = 0;
  for (const std::uint32_t i : by_begin) {
    Lifetime& l = lifetimes[i];
    for (; ended < by_end.size() && lifetimes[by_end[ended]].end < l.begin; ++ended) {
      const Lifetime& gone = lifetimes[by_end[ended]];
      free.give(gone.offset, rounded(gone.bytes));
      live -= rounded(gone.bytes);
    }
    l.offset = free.take(rounded(l.bytes));
    live += rounded(l.bytes);
    lower_bound = std::max(lower_bound, live);
  }
  return free.end();
}

// Comparing every pair is fast up to this many.
constexpr std::size_t most_for_pairs = 2000;

// The order of placing decides: `before` says which of two goes first.
template <class Before>
std::size_t place_in_gaps(std::vector<Lifetime>& lifetimes, Before before) {
  std::vector<std::uint32_t> order(lifetimes.size()), placed;
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, [&](auto a, auto b) { return before(lifetimes[a], lifetimes[b]); });
  std::size_t end = 0;
  for (const std::uint32_t i : order) {
    Lifetime& l = lifetimes[i];
    const std::size_t bytes = rounded(l.bytes);
    std::size_t at = 0, best = ~std::size_t{0}, smallest = ~std::size_t{0};
    for (const std::uint32_t other : placed) {  // by offset
      const Lifetime& o = lifetimes[other];
      if (o.end < l.begin || l.end < o.begin) continue;
      if (o.offset >= at + bytes && o.offset - at < smallest) {
        smallest = o.offset - at;
        best = at;
      }
      at = std::max(at, o.offset + rounded(o.bytes));
    }
    l.offset = best == ~std::size_t{0} ? at : best;
    end = std::max(end, l.offset + bytes);
    placed.insert(std::ranges::upper_bound(placed, l.offset, {}, [&](auto k) { return lifetimes[k].offset; }),
                  i);
  }
  return end;
}

}  // namespace

std::size_t place(std::vector<Lifetime>& lifetimes, std::size_t& lower_bound) {
  std::size_t smallest = place_in_time(lifetimes, lower_bound);
  if (smallest == lower_bound || lifetimes.size() > most_for_pairs) return smallest;
  std::vector<Lifetime> other = lifetimes;
  const auto try_order = [&](auto before) {
    if (smallest == lower_bound) return;
    if (const std::size_t end = place_in_gaps(other, before); end < smallest) {
      smallest = end;
      lifetimes = other;
    }
  };
  const auto span = [](const Lifetime& l) { return l.bytes * (l.end - l.begin + 1); };
  try_order([](const Lifetime& a, const Lifetime& b) { return a.bytes > b.bytes; });
  try_order([&](const Lifetime& a, const Lifetime& b) { return span(a) > span(b); });
  try_order([](const Lifetime& a, const Lifetime& b) { return a.end - a.begin > b.end - b.begin; });
  return smallest;
}

}  // namespace opgrad
