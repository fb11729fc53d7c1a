// Every byte of arena, inputs and outputs has a label: which value's which element lies there. A read asks
// that each byte carries the label of what the program says is read.
#include "live_ranges.h"

#include "../graph/key.h"
#include "live_memory.h"

namespace opgrad::test {
namespace {
class Checker : LiveMemory {
 public:
  Checker(const Plan& plan, std::size_t most) : LiveMemory(plan, most) {}

  std::vector<std::string> run() {
    try {
      open_regions();
      look_at_donors();
      for (step_ = 0; step_ < plan_.steps.size(); ++step_) {
        if (step_ == plan_.tail) loss_is_there();
        step(plan_.steps[step_]);
      }
      if (plan_.tail >= plan_.steps.size()) loss_is_there();
      for (std::uint32_t k = 0; k < plan_.outputs.size(); ++k) complete(k);
    } catch (const Stop&) {
    }
    return std::move(faults_);
  }

 private:
  // ------------------------------------------------------------------------------------------ steps

  void step(const PlanStep& s) {
    step_began_ = ++unit_;
    if (s.rows <= 0) {
      patterns(s);
      part(s, {}, Now{unit_, true});
      return;
    }
    for (std::uint32_t k = 0; k < s.count; ++k) {
      patterns(plan_.parts[s.first + k]);
      begin_folding(s, plan_.parts[s.first + k]);
    }
    for (std::int64_t begin = 0; begin < s.rows; begin += s.block, ++unit_) {
      block_.open();  // each block has memory of its own
      for (std::uint32_t k = 0; k < s.count; ++k) {
        const PlanStep& p = plan_.parts[s.first + k];
        const RowRange rows{begin, std::min(s.block, s.rows - begin)};
        if (plan_.folds_rows(p)) {
          fold_rows(plan_.calls[p.head], rows);
          continue;
        }
        if (p.head != no_index && plan_.calls[p.head].workspace >= 0 && s.rows > s.block &&
            !plan_.calls[p.head].op->prepare)
          fault("blocks of rows share a workspace that they write");
        part(p, rows, Now{unit_, true});
      }
    }
    for (std::uint32_t k = 0; k < s.count; ++k)
      if (const PlanStep& p = plan_.parts[s.first + k]; plan_.folds_rows(p)) meet(plan_.calls[p.head]);
  }

  // ------------------------------------------------------------------------------------------ over rows

  static Label parts_of(std::uint32_t item) { return Label{item} << 32 | ~std::uint32_t{0}; }

  // The memory of the parts is nobody else's from the first block of rows until they meet.
  void begin_folding(const PlanStep& s, const PlanStep& part) {
    if (!plan_.folds_rows(part)) return;
    const PlanCall& c = plan_.calls[part.head];
    if (!c.op || !c.op->over_rows.rows || part.count > 0)
      return fault("%", c.item, " cannot be folded over blocks of rows");
    const std::int64_t rows = by_rule(c, c.op->over_rows.rows);
    if (rows <= 0 || (s.block < s.rows && s.block % rows != 0))
      return fault("%", c.item, " is folded in parts of ", rows, " rows, which blocks of ", s.block, " cut");
    if (c.workspace < 0) return fault("%", c.item, " has no memory for its parts");
    const std::int64_t bytes = by_rule(c, c.op->over_rows.workspace);
    overlaps_result(c, bytes);
    label(c.workspace, bytes, parts_of(c.item));
  }

  void fold_rows(const PlanCall& c, RowRange rows) {
    part_began_ = ++elements_;
    const auto inputs = p_.inputs_of(p_.items[c.item]);
    for (std::uint32_t k = 0; k < c.inputs; ++k) {
      const PlanOperand& o = plan_.operands[c.operands + k];
      if (!o.cut) return fault("%", c.item, " is folded over rows of what is not cut");
      const auto [from, to] = shown(o, rows);
      read(o, inputs[k], from, to, rows, Now{unit_, false});
    }
    look_at_parts(c);
  }

  void look_at_parts(const PlanCall& c) {
    for_cells(c.workspace, by_rule(c, c.op->over_rows.workspace), [&](Label& l) {
      if (l != parts_of(c.item)) fault("the parts of %", c.item, " are overwritten by ", text(l));
    });
  }

  void meet(const PlanCall& c) {
    part_began_ = ++elements_;
    look_at_parts(c);
    label(c.workspace, by_rule(c, c.op->over_rows.workspace), nothing);
    const PlanOperand& out = plan_.operands[c.operands + c.inputs];
    if (typed(out, c.item))
      write(out, c.item, 0, numel(out), {}, Now{++unit_, false},
            [&](std::int64_t e) { return meant_(c.item, e); });
  }

  // What a rule of the record says of the call.
  template <class R>
  std::int64_t by_rule(const PlanCall& c, R (*rule)(const Call&)) {
    const Item& item = p_.items[c.item];
    std::vector<Tensor> shells;
    std::vector<Node*> nodes;
    for (const std::uint32_t in : p_.inputs_of(item)) {
      shells.push_back(leaf({}, p_.items[in].dtype, p_.shape(in), {}));
      nodes.push_back(shells.back().node());
    }
    return static_cast<std::int64_t>(rule(Call{*c.op, nodes, item.attributes}));
  }

  // ------------------------------------------------------------------------------------------ parts

  void part(const PlanStep& s, RowRange rows, Now now) {
    part_began_ = elements_ + 1;
    elements_ = part_began_;
    if (s.head != no_index) head(plan_.calls[s.head], s.count > 0, rows, now);
    if (s.count > 0) group(s, rows, now);
    if (s.fold != no_index) fold(s, rows, now);
    std::vector<std::uint32_t> calls;
    for (std::uint32_t c = 0; c < s.count; ++c) calls.push_back(s.first + c);
    for (const std::uint32_t c : {s.head, s.fold})
      if (c != no_index) calls.push_back(c);
    for (const std::uint32_t c : calls)
      if (const Op* op = plan_.calls[c].op; step_ >= plan_.tail && op && !has(op->traits, Traits::nothrow))
        fault(op->name, " may throw and stands in the tail");
  }

  // A reduction writes its result while its group still works.
  void fold(const PlanStep& s, RowRange rows, Now now) {
    const PlanCall& c = plan_.calls[s.fold];
    if (!c.op || !c.op->forward.consumes_pieces || c.inputs != 1 || s.head != no_index || s.count == 0 ||
        plan_.operands[c.operands].base != Base::tile)
      return fault("%", c.item, " cannot read a group piece by piece");
    const PlanOperand& out = plan_.operands[c.operands + 1];
    const auto [begin, end] = shown(out, rows);
    if (!typed(out, c.item)) return;
    write(out, c.item, begin, end, rows, Now{now.unit, false},
          [&](std::int64_t e) { return meant_(c.item, e); });
  }

  // A kernel. Where a group runs on its pieces, it still reads while the group writes.
  void head(const PlanCall& c, bool pieces, RowRange rows, Now now) {
    const PlanOperand* const o = &plan_.operands[c.operands];
    const PlanOperand& out = o[c.inputs];
    apart(c, rows);
    const auto [begin, end] = shown(out, rows);
    elements_ = part_began_ + static_cast<std::uint32_t>(numel(out)) + 1;
    const Now all{now.unit, false};
    std::vector<Label> taken;
    const auto inputs = p_.inputs_of(p_.items[c.item]);
    if (c.op && inputs.size() != c.inputs) return fault("%", c.item, " has ", c.inputs, " operands");
    if (c.op) workspace(c);
    for (std::uint32_t k = 0; k < c.inputs; ++k) {
      const auto [from, to] = shown(o[k], rows);
      read(o[k], c.op ? inputs[k] : c.item, from, to, rows, all, &taken);
    }
    if (!typed(out, c.item)) return;
    write(out, c.item, begin, end, rows, pieces ? now : all,
          [&](std::int64_t e) { return c.op ? meant_(c.item, e) : taken[static_cast<std::size_t>(e)]; });
  }

  // The first and the last byte that an operand touches.
  std::pair<std::int64_t, std::int64_t> span(const PlanOperand& o, RowRange rows = {}) const {
    std::int64_t low = 0, high = 0;
    const Shape& s = shape_of(o.shape);
    for (int a = 0; a < s.rank(); ++a) {
      const std::int64_t size_here = a == 0 && o.base == Base::block && rows.count >= 0 ? rows.count : s[a];
      const std::int64_t reach = (size_here - 1) * strides(o)[static_cast<std::size_t>(a)];
      (reach < 0 ? low : high) += reach;
    }
    const auto size = static_cast<std::int64_t>(size_of(o.dtype));
    return {o.offset + low * size, o.offset + (high + 1) * size - 1};
  }

  // A result may lie where an input lies only if each element is read and written at one place.
  void apart(const PlanCall& c, RowRange rows) {
    const PlanOperand* const o = &plan_.operands[c.operands];
    const PlanOperand& out = o[c.inputs];
    const Shape& shape = shape_of(out.shape);
    if (out.base == Base::tile || shape.numel() == 0) return;
    for (std::uint32_t k = 0; k < c.inputs; ++k) {
      if (o[k].base == Base::tile || numel(o[k]) == 0 || find(o[k]) != find(out)) continue;
      const auto [a, b] = span(o[k], rows);
      const auto [x, y] = span(out, rows);
      if (b < x || y < a) continue;
      const bool over = c.op && (has(c.op->traits, Traits::pointwise) ||
                                 (k == 0 && c.op->in_place && c.op->in_place(c.attributes, shape)));
      bool aligned = over && o[k].offset == out.offset && size_of(o[k].dtype) == size_of(out.dtype) &&
                     o[k].shape == out.shape;
      for (int axis = 0; axis < shape.rank() && aligned; ++axis)
        aligned = shape[axis] == 1 || strides(o[k])[static_cast<std::size_t>(axis)] ==
                                          strides(out)[static_cast<std::size_t>(axis)];
      if (!aligned) fault("%", c.item, " is written over input ", k, " of the same call");
    }
  }

  // Scratch memory holds nothing before and after, and is nobody else's during the call.
  void workspace(const PlanCall& c) {
    if (c.workspace < 0 || !c.op->workspace) return;
    const std::int64_t bytes = by_rule(c, c.op->workspace);
    if (bytes == 0) return;
    overlaps_result(c, bytes);
    label(c.workspace, bytes, nothing);
  }
  void overlaps_result(const PlanCall& c, std::int64_t bytes) {
    const PlanOperand& out = plan_.operands[c.operands + c.inputs];
    if (const auto [x, y] = span(out);
        out.base == Base::arena && numel(out) > 0 && x < c.workspace + bytes && c.workspace <= y)
      fault("the workspace of %", c.item, " overlaps its result");
  }

  // Scratch memory in the arena.
  template <class F>
  void for_cells(std::int64_t begin, std::int64_t bytes, F&& f) {
    if (begin + bytes > static_cast<std::int64_t>(arena_.bytes))
      return fault("scratch memory exceeds the arena");
    const auto cell = static_cast<std::int64_t>(arena_.cell);
    for (std::int64_t c = begin / cell; c < (begin + bytes + cell - 1) / cell; ++c)
      f(arena_.labels[static_cast<std::size_t>(c)]);
  }
  void label(std::int64_t begin, std::int64_t bytes, Label l) {
    for_cells(begin, bytes, [&](Label& to) { to = l; });
  }

  // ------------------------------------------------------------------------------------------ groups

  static std::int64_t period_of(const Shape& shape, const std::array<std::int64_t, max_rank>& strides) {
    std::int64_t run = 1;
    for (int axis = shape.rank(); axis-- > 0;) {
      if (shape[axis] == 1) continue;
      if (strides[static_cast<std::size_t>(axis)] != run) break;
      run *= shape[axis];
    }
    return run;
  }

  // What repeats is written out, again and again, when the step begins.
  void patterns(const PlanStep& s) {
    for (std::uint32_t c = 0; c < s.count; ++c) {
      const PlanCall& call = plan_.calls[s.first + c];
      for (std::uint32_t k = 0; k < call.inputs; ++k) {
        const PlanOperand& o = plan_.operands[call.operands + k];
        if (o.walk != Walk::periodic) continue;
        const std::int64_t period = period_of(shape_of(o.shape), strides(o)), n = numel(o);
        const std::int64_t length = std::min(tile_elements, n) + period;
        if (o.pattern < 0) return fault("a pattern without memory");
        part_began_ = ++elements_;
        std::vector<Label> taken;
        read(o, p_.inputs_of(p_.items[call.item])[k], 0, period, {}, Now{unit_, false}, &taken);
        const auto size = static_cast<std::int64_t>(size_of(o.dtype));
        const auto [low, high] = span(o);
        if (o.base == Base::arena && low < o.pattern + length * size && o.pattern <= high)
          fault("a pattern overlaps the run that it repeats");
        label(o.pattern, length * size, nothing);
        for (std::int64_t e = 0; e < length && !taken.empty(); ++e)
          cells(arena_, o.pattern + e * size, o.dtype,
                [&](std::size_t c2) { arena_.labels[c2] = taken[static_cast<std::size_t>(e % period)]; });
      }
    }
  }

  // One input of a member for elements [begin, end), counted in the whole value; `first` is where the block
  // of rows begins.
  void lane(const PlanOperand& o, std::uint32_t in, std::int64_t begin, std::int64_t end, std::int64_t first,
            RowRange rows, Now now) {
    if (o.walk != Walk::periodic) {
      if (o.walk == Walk::dense && period_of(shape_of(o.shape), strides(o)) != numel(o))
        fault("%", in, " is walked densely and is not dense");
      return read(o, in, begin, end, rows, now);
    }
    const std::int64_t period = period_of(shape_of(o.shape), strides(o));
    for (std::int64_t tile = begin; tile < end; tile += tile_elements)
      for (std::int64_t e = tile; e < std::min(tile + tile_elements, end); ++e) {
        const std::int64_t at = (tile - first) % period + e - tile;
        cells(arena_, o.pattern + at * static_cast<std::int64_t>(size_of(o.dtype)), o.dtype,
              [&](std::size_t c) {
                if (arena_.labels[c] != meant_(in, e))
                  fault("the pattern of %", in, " holds ", text(arena_.labels[c]), " for its element ", e);
              });
      }
  }

  // As the executor does: all calls on one tile, then the next; the elements in whatever order.
  void group(const PlanStep& s, RowRange rows, Now now) {
    const PlanCall* const calls = &plan_.calls[s.first];
    const PlanOperand& whole = plan_.operands[calls->operands + calls->inputs];
    if (s.count > longest_group || s.tiles > longest_group) return fault("a group too long to run");
    for (std::uint32_t c = 0; c < s.count; ++c) {
      const Item& item = p_.items[calls[c].item];
      if (!calls[c].op || !has(calls[c].op->traits, Traits::pointwise) || calls[c].inputs > widest_member ||
          item.count != calls[c].inputs)
        return fault("%", calls[c].item, " cannot be a member of a group");
      for (std::uint32_t k = 0; k <= calls[c].inputs; ++k)
        if (const PlanOperand& o = plan_.operands[calls[c].operands + k];
            numel(o) != numel(whole) || (rows.count >= 0 && o.base != Base::number && !o.cut &&
                                         o.walk != Walk::periodic && o.walk != Walk::tile))
          return fault("%", calls[c].item, " does not fit its group");
      apart(calls[c], rows);
    }
    const RowRange cut = rows;
    const std::int64_t n = numel(whole),
                       row = rows.count < 0 ? n : n / std::max<std::int64_t>(shape_of(whole.shape)[0], 1);
    const std::int64_t first = rows.count < 0 ? 0 : rows.begin * row;
    const std::int64_t last = rows.count < 0 ? n : first + rows.count * row;
    elements_ = part_began_ + static_cast<std::uint32_t>(n) + 1;
    std::vector<Label> tiles(static_cast<std::size_t>(s.tiles) * tile_elements, nothing);
    for (std::int64_t begin = first; begin < last; begin += tile_elements) {
      const std::int64_t end = std::min(begin + tile_elements, last);
      const auto cell = [&](const PlanOperand& o, std::int64_t e) -> Label& {
        return tiles[static_cast<std::size_t>(o.index * tile_elements + e - begin)];
      };
      for (std::uint32_t c = 0; c < s.count; ++c) {
        const PlanOperand* const o = &plan_.operands[calls[c].operands];
        const std::uint32_t i = calls[c].item, inputs = calls[c].inputs;
        for (std::uint32_t k = 0; k <= inputs; ++k)
          if ((o[k].base == Base::tile) != (o[k].walk == Walk::tile) ||
              (o[k].base == Base::tile && o[k].index >= s.tiles))
            return fault("a tile that does not exist");
        for (std::uint32_t k = 0; k < inputs; ++k) {
          const std::uint32_t in = p_.inputs_of(p_.items[i])[k];
          if (o[k].base != Base::tile) {
            lane(o[k], in, begin, end, first, cut, now);
            continue;
          }
          for (std::int64_t e = begin; e < end; ++e)
            if (cell(o[k], e) != meant_(in, e))
              fault("reads element ", e, " of %", in, " in tile ", o[k].index, ", which holds ",
                    text(cell(o[k], e)));
        }
        if (!typed(o[inputs], i)) return;
        if (o[inputs].base != Base::tile)
          write(o[inputs], i, begin, end, cut, now, [&](std::int64_t e) { return meant_(i, e); });
        else
          for (std::int64_t e = begin; e < end; ++e) cell(o[inputs], e) = meant_(i, e);
      }
      if (s.fold == no_index) continue;
      const PlanCall& reader = plan_.calls[s.fold];
      const PlanOperand& o = plan_.operands[reader.operands];
      const std::uint32_t in = p_.inputs_of(p_.items[reader.item])[0];
      if (numel(o) != n || o.index >= s.tiles) return fault("%", reader.item, " does not fit its group");
      for (std::int64_t e = begin; e < end; ++e)
        if (cell(o, e) != meant_(in, e))
          fault("element ", e, " of %", in, " is consumed from tile ", o.index, ", which holds ",
                text(cell(o, e)));
    }
  }

  // ------------------------------------------------------------------------------------------ the whole

  // Donated memory belongs to one input and goes to one output of its size.
  void look_at_donors() {
    std::vector<bool> taken(p_.slots, false);
    std::vector<std::uint64_t> memory;  // by slot: the first slot with the same memory
    const std::uint64_t* word = plan_.key.data();
    for (std::size_t i = 0; i < plan_.nodes && !plan_.key.empty(); ++i) {
      const key::Reader reader(word);
      if (reader.kind() == ItemKind::slot) memory.push_back(word[1]);
      word = reader.next();
    }
    // The key ends with one word for each output: its node, and above that its donor.
    const bool told = !plan_.key.empty() && plan_.key.data() + plan_.key.size() - word ==
                                                static_cast<std::ptrdiff_t>(plan_.outputs.size());
    for (std::size_t k = 0; k < plan_.outputs.size(); ++k) {
      const std::uint32_t donor = plan_.outputs[k].donor;
      if (donor == no_index) continue;
      if (donor >= p_.slots) {
        fault("the donor of output ", k, " is no input");
        continue;
      }
      if (taken[donor]) fault("input ", donor, " is donated twice");
      if (donor < memory.size() && std::ranges::count(memory, memory[donor]) != 1)
        fault("input ", donor, " is donated and shares its memory");
      if (slots_[donor].bytes != plan_.outputs[k].bytes) fault("output ", k, " does not fit its donor");
      if (told && donor != word[k] >> 32) fault("output ", k, " takes over what it was not given");
      taken[donor] = slots_[donor].donated = true;
    }
  }

  // Before the tail begins a step looks at its loss, the first output.
  void loss_is_there() {
    if (!plan_.outputs.empty()) complete(0);
  }

  void complete(std::uint32_t k) {
    const std::uint32_t item = p_.outputs[k].item;
    const Item& i = p_.items[item];
    if (plan_.outputs[k].bytes != p_.bytes_of(i))
      fault("output ", k, " has ", plan_.outputs[k].bytes, " bytes");
    const PlanOperand o{.base = Base::output, .dtype = i.dtype, .index = k, .shape = i.shape};
    Region& r = *find(o);
    for (std::int64_t e = 0; e < numel(o); ++e)
      cells(r, e * static_cast<std::int64_t>(size_of(o.dtype)), o.dtype, [&](std::size_t c) {
        if (r.labels[c] != meant_(item, e))
          fault("element ", e, " of output ", k, " should be ", text(meant_(item, e)), " and is ",
                text(r.labels[c]));
      });
  }
};

}  // namespace

std::vector<std::string> memory_faults(const Plan& plan, std::size_t most) {
  return Checker(plan, most).run();
}

}  // namespace opgrad::test
