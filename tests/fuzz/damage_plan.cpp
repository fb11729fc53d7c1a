// Mistakes of planning: offsets, layouts, tiles, donors, the order of steps.
#include <algorithm>

#include "damage.h"

namespace opgrad::fuzz {
namespace {

PlanOperand& result_of(Plan& p, const PlanCall& c) { return p.operands[c.operands + c.inputs]; }
bool in_arena(const PlanOperand& o) { return o.base == Base::arena && shape_of(o.shape).numel() > 0; }

// Calls f(call, its place) for the calls of steps in the order of execution, by kind of step.
template <class F>
bool each_result(Plan& p, F&& f) {
  for (std::size_t c = 0; c < p.calls.size(); ++c)
    if (in_arena(result_of(p, p.calls[c])) && f(c)) return true;
  return false;
}

// What lies at `from` lies at `to` instead.
void move(Plan& p, std::int64_t from, std::int64_t to) {
  for (PlanOperand& o : p.operands)
    if (o.base == Base::arena && o.offset == from) o.offset = to;
}

bool two_live_values_at_one_place(Plan& p) {
  return each_result(p, [&](std::size_t c) {
    const PlanOperand out = result_of(p, p.calls[c]);
    for (std::size_t d = c + 1; d < p.calls.size(); ++d) {
      const PlanOperand other = result_of(p, p.calls[d]);
      if (!in_arena(other) || other.offset == out.offset) continue;
      // `out` is read after `other` has been written.
      for (std::size_t e = d + 1; e < p.calls.size(); ++e)
        for (std::uint32_t k = 0; k < p.calls[e].inputs; ++k) {
          const PlanOperand& in = p.operands[p.calls[e].operands + k];
          if (in.base != Base::arena || in.offset != out.offset) continue;
          move(p, other.offset, out.offset);
          return true;
        }
    }
    return false;
  });
}

// The result of a pointwise call over an input that is read again later.
bool over_an_input_still_needed(Plan& p) {
  return each_result(p, [&](std::size_t c) {
    const PlanCall& call = p.calls[c];
    const PlanOperand out = result_of(p, call);
    for (std::uint32_t k = 0; k < call.inputs; ++k) {
      const PlanOperand in = p.operands[call.operands + k];
      if (!in_arena(in) || in.offset == out.offset || in.shape != out.shape) continue;
      for (std::size_t d = c + 1; d < p.calls.size(); ++d)
        for (std::uint32_t m = 0; m < p.calls[d].inputs; ++m) {
          const PlanOperand& later = p.operands[p.calls[d].operands + m];
          if (later.base != Base::arena || later.offset != in.offset) continue;
          move(p, out.offset, in.offset);
          return true;
        }
    }
    return false;
  });
}

bool one_element_off(Plan& p) {
  for (const PlanCall& c : p.calls)
    for (std::uint32_t k = 0; k < c.inputs; ++k)
      if (PlanOperand& o = p.operands[c.operands + k];
          in_arena(o) || (o.base == Base::slot && shape_of(o.shape).numel() > 0)) {
        o.offset += static_cast<std::int64_t>(size_of(o.dtype));
        return true;
      }
  return false;
}

bool another_layout(Plan& p) {
  for (const PlanCall& c : p.calls)
    for (std::uint32_t k = 0; k < c.inputs; ++k) {
      PlanOperand& o = p.operands[c.operands + k];
      const Shape& s = shape_of(o.shape);
      if ((o.base != Base::arena && o.base != Base::slot) || s.rank() != 2 || s[0] != s[1] || s[0] < 2)
        continue;
      auto turned = p.layouts[o.layout];
      if (turned[0] == turned[1]) continue;
      std::swap(turned[0], turned[1]);
      o.layout = static_cast<std::uint32_t>(p.layouts.size());
      p.layouts.push_back(turned);
      return true;
    }
  return false;
}

bool arena_too_small(Plan& p) {
  if (p.arena_bytes == 0) return false;
  std::int64_t highest = -1;
  for (const PlanOperand& o : p.operands)
    if (in_arena(o)) highest = std::max(highest, o.offset);
  if (highest < 0) return false;
  p.arena_bytes = static_cast<std::size_t>(highest);
  return true;
}

bool donated_too_early(Plan& p) {
  for (const PlanOutput& o : p.outputs)
    if (o.donor != no_index && p.tail < p.steps.size()) {
      p.tail = static_cast<std::uint32_t>(p.steps.size());
      return true;
    }
  return false;
}

bool loss_looked_at_too_early(Plan& p) {
  if (p.tail == 0) return false;
  p.tail = 0;
  return true;
}

bool donated_twice(Plan& p) {
  for (PlanOutput& a : p.outputs)
    for (const PlanOutput& b : p.outputs)
      if (&a != &b && a.donor == no_index && b.donor != no_index && a.bytes == b.bytes) {
        a.donor = b.donor;
        return true;
      }
  return false;
}

bool steps_exchanged(Plan& p) {
  if (p.steps.size() < 2) return false;
  std::swap(p.steps.front(), p.steps.back());
  return true;
}

bool step_left_out(Plan& p) {
  if (p.steps.empty()) return false;
  p.steps.pop_back();
  return true;
}

bool another_tile(Plan& p) {
  for (const PlanStep& s : p.steps)
    for (std::uint32_t c = s.first; s.rows == 0 && s.tiles > 1 && c < s.first + s.count; ++c)
      for (std::uint32_t k = 0; k < p.calls[c].inputs; ++k)
        if (PlanOperand& o = p.operands[p.calls[c].operands + k]; o.base == Base::tile) {
          o.index = (o.index + 1) % s.tiles;
          return true;
        }
  return false;
}

bool workspace_over_the_result(Plan& p) {
  for (PlanCall& c : p.calls)
    if (c.op && c.op->workspace && c.workspace >= 0 && in_arena(result_of(p, c))) {
      c.workspace = result_of(p, c).offset;
      return true;
    }
  return false;
}

bool operands_exchanged(Plan& p) {
  for (const PlanCall& c : p.calls) {
    PlanOperand *a = &p.operands[c.operands], *b = a + 1;
    if (!c.op || c.inputs != 2 || a->base == b->base || a->shape != b->shape || a->dtype != b->dtype)
      continue;
    std::swap(*a, *b);
    return true;
  }
  return false;
}

bool another_number(Plan& p) {
  for (PlanOperand& o : p.operands)
    if (o.base == Base::number && p.program.numbers.size() > 1) {
      o.index = o.index ? 0 : 1;
      return true;
    }
  return false;
}

bool pattern_over_its_run(Plan& p) {
  for (PlanOperand& o : p.operands)
    if (o.pattern >= 0 && in_arena(o)) {
      o.pattern = o.offset + static_cast<std::int64_t>(size_of(o.dtype)) * 2;
      return true;
    }
  return false;
}

bool writes_into_an_input(Plan& p) {
  for (const PlanCall& c : p.calls) {
    const PlanOperand& in = p.operands[c.operands];
    PlanOperand& out = result_of(p, c);
    if (c.inputs == 0 || in.base != Base::slot || in.shape != out.shape || in.dtype != out.dtype) continue;
    out.base = Base::slot;
    out.index = in.index;
    out.offset = 0;
    return true;
  }
  return false;
}

}  // namespace

std::vector<Damage> damages_of_plans() {
  return {
      {"plan: two live values at one place", nullptr, nullptr, two_live_values_at_one_place},
      {"plan: a result over an input still needed", nullptr, nullptr, over_an_input_still_needed},
      {"plan: an operand one element off", nullptr, nullptr, one_element_off},
      {"plan: a read with axes exchanged", nullptr, nullptr, another_layout},
      {"plan: an arena too small", nullptr, nullptr, arena_too_small},
      {"plan: donated memory written before the tail", nullptr, nullptr, donated_too_early},
      {"plan: the loss looked at before it is there", nullptr, nullptr, loss_looked_at_too_early},
      {"plan: memory donated twice", nullptr, nullptr, donated_twice},
      {"plan: two steps exchanged", nullptr, nullptr, steps_exchanged},
      {"plan: a step left out", nullptr, nullptr, step_left_out},
      {"plan: a read of another tile", nullptr, nullptr, another_tile},
      {"plan: a workspace over the result", nullptr, nullptr, workspace_over_the_result},
      {"plan: operands exchanged", nullptr, nullptr, operands_exchanged},
      {"plan: another number", nullptr, nullptr, another_number},
      {"plan: a pattern over the run that it repeats", nullptr, nullptr, pattern_over_its_run},
      {"plan: a result written into an input", nullptr, nullptr, writes_into_an_input},
  };
}

}  // namespace opgrad::fuzz
