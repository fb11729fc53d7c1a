// The memory of a plan, filled with labels, and the accesses to it, each checked.
#pragma once
#include <utility>

#include "live_labels.h"

namespace opgrad::test {

// Enough faults were found.
struct Stop {};

// Rows [begin, begin + count) of a row group's operands; all of everything where count is -1.
struct RowRange {
  std::int64_t begin = 0, count = -1;
};
class LiveMemory {
 protected:
  LiveMemory(const Plan& plan, std::size_t most) : plan_(plan), p_(plan.program), most_(most), meant_(p_) {}

  template <class... A>
  void fault(const A&... a) {
    faults_.push_back(words("step ", step_, ": ", a...));
    if (faults_.size() >= most_) throw Stop{};
  }

  Region* given(const Item& item) {
    if (item.kind == ItemKind::op) return nullptr;
    auto& list = item.kind == ItemKind::slot       ? slots_
                 : item.kind == ItemKind::constant ? constants_
                                                   : numbers_;
    return item.place < list.size() ? &list[item.place] : nullptr;
  }

  void open_regions() {
    slots_.resize(p_.slots);
    outputs_.resize(plan_.outputs.size());
    constants_.resize(p_.constants.size());
    numbers_.resize(p_.numbers.size());
    arena_.name = "the arena";
    arena_.bytes = plan_.arena_bytes;
    block_.name = "a block";
    for (const PlanStep& s : plan_.steps) block_.bytes = std::max(block_.bytes, s.scratch);
    for (std::size_t k = 0; k < plan_.outputs.size(); ++k) {
      outputs_[k].name = words("output ", k);
      outputs_[k].bytes = plan_.outputs[k].bytes;
    }
    for (const Item& item : p_.items)
      if (Region* r = given(item)) {
        r->bytes = item.kind == ItemKind::number ? size_of(item.dtype) : p_.bytes_of(item);
        r->name = words("given memory ", item.place);
        r->cell = size_of(item.dtype);
      }
    for (const PlanOutput& o : plan_.outputs)
      if (o.donor < slots_.size() && slots_[o.donor].bytes == 0) slots_[o.donor].bytes = o.bytes;
    for (const PlanOperand& o : plan_.operands) {
      if (Region* r = find(o)) r->cell = std::min(r->cell, size_of(o.dtype));
      if (o.pattern >= 0) arena_.cell = std::min(arena_.cell, size_of(o.dtype));
    }
    arena_.open();
    block_.open();
    for (auto* list : {&slots_, &outputs_, &constants_, &numbers_})
      for (Region& r : *list) r.open();
    for (std::uint32_t i = 0; i < p_.items.size(); ++i)
      if (Region* r = given(p_.items[i])) {
        const std::size_t per = size_of(p_.items[i].dtype) / r->cell;
        for (std::size_t c = 0; c < r->labels.size(); ++c)
          r->labels[c] = meant_(i, static_cast<std::int64_t>(c / per));
      }
  }

  Region* find(const PlanOperand& o) {
    const auto at = [&](std::vector<Region>& list) {
      return o.index < list.size() ? &list[o.index] : nullptr;
    };
    switch (o.base) {
      case Base::arena:
        return &arena_;
      case Base::slot:
        return at(slots_);
      case Base::output:
        if (o.index < plan_.outputs.size() && plan_.outputs[o.index].donor < slots_.size())
          return &slots_[plan_.outputs[o.index].donor];
        return at(outputs_);
      case Base::number:
        return at(numbers_);
      case Base::constant:
        return at(constants_);
      case Base::block:
        return &block_;
      default:
        return nullptr;
    }
  }

  // Calls f(cell) for the cells of one element; says where it is out of bounds.
  template <class F>
  void cells(Region& r, std::int64_t byte, DType dtype, F&& f) {
    const auto size = static_cast<std::int64_t>(size_of(dtype)), cell = static_cast<std::int64_t>(r.cell);
    if (byte < 0 || byte + size > static_cast<std::int64_t>(r.bytes))
      return fault("byte ", byte, " of ", r.name, ", which has ", r.bytes, ", is out of bounds");
    if (byte % size != 0) return fault("byte ", byte, " of ", r.name, " is no place for ", name_of(dtype));
    for (std::int64_t c = byte / cell; c < (byte + size) / cell; ++c) f(static_cast<std::size_t>(c));
  }

  const std::array<std::int64_t, max_rank>& strides(const PlanOperand& o) const {
    return plan_.layouts[o.layout];
  }
  static std::int64_t numel(const PlanOperand& o) { return shape_of(o.shape).numel(); }

  bool typed(const PlanOperand& o, std::uint32_t item) {
    if (o.dtype == p_.items[item].dtype && o.shape == p_.items[item].shape) return true;
    fault("an operand is ", to_string(Type{o.dtype, shape_of(o.shape)}), ", and %", item, " is ",
          to_string(Type{p_.items[item].dtype, p_.shape(item)}));
    return false;
  }

  // The elements that an operand shows: of a block of rows, or all.
  std::pair<std::int64_t, std::int64_t> shown(const PlanOperand& o, RowRange rows) const {
    if (!o.cut || rows.count < 0) return {0, numel(o)};
    const std::int64_t row = numel(o) / std::max<std::int64_t>(shape_of(o.shape)[0], 1);
    return {rows.begin * row, (rows.begin + rows.count) * row};
  }

  std::int64_t byte_of(const PlanOperand& o, std::int64_t offset, RowRange rows) const {
    if (o.base == Base::block) offset -= rows.begin * strides(o)[0];
    return o.offset + offset * static_cast<std::int64_t>(size_of(o.dtype));
  }

  // When the present access happens: the units of a step run in any order, and so do the elements of a part
  // that is a group; `whole` stands for all of them.
  struct Now {
    std::uint32_t unit;
    bool by_element;
  };
  std::uint32_t stamp(Now now, std::int64_t e) const {
    return part_began_ + (now.by_element ? 1 + static_cast<std::uint32_t>(e) : 0);
  }
  bool disordered(const Region::Stamp& s, Now now, std::int64_t e) const {
    return (s.unit >= step_began_ && s.unit != now.unit) ||
           (s.unit == now.unit && s.element >= part_began_ && s.element != stamp(now, e));
  }

  void read(const PlanOperand& o, std::uint32_t item, std::int64_t begin, std::int64_t end, RowRange rows,
            Now now, std::vector<Label>* taken = nullptr) {
    if (!typed(o, item)) return;
    Region* const r = find(o);
    if (!r) return fault("%", item, " is read from no memory");
    walk(shape_of(o.shape), strides(o), begin, end, [&](std::int64_t e, std::int64_t offset) {
      const Label wanted = meant_(item, e);
      if (taken) taken->push_back(wanted);
      cells(*r, byte_of(o, offset, rows), o.dtype, [&](std::size_t c) {
        if (r->labels[c] != wanted)
          fault("reads element ", e, " of %", item, ", ", text(wanted), ", where ", r->name, " holds ",
                text(r->labels[c]));
        if (disordered(r->written[c], now, e))
          fault("element ", e, " of %", item, " is written in the same step, in no order");
        r->read[c] = {now.unit, stamp(now, e)};
      });
    });
  }

  template <class F>
  void write(const PlanOperand& o, std::uint32_t item, std::int64_t begin, std::int64_t end, RowRange rows,
             Now now, F&& label) {
    Region* const r = find(o);
    if (!r || o.base == Base::slot || o.base == Base::number || o.base == Base::constant)
      return fault("%", item, " is written into what is only read");
    if (r->donated && step_ < plan_.tail) return fault("%", item, " overwrites a donor before the tail");
    walk(shape_of(o.shape), strides(o), begin, end, [&](std::int64_t e, std::int64_t offset) {
      cells(*r, byte_of(o, offset, rows), o.dtype, [&](std::size_t c) {
        if (disordered(r->written[c], now, e) || disordered(r->read[c], now, e))
          fault("element ", e, " of %", item, " is written where the same step reads or writes, in no order");
        r->labels[c] = label(e);
        r->written[c] = {now.unit, stamp(now, e)};
      });
    });
  }

  const Plan& plan_;
  const Program& p_;
  std::size_t most_;
  Meaning meant_;
  std::vector<std::string> faults_;
  Region arena_, block_;
  std::vector<Region> slots_, outputs_, constants_, numbers_;
  std::size_t step_ = 0;
  std::uint32_t unit_ = 0, step_began_ = 0;      // of blocks of rows, or whole steps
  std::uint32_t elements_ = 0, part_began_ = 0;  // of elements within a part
};

}  // namespace opgrad::test
