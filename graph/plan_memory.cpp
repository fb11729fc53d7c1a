// Where everything lies: the second half of planning.
#include <algorithm>
#include <map>

#include "memory.h"
#include "planner.h"

namespace opgrad {
namespace {

class LayOut {
 public:
  explicit LayOut(Draft& d) : d_(d), plan_(d.plan), p_(d.plan.program) {}

  void run() {
    check_donors();
    for (auto* steps : {&plan_.steps, &plan_.parts})
      for (PlanStep& s : *steps)
        if (s.rows == 0 && s.count > 0) tiles(s);
    if (plan_.passes.has("in_place")) in_place();
    for (std::uint32_t st = 0; st < plan_.steps.size(); ++st)
      if (plan_.steps[st].rows > 0) blocks(st);
    arena();
    resolve();
  }

 private:
  Storage& result_of(std::uint32_t call) {
    const PlanCall& c = plan_.calls[call];
    return d_.storages[d_.operands[c.operands + c.inputs].place.storage];
  }

  // Takes back the donations that would destroy what somebody still has to read.
  void check_donors() {
    std::vector<std::uint32_t> slot(p_.slots, no_index), output(plan_.outputs.size(), no_index);
    for (std::uint32_t s = 0; s < d_.storages.size(); ++s) {
      if (d_.storages[s].base == Base::slot) slot[d_.storages[s].index] = s;
      if (d_.storages[s].base == Base::output) output[d_.storages[s].index] = s;
    }
    for (std::uint32_t k = 0; k < plan_.outputs.size(); ++k) {
      std::uint32_t& donor = plan_.outputs[k].donor;
      // A donor that nobody reads any more may be overwritten at any time.
      if (donor == no_index || slot[donor] == no_index) continue;
      if (!may_follow(d_.storages[output[k]], d_.storages[slot[donor]])) donor = no_index;
    }
  }

  // `next` may be written where `last` is: nobody reads `last` after the step that writes `next`; who reads
  // it in that very step does so element by element, before that element is written or by the call that
  // writes it.
  static bool may_follow(const Storage& next, const Storage& last) {
    if (last.end != next.begin) return last.end < next.begin;
    return last.elementwise && last.call_end <= next.call_begin;
  }

  // Values that live inside one group need a tile only; tiles are reused as soon as nobody reads them.
  void tiles(PlanStep& step) {
    std::vector<std::uint32_t> free;
    std::multimap<std::uint32_t, std::uint32_t> busy;  // last reading call -> tile
    const std::uint32_t end = step.first + step.count;
    for (std::uint32_t c = step.first; c < end; ++c) {
      for (auto it = busy.begin(); it != busy.end() && it->first < c; it = busy.erase(it))
        free.push_back(it->second);
      Storage& s = result_of(c);
      const bool consumed = step.fold != no_index && s.call_end == step.fold && !s.elementwise;
      if (s.base != Base::arena || (s.call_end >= end && !consumed)) continue;
      s.base = Base::tile;
      if (free.empty()) free.push_back(step.tiles++);
      s.index = free.back();
      free.pop_back();
      busy.emplace(s.call_end, s.index);
    }
  }

  // A result of a tile group takes over the memory of a value of its size that ends with that group: the
  // kernel whose pieces the group finishes then writes where the group's result will stand.
  void in_place() {
    const auto group = [&](std::uint32_t st, const PlanStep& step) {
      for (std::uint32_t c = step.first; c < step.first + step.count; ++c) {
        const PlanCall& call = plan_.calls[c];
        const std::uint32_t to = d_.operands[call.operands + call.inputs].place.storage;
        if (d_.storages[to].merged != no_index) continue;
        if (d_.storages[to].base != Base::arena && d_.storages[to].base != Base::output) continue;
        if (d_.storages[to].base == Base::output && plan_.outputs[d_.storages[to].index].donor != no_index)
          continue;
        for (std::uint32_t m = step.head == no_index ? step.first : step.head; m <= c; ++m)
          if (take_over(to, st, m)) break;
      }
    };
    for (std::uint32_t st = 0; st < plan_.steps.size(); ++st) {
      const PlanStep& step = plan_.steps[st];
      if (step.rows == 0) over_input(st, step);
      if (step.rows == 0) group(st, step);
      for (std::uint32_t k = 0; step.rows > 0 && k < step.count; ++k) {
        over_input(st, plan_.parts[step.first + k]);
        group(st, plan_.parts[step.first + k]);
      }
    }
  }

  // The result of a kernel that says it can takes over the memory of its first input, made by an earlier
  // step.
  void over_input(std::uint32_t st, const PlanStep& part) {
    if (part.head == no_index || part.count > 0) return;
    const PlanCall& c = plan_.calls[part.head];
    const PendingOperand &in = d_.operands[c.operands], &out = d_.operands[c.operands + c.inputs];
    if (!c.op || !c.op->in_place || !c.op->in_place(c.attributes, shape_of(out.shape))) return;
    const std::uint32_t from = root(in.place.storage);
    Storage &f = d_.storages[from], &t = d_.storages[out.place.storage];
    if (f.base != Base::arena || t.base != Base::arena || f.bytes != t.bytes || in.dtype != out.dtype) return;
    if (f.begin == st || f.end != st || f.call_end > part.head) return;
    // Whoever else reads it in this step reads the same rows, in the same block, before.
    const auto reads_rows = [&](std::uint32_t call) {
      for (std::uint32_t k = 0; k < plan_.calls[call].inputs; ++k) {
        const PendingOperand& o = d_.operands[plan_.calls[call].operands + k];
        if (root(o.place.storage) != from) continue;
        if (call == part.head && k > 0) return false;
        if (o.shape != out.shape || o.place.offset != 0 ||
            !dense_layout(shape_of(o.shape), d_.layout_of(o.place)))
          return false;
        if (o.cut != out.cut) return false;
      }
      return true;
    };
    const PlanStep& step = plan_.steps[st];
    const std::uint32_t first = step.first_call(plan_.parts);
    for (std::uint32_t call = first; call <= part.head; ++call)
      if (!reads_rows(call)) return;
    t.begin = f.begin;
    t.call_begin = f.call_begin;
    f.merged = out.place.storage;
  }

  // Tries the operands of one call.
  bool take_over(std::uint32_t to, std::uint32_t st, std::uint32_t call) {
    const PlanCall& c = plan_.calls[call];
    for (std::uint32_t k = 0; k <= c.inputs; ++k) {
      const std::uint32_t from = root(d_.operands[c.operands + k].place.storage);
      Storage &f = d_.storages[from], &t = d_.storages[to];
      if (from == to || f.base != Base::arena || f.end != st || f.bytes != t.bytes || !may_follow(t, f))
        continue;
      // Within one block of rows both must have the same rows.
      if (f.begin == st && f.row_bytes != t.row_bytes) continue;
      if (f.begin != st && t.row_bytes != 0) continue;
      t.begin = f.begin;
      t.call_begin = f.call_begin;
      f.merged = to;
      return true;
    }
    return false;
  }

  std::uint32_t root(std::uint32_t s) const {
    while (d_.storages[s].merged != no_index) s = d_.storages[s].merged;
    return s;
  }

  // What begins and ends within a row group needs memory for one block only. Its parts are its steps.
  void blocks(std::uint32_t st) {
    PlanStep& step = plan_.steps[st];
    std::vector<std::uint32_t> end_of;  // by part, the call after its last
    std::vector<Storage*> results;
    for (std::uint32_t k = 0; k < step.count; ++k) {
      const PlanStep& part = plan_.parts[step.first + k];
      const std::uint32_t first = part.head == no_index ? part.first : part.head;
      end_of.push_back(std::max(first + 1, part.first + part.count + (part.fold != no_index)));
      for (std::uint32_t c = first; c < end_of.back(); ++c) results.push_back(&result_of(c));
    }
    const auto part_of = [&](std::uint32_t call) {
      return static_cast<std::uint32_t>(std::ranges::upper_bound(end_of, call) - end_of.begin());
    };
    std::vector<Lifetime> lifetimes;
    std::vector<Storage*> answers;
    for (Storage* s : results) {
      if (s->base != Base::arena || s->begin != st || s->end != st || s->merged != no_index) continue;
      if (s->row_bytes == 0) continue;  // folded over all rows
      s->base = Base::block;
      lifetimes.push_back({part_of(s->call_begin), part_of(s->call_end),
                           static_cast<std::size_t>(s->row_bytes * step.block)});
      answers.push_back(s);
    }
    std::size_t bound = 0;
    step.scratch = place(lifetimes, bound);
    for (std::size_t i = 0; i < answers.size(); ++i)
      answers[i]->offset = static_cast<std::int64_t>(lifetimes[i].offset);
  }

  void arena() {
    std::vector<Lifetime> lifetimes;
    std::vector<std::int64_t*> answers;
    const bool share = plan_.passes.has("arena");
    const auto last = static_cast<std::uint32_t>(plan_.steps.size());
    const auto live = [&](std::uint32_t begin, std::uint32_t end, std::size_t bytes, std::int64_t* answer) {
      lifetimes.push_back({share ? begin : 0, share ? end : last, bytes});
      answers.push_back(answer);
    };
    for (Storage& s : d_.storages)
      if (s.base == Base::arena && s.merged == no_index) live(s.begin, s.end, s.bytes, &s.offset);
    const auto workspace = [&](std::uint32_t st, std::uint32_t head, bool part) {
      if (head == no_index || !plan_.calls[head].op) return;
      const Op& op = *plan_.calls[head].op;
      const Item& item = p_.items[plan_.calls[head].item];
      const auto rule = part && p_.folds_rows(item) ? op.over_rows.workspace : op.workspace;
      if (const std::size_t bytes = rule ? rule(ItemCall(p_, item).call()) : 0)
        live(st, st, bytes, &plan_.calls[head].workspace);
    };
    for (std::uint32_t st = 0; st < plan_.steps.size(); ++st) {
      const PlanStep& step = plan_.steps[st];
      workspace(st, step.head, false);
      for (std::uint32_t k = 0; step.rows > 0 && k < step.count; ++k)
        workspace(st, plan_.parts[step.first + k].head, true);
    }
    patterns_.assign(d_.operands.size(), -1);
    for (std::uint32_t st = 0; st < plan_.steps.size(); ++st) {
      const PlanStep& step = plan_.steps[st];
      const auto group = [&](const PlanStep& g) {
        for (std::uint32_t c = g.first; c < g.first + g.count; ++c)
          for (std::uint32_t k = 0; k < plan_.calls[c].inputs; ++k) {
            const std::uint32_t o = plan_.calls[c].operands + k;
            if (d_.operands[o].walk == Walk::periodic)
              live(st, st, pattern_bytes(d_.operands[o]), &patterns_[o]);
          }
      };
      if (step.rows == 0) group(step);
      for (std::uint32_t k = 0; step.rows > 0 && k < step.count; ++k) group(plan_.parts[step.first + k]);
    }
    plan_.arena_bytes = place(lifetimes, plan_.live_bytes_bound);
    for (std::size_t i = 0; i < lifetimes.size(); ++i)
      *answers[i] = static_cast<std::int64_t>(lifetimes[i].offset);
  }

  std::size_t pattern_bytes(const PendingOperand& o) const {
    const Shape& shape = shape_of(o.shape);
    const std::int64_t elements =
        std::min(tile_elements, shape.numel()) + period(shape, d_.layout_of(o.place));
    return static_cast<std::size_t>(elements) * size_of(o.dtype);
  }

  void resolve() {
    plan_.operands.reserve(d_.operands.size());
    for (std::size_t i = 0; i < d_.operands.size(); ++i) {
      const PendingOperand& o = d_.operands[i];
      const Storage& s = d_.storages[root(o.place.storage)];
      const bool in_block = s.base == Base::block;
      plan_.operands.push_back(
          {.base = s.base,
           .dtype = o.dtype,
           .walk = s.base == Base::tile ? Walk::tile : o.walk,
           .cut = o.cut,
           .index = s.index,
           .where = plan_.place_in_table(s.base, s.index),
           .offset = (in_block || s.base == Base::arena ? s.offset : 0) +
                     o.place.offset * static_cast<std::int64_t>(size_of(o.dtype)),
           .shape = o.shape,
           .layout = o.place.strides,
           .bytes = static_cast<std::uint32_t>(size_of(o.dtype)),
           .row_bytes = o.cut && o.walk == Walk::dense
                            ? plan_.layouts[o.place.strides][0] * static_cast<std::int64_t>(size_of(o.dtype))
                            : 0,
           .period = patterns_[i] >= 0 ? period(shape_of(o.shape), d_.layout_of(o.place)) : 0,
           .pattern = patterns_[i]});
    }
    for (const auto* steps : {&plan_.steps, &plan_.parts})
      for (const PlanStep& s : *steps) {
        for (std::uint32_t c = s.first; s.rows == 0 && c < s.first + s.count; ++c)
          for (std::uint32_t k = 0; k <= plan_.calls[c].inputs; ++k) {
            PlanOperand& o = plan_.operands[plan_.calls[c].operands + k];
            o.tile = o.walk == Walk::tile ? o.index : s.tiles + k;
          }
        if (s.fold != no_index)
          plan_.operands[plan_.calls[s.fold].operands].tile =
              plan_.operands[plan_.calls[s.fold].operands].index;
      }
  }

  Draft& d_;
  Plan& plan_;
  const Program& p_;
  std::vector<std::int64_t> patterns_;  // by operand
};

}  // namespace

std::uint32_t Plan::place_in_table(Base base, std::uint32_t index) const {
  const auto results = static_cast<std::uint32_t>(outputs.size());
  const auto constants = static_cast<std::uint32_t>(program.constants.size());
  switch (base) {
    case Base::arena:
      return 0;
    case Base::slot:
      return 2 + index;
    case Base::output:
      return 2 + program.slots + index;
    case Base::constant:
      return 2 + program.slots + results + index;
    case Base::number:
      return 2 + program.slots + results + constants + index;
    default:
      return 1;
  }
}

void lay_out(Draft& draft) { LayOut(draft).run(); }

}  // namespace opgrad
