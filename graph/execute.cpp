// The executor: walks a plan's steps. All memory is taken before the first step runs.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "../core/parallel.h"
#include "plan.h"
#include "scope.h"

namespace opgrad {
namespace {

struct Bases {
  std::byte* arena = nullptr;
  std::vector<std::byte*> slots, outputs;
  std::vector<std::array<std::byte, 8>> numbers;
  std::span<const BufferRef> constants;

  std::byte* at(const PlanOperand& o) const {
    switch (o.base) {
      case Base::arena:
        return arena + o.offset;
      case Base::slot:
        return slots[o.index] + o.offset;
      case Base::output:
        return outputs[o.index] + o.offset;
      case Base::number:
        return const_cast<std::byte*>(numbers[o.index].data());
      case Base::constant:
        return constants[o.index]->data + o.offset;
      case Base::tile:
        break;
    }
    return nullptr;
  }
};

View view_of(const Plan& plan, const PlanOperand& o, const Bases& bases) {
  return {bases.at(o), {o.dtype, shape_of(o.shape)}, plan.layouts[o.layout]};
}

View run_call(const Plan& plan, const PlanCall& call, const Bases& bases, std::vector<View>& views) {
  views.clear();
  for (std::uint32_t k = 0; k <= call.inputs; ++k)
    views.push_back(view_of(plan, plan.operands[call.operands + k], bases));
  const View out = views.back();
  if (!call.op) {
    copy(views[0], out);
    return out;
  }
  call.op->forward.run({.in = {views.data(), call.inputs},
                        .out = out,
                        .attrs = call.attributes,
                        .workspace = call.workspace >= 0 ? bases.arena + call.workspace : nullptr});
  return out;
}

// Elements [begin, begin + n) of a view in row-major order, put side by side.
void gather_range(const View& v, std::int64_t begin, std::int64_t n, std::byte* out) {
  const std::size_t size = size_of(v.dtype());
  const Shape& shape = v.shape();
  // The innermost axes that lie densely make runs that are copied whole.
  int axis = shape.rank();
  std::int64_t run = 1;
  while (axis > 0 && (shape[axis - 1] == 1 || v.strides[static_cast<std::size_t>(axis - 1)] == run))
    run *= shape[--axis];
  while (n > 0) {
    std::int64_t rest = begin / run, offset = begin % run;
    const std::int64_t count = std::min(run - offset, n);
    for (int a = axis; a-- > 0; rest /= shape[a])
      offset += rest % shape[a] * v.strides[static_cast<std::size_t>(a)];
    std::memcpy(out, v.as<std::byte>() + offset * static_cast<std::int64_t>(size),
                static_cast<std::size_t>(count) * size);
    out += static_cast<std::size_t>(count) * size;
    begin += count;
    n -= count;
  }
}

// How an operand of a group moves from tile to tile.
struct Lane {
  View whole;
  enum { dense, splat, gathered, tile } walk;
  std::uint32_t tile_index;
};

void run_group(const Plan& plan, const PlanStep& step, const Bases& bases) {
  constexpr std::size_t tile_bytes = tile_elements * 8, most_lanes = longest_group * (widest_member + 1);
  constexpr std::int64_t grain = 16 * tile_elements;
  const PlanCall* const calls = &plan.calls[step.call];
  const PlanOperand* const operands = &plan.operands[calls[0].operands];
  const std::uint32_t lane_count =
      calls[step.calls - 1].operands + calls[step.calls - 1].inputs + 1 - calls[0].operands;
  const std::int64_t numel = shape_of(operands[calls[0].inputs].shape).numel();

  std::array<Lane, most_lanes> lanes;
  for (std::uint32_t c = 0, i = 0; c < step.calls; ++c)
    for (std::uint32_t k = 0; k <= calls[c].inputs; ++k, ++i) {
      Lane& l = lanes[i];
      l.whole = view_of(plan, operands[i], bases);
      l.walk = operands[i].base == Base::tile ? Lane::tile
               : l.whole.dense()              ? Lane::dense
               : l.whole.splat()              ? Lane::splat
                                              : Lane::gathered;
      l.tile_index = l.walk == Lane::tile ? operands[i].index : step.tiles + k;
    }

  parallel_ranges(numel, grain, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) std::byte tiles[(longest_group + widest_member) * tile_bytes];
    std::array<View, most_lanes> views;
    for (std::int64_t at = begin; at < end; at += tile_elements) {
      const std::int64_t n = std::min(tile_elements, end - at);
      for (std::uint32_t i = 0; i < lane_count; ++i) {
        const Lane& l = lanes[i];
        View& v = views[i];
        if (at == begin || n != tile_elements) {
          v.type = {l.whole.dtype(), Shape{n}};
          v.strides[0] = l.walk == Lane::splat ? 0 : 1;
          v.data = l.walk == Lane::splat ? l.whole.data : tiles + l.tile_index * tile_bytes;
        }
        if (l.walk == Lane::dense)
          v.data = l.whole.as<std::byte>() + at * static_cast<std::int64_t>(size_of(l.whole.dtype()));
      }
      const View* first = views.data();
      for (std::uint32_t c = 0; c < step.calls; ++c) {
        const std::uint32_t inputs = calls[c].inputs;
        for (std::uint32_t k = 0; k < inputs; ++k) {
          const Lane& l = lanes[static_cast<std::size_t>(first - views.data()) + k];
          if (l.walk == Lane::gathered) gather_range(l.whole, at, n, first[k].as<std::byte>());
        }
        calls[c].op->forward.run({.in = {first, inputs}, .out = first[inputs], .attrs = calls[c].attributes});
        first += inputs + 1;
      }
    }
  });
}

}  // namespace

std::vector<BufferRef> execute(const Plan& plan, const Capture& capture, const Watch& watch) {
  Bases bases;
  const BufferRef arena = plan.arena_bytes ? allocate(plan.arena_bytes) : BufferRef();
  if (arena) bases.arena = arena->data;
  for (const Node* n : capture.leaves) bases.slots.push_back(n->value->buffer->data);
  std::vector<BufferRef> outputs;
  for (const PlanOutput& o : plan.outputs)
    outputs.push_back(o.donor == no_index ? allocate(o.bytes) : capture.leaves[o.donor]->value->buffer);
  for (const BufferRef& o : outputs) bases.outputs.push_back(o->data);
  bases.constants = plan.program.constants;
  bases.numbers.resize(plan.program.numbers.size());
  for (const Item& item : plan.program.items)
    if (item.kind == ItemKind::number)
      dispatch(item.dtype, [&]<class T>() {
        const Number& n = plan.program.numbers[item.place];
        const T cell = static_cast<T>(n.captured == no_index ? n.value : capture.numbers[n.captured]);
        std::memcpy(bases.numbers[item.place].data(), &cell, sizeof cell);
      });

  std::vector<View> views;
  views.reserve(256);
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    if (s == plan.tail && watch.before_tail) watch.before_tail(outputs);
    const PlanStep& step = plan.steps[s];
    const PlanCall& call = plan.calls[step.call];
    try {
      if (step.group) {
        run_group(plan, step, bases);
        continue;
      }
      const View result = run_call(plan, call, bases, views);
      if (watch.after_call) watch.after_call(result, *capture.nodes[plan.program.items[call.item].node]);
    } catch (const UserError& e) {
      const Node* n = capture.nodes[plan.program.items[call.item].node];
      throw UserError(fmt::format("{}\n  at {}", e.what(), to_string(*n->origin)));
    }
  }
  if (plan.tail == plan.steps.size() && watch.before_tail) watch.before_tail(outputs);
  return outputs;
}

}  // namespace opgrad
