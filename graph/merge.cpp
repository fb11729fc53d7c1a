// Common subexpressions: equal operations with equal attributes on equal inputs become one, and so do equal
// known numbers. Random draws take their key as an input, so draws with different keys stay apart.
#include <algorithm>
#include <bit>
#include <unordered_map>

#include "passes.h"

namespace opgrad {
namespace {

// All that decides an item's value, as words.
void describe(const Program& p, const Item& item, const Rewrite& r, Words& words) {
  words.clear();
  words.push_back(static_cast<std::uint64_t>(item.kind) | std::uint64_t(item.dtype) << 8 |
                  std::uint64_t{item.shape} << 32);
  if (item.kind != ItemKind::op) {
    words.push_back(std::bit_cast<std::uint64_t>(p.numbers[item.place].value));
    return;
  }
  words.push_back(reinterpret_cast<std::uintptr_t>(item.op));
  for (const std::uint32_t input : p.inputs_of(item)) words.push_back(r.of(input));
  if (item.count == 2 && has(item.op->traits, Traits::commutative)) std::sort(words.end() - 2, words.end());
  if (item.attributes) item.op->attributes->words(item.attributes, words);
}

struct Hash {
  std::size_t operator()(const Words& words) const {
    std::uint64_t h = words.size();
    for (const std::uint64_t w : words) h = (h ^ w ^ (h >> 29)) * 0x9fb21c651e98df25u;
    return h ^ (h >> 32);
  }
};

}  // namespace

void merge_equal(Program& p) {
  Rewrite r(p);
  std::unordered_map<Words, std::uint32_t, Hash> known;
  known.reserve(p.items.size());
  Words words;
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    const bool comparable = item.kind == ItemKind::op ||
                            (item.kind == ItemKind::number && p.numbers[item.place].captured == no_index);
    if (!comparable) {
      r.keep(i);
      continue;
    }
    describe(p, item, r, words);
    if (const auto found = known.find(words); found != known.end())
      r.replace(i, found->second);
    else
      known.emplace(words, r.keep(i));
  }
  p = r.finish();
}

}  // namespace opgrad
