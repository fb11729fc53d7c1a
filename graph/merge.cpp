// Common subexpressions: equal operations with equal attributes on equal inputs become one, and so do equal
// known numbers. Random draws take their key as an input, so draws with different keys stay apart.
#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "passes.h"

namespace opgrad {
namespace {

// The first of all items that are equal to an item, found in a table of items with linear probing, at most
// half full.
class Merging {
 public:
  explicit Merging(const Program& p)
      : p_(p), first_(p.items.size()), table_(std::bit_ceil(2 * p.items.size() + 1), no_index) {}

  std::vector<std::uint32_t> run() {
    for (std::uint32_t i = 0; i < p_.items.size(); ++i) {
      const Item& item = p_.items[i];
      const bool comparable = item.kind == ItemKind::op ||
                              (item.kind == ItemKind::number && p_.numbers[item.place].captured == no_index);
      first_[i] = comparable ? find_or_add(i) : i;
    }
    return std::move(first_);
  }

 private:
  std::uint32_t find_or_add(std::uint32_t i) {
    describe(i, words_);
    std::uint64_t h = words_.size();
    for (const std::uint64_t w : words_) h = (h ^ w ^ (h >> 29)) * 0x9fb21c651e98df25u;
    h = (h ^ (h >> 32)) * 0x9fb21c651e98df25u;  // whole numbers have no low bits
    for (std::size_t at = h ^ (h >> 32);; ++at) {
      std::uint32_t& known = table_[at & (table_.size() - 1)];
      if (known == no_index) return known = i;
      describe(known, others_);
      if (others_ == words_) return known;
    }
  }

  // All that decides an item's value, as words.
  void describe(std::uint32_t i, Words& words) const {
    const Item& item = p_.items[i];
    words.clear();
    words.push_back(static_cast<std::uint64_t>(item.kind) | std::uint64_t(item.dtype) << 8 |
                    std::uint64_t{item.shape} << 32);
    if (item.kind != ItemKind::op) {
      words.push_back(std::bit_cast<std::uint64_t>(p_.numbers[item.place].value));
      return;
    }
    words.push_back(reinterpret_cast<std::uintptr_t>(item.op));
    for (const std::uint32_t input : p_.inputs_of(item)) words.push_back(first_[input]);
    if (item.count == 2 && has(item.op->traits, Traits::commutative)) std::sort(words.end() - 2, words.end());
    if (item.attributes) item.op->attributes->words(item.attributes, words);
  }

  const Program& p_;
  std::vector<std::uint32_t> first_, table_;
  Words words_, others_;
};

}  // namespace

void merge_equal(Program& p) {
  std::vector<std::uint32_t> first = Merging(p).run();  // its table has gone when the program is changed
  keep_representatives(p, std::move(first));
}

}  // namespace opgrad
