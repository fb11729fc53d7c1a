// Memory that holds names of elements instead of numbers: what the checker of plans computes with.
#pragma once
#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "../graph/plan.h"

namespace opgrad::test {

// Which value's which element: source << 32 | element. A source is an item, or an input, a constant, a
// number.
using Label = std::uint64_t;
inline constexpr Label nothing = ~Label{0};
inline constexpr std::uint32_t of_slot = 0x80000000u, of_constant = 0xc0000000u, of_number = 0xe0000000u;

// The parts one after the other, numbers as digits.
template <class... A>
std::string words(const A&... a) {
  std::ostringstream s;
  (s << ... << a);
  return s.str();
}

inline std::string text(Label l) {
  if (l == nothing) return "nothing";
  const auto source = static_cast<std::uint32_t>(l >> 32), e = static_cast<std::uint32_t>(l);
  const std::string element = "element " + std::to_string(e) + " of ";
  if ((source & of_number) == of_number) return "number " + std::to_string(source & ~of_number);
  if ((source & of_constant) == of_constant)
    return element + "constant " + std::to_string(source & ~of_constant);
  if (source & of_slot) return element + "input " + std::to_string(source & ~of_slot);
  return element + "%" + std::to_string(source);
}

// One block of memory, in cells of as many bytes as the smallest element that ever lies there.
struct Region {
  std::string name{};
  std::size_t bytes = 0, cell = 8;
  std::vector<Label> labels{};
  // When a cell was last read and written: by which unit of a step, and for which element of a part.
  struct Stamp {
    std::uint32_t unit = 0, element = 0;
  };
  std::vector<Stamp> read{}, written{};
  bool donated = false;

  void open() {
    const std::size_t count = (bytes + cell - 1) / cell;
    labels.assign(count, nothing);
    read.assign(count, {});
    written.assign(count, {});
  }
};

// Calls f(e, offset) for elements [begin, end) of a view in row-major order, offset in elements.
template <class F>
void walk(const Shape& shape, const std::array<std::int64_t, max_rank>& strides, std::int64_t begin,
          std::int64_t end, F&& f) {
  if (begin >= end) return;
  std::array<std::int64_t, max_rank> at{};
  std::int64_t offset = 0, rest = begin;
  for (int a = shape.rank(); a-- > 0; rest /= shape[a]) {
    const auto k = static_cast<std::size_t>(a);
    at[k] = rest % shape[a];
    offset += at[k] * strides[k];
  }
  for (std::int64_t e = begin; e < end; ++e) {
    f(e, offset);
    for (int a = shape.rank(); a-- > 0;) {
      const auto k = static_cast<std::size_t>(a);
      offset += strides[k];
      if (++at[k] < shape[a]) break;
      offset -= at[k] * strides[k];
      at[k] = 0;
    }
  }
}

// What the items of a program mean: element e of a view is some element of the value at the root of its
// views.
class Meaning {
 public:
  // Throws InternalError when a view rule refuses a dense input.
  explicit Meaning(const Program& p) : source_(p.items.size()), elements_(p.items.size()) {
    for (std::uint32_t i = 0; i < p.items.size(); ++i) {
      const Item& item = p.items[i];
      source_[i] = item.kind == ItemKind::slot       ? of_slot | item.place
                   : item.kind == ItemKind::constant ? of_constant | item.place
                   : item.kind == ItemKind::number   ? of_number | item.place
                                                     : i;
      if (item.kind != ItemKind::op || !has(item.op->traits, Traits::movement)) continue;
      const std::uint32_t in = p.inputs_of(item)[0];
      Layout layout{0, dense_strides(p.shape(in))};
      if (!item.op->view(item.attributes, p.shape(in), p.shape(i), layout))
        throw InternalError("the view rule of %" + std::to_string(i) + " refuses a dense input");
      source_[i] = source_[in];
      std::vector<std::uint32_t>& to = elements_[i];
      to.reserve(static_cast<std::size_t>(p.shape(i).numel()));
      walk(p.shape(i), layout.strides, 0, p.shape(i).numel(),
           [&](std::int64_t, std::int64_t offset) { to.push_back(element(in, layout.offset + offset)); });
    }
  }
  Label operator()(std::uint32_t item, std::int64_t e) const {
    return Label{source_[item]} << 32 | element(item, e);
  }

 private:
  std::uint32_t element(std::uint32_t item, std::int64_t e) const {
    if ((source_[item] & of_number) == of_number) return 0;
    const auto& list = elements_[item];
    return list.empty() ? static_cast<std::uint32_t>(e) : list[static_cast<std::size_t>(e)];
  }

  std::vector<std::uint32_t> source_;
  std::vector<std::vector<std::uint32_t>> elements_;
};

}  // namespace opgrad::test
