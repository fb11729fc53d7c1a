// Neighbouring members of a tile group become one loop of machine code, which keeps what passes between them
// in registers.
#include <algorithm>
#include <array>
#include <map>

#include "../core/loops.h"
#include "planner.h"

namespace opgrad {
namespace {

constexpr std::int64_t worth_it_at_once = 1024;

// The memory of an operand, as members of one group tell it apart.
using Memory = std::array<std::int64_t, 4>;
Memory memory_of(const PlanOperand& o) {
  const bool tile = o.walk == Walk::tile;
  return {static_cast<std::int64_t>(o.walk), tile ? o.tile : o.where, tile ? 0 : o.offset, o.pattern};
}

class Groups {
 public:
  Groups(Plan& plan, std::int64_t fewest_elements)
      : plan_(plan), fewest_elements_(fewest_elements), isa_(isa()) {}

  void run() {
    plan_.loops.clear();
    for (const auto* steps : {&plan_.steps, &plan_.parts})
      for (const PlanStep& s : *steps)
        if (s.rows == 0 && s.count > 1 &&
            shape_of(operand(plan_.calls[s.first], plan_.calls[s.first].inputs).shape).numel() >=
                fewest_elements_)
          group(s);
    std::ranges::sort(plan_.loops, {}, &PlanLoop::first);
    plan_.code = std::make_shared<const Executable>(code_);
    if (!plan_.code->at(0)) plan_.loops.clear();  // the system allows no such memory
    plan_.code_isa = isa_;
    plan_.compiled_from = fewest_elements_;
  }

 private:
  const PlanOperand& operand(const PlanCall& c, std::uint32_t k) const {
    return plan_.operands[c.operands + k];
  }

  // The recipe is left in recipes_.
  bool can_join(std::uint32_t call, DType dtype) {
    const PlanCall& c = plan_.calls[call];
    const detail::MapTable* const map = c.op->forward.map;
    if (!map || !map->recipe || !is_float(dtype)) return false;
    for (std::uint32_t k = 0; k <= c.inputs; ++k)
      if (operand(c, k).dtype != dtype || operand(c, k).walk == Walk::gathered) return false;
    recipes_.push_back(map->recipe());
    return recipes_.back().known;
  }

  void group(const PlanStep& s) {
    consumed_ = s.fold == no_index ? no_index : plan_.calls[s.fold].operands;
    const std::uint32_t end = s.first + s.count;
    for (std::uint32_t first = s.first; first + 1 < end;) {
      const DType dtype = operand(plan_.calls[first], plan_.calls[first].inputs).dtype;
      recipes_.clear();
      std::uint32_t last = first;
      while (last < end && can_join(last, dtype)) ++last;
      // As many as the registers hold.
      while (last > first + 1 && !loop(first, last, end, dtype)) last -= (last - first + 3) / 4;
      first = std::max(last, first + 1);
    }
  }

  bool loop(std::uint32_t first, std::uint32_t last, std::uint32_t end, DType dtype) {
    PlanLoop made{first, last - first, {}, 0};
    LoopText text(dtype);
    std::map<Memory, std::uint32_t> streams;
    std::map<Memory, LoopText::Line> now;  // what a memory holds
    const auto stream = [&](std::uint32_t at, bool written) {
      const auto [it, fresh] =
          streams.emplace(memory_of(plan_.operands[at]), static_cast<std::uint32_t>(made.streams.size()));
      if (fresh) made.streams.push_back({at, false});
      if (written) made.streams[it->second].written = true;
      return it->second;
    };
    for (std::uint32_t c = first; c < last; ++c) {
      const PlanCall& call = plan_.calls[c];
      std::array<LoopText::Line, widest_member> inputs{};
      for (std::uint32_t k = 0; k < call.inputs; ++k) {
        const Memory m = memory_of(operand(call, k));
        if (!now.contains(m))
          now.emplace(m, text.read(stream(call.operands + k, false), operand(call, k).walk == Walk::splat));
        inputs[k] = now.at(m);
      }
      const LoopText::Line line = text.apply(recipes_[c - first], std::span(inputs.data(), call.inputs));
      const std::uint32_t result = call.operands + call.inputs;
      now[memory_of(plan_.operands[result])] = line;
      if (plan_.operands[result].walk != Walk::tile ||
          (last_to_write(c, last) && read_later(result, last, end)))
        text.write(stream(result, true), line);
    }
    const auto streams_used = static_cast<std::uint32_t>(made.streams.size());
    const std::optional<std::size_t> at = compile(text, streams_used, isa_, code_);
    if (!at) return false;
    made.code = *at;
    plan_.loops.push_back(std::move(made));
    return true;
  }

  bool last_to_write(std::uint32_t call, std::uint32_t last) const {
    const Memory m = memory_of(operand(plan_.calls[call], plan_.calls[call].inputs));
    for (std::uint32_t c = call + 1; c < last; ++c)
      if (memory_of(operand(plan_.calls[c], plan_.calls[c].inputs)) == m) return false;
    return true;
  }

  // Whether a call from `last` on, or the group's reduction, reads this tile before another writes it.
  bool read_later(std::uint32_t tile, std::uint32_t last, std::uint32_t end) const {
    const Memory m = memory_of(plan_.operands[tile]);
    for (std::uint32_t c = last; c < end; ++c) {
      const PlanCall& call = plan_.calls[c];
      for (std::uint32_t k = 0; k < call.inputs; ++k)
        if (memory_of(operand(call, k)) == m) return true;
      if (memory_of(operand(call, call.inputs)) == m) return false;
    }
    return consumed_ != no_index && memory_of(plan_.operands[consumed_]) == m;
  }

  Plan& plan_;
  const std::int64_t fewest_elements_;
  const Isa isa_;
  std::uint32_t consumed_ = no_index;    // what the group's reduction reads
  std::vector<kernel::Recipe> recipes_;  // of the calls that may join
  std::vector<std::uint8_t> code_;
};

}  // namespace

std::int64_t worth_compiling_at_once() { return thorough() ? 1 : worth_it_at_once; }

void compile_groups(Plan& plan, std::int64_t fewest_elements) { Groups(plan, fewest_elements).run(); }

std::shared_ptr<const Plan> compiled(const Plan& plan) {
  if (!plan.passes.has("compile") || plan.compiled_from <= 1) return nullptr;
  auto copy = std::make_shared<Plan>(plan);
  compile_groups(*copy, 1);
  return copy;
}

}  // namespace opgrad
