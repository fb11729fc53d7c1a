// The executor: walks a plan's steps. Values get their memory before the first step runs; what else kernels
// and blocks of rows need is scratch memory, which the threads keep.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "../core/parallel.h"
#include "../core/scratch.h"
#include "scope.h"
#include "tiles.h"

namespace opgrad {
namespace {

using Views = std::pmr::vector<View>;

// Elements of a tile group that one thread takes at a time.
constexpr std::int64_t grain = 16 * tile_elements;

class Execution {
 public:
  Execution(const Plan& plan, const Capture& capture) : plan_(plan) {
    if (plan.arena_bytes) arena_ = allocate(plan.arena_bytes);
    bases_.arena = arena_ ? arena_->data : nullptr;
    outputs.reserve(plan.outputs.size());
    auto& table = bases_.table;
    table.reserve(2 + capture.leaves.size() + plan.outputs.size() + plan.program.constants.size() +
                  plan.cells.size());
    table = {bases_.arena, nullptr};
    for (const Node* n : capture.leaves) table.push_back(n->value->buffer->data);
    for (const PlanOutput& o : plan.outputs) {
      outputs.push_back(o.donor == no_index ? allocate(o.bytes) : capture.leaves[o.donor]->value->buffer);
      table.push_back(outputs.back()->data);
    }
    for (const BufferRef& c : plan.program.constants) table.push_back(c->data);
    fill_cells(capture);
    views_.reserve(most_inputs + 1);
  }

  void step(const PlanStep& s) {
    if (s.rows > 0) return row_group(s);
    if (s.head != no_index) prepare(plan_.calls[s.head]);
    if (s.count == 0) {
      kernel(plan_.calls[s.head], {}, nullptr, views_);
      return;
    }
    const TileRun tiles(plan_, s, bases_);
    if (s.fold != no_index) return reduction(s, tiles, {}, views_);
    if (s.head == no_index)
      return parallel_ranges(tiles.numel(), grain,
                             [&](std::int64_t begin, std::int64_t end) { tiles.run(begin, end, {}); });
    const auto piece = [&](std::int64_t begin, std::int64_t end) { tiles.run(begin, end, {}); };
    const Finished finished(piece);
    kernel(plan_.calls[s.head], {}, &finished, views_);
  }

  // The result of a step that is one kernel.
  View result(const PlanStep& s) const {
    const PlanCall& call = plan_.calls[s.head];
    return view_of(plan_, plan_.operands[call.operands + call.inputs], bases_, {});
  }

  std::vector<BufferRef> outputs;

 private:
  void fill_cells(const Capture& capture) {
    if (plan_.cells.empty()) return;
    cells_ = allocate(64 * plan_.cells.size());
    for (std::size_t i = 0; i < plan_.cells.size(); ++i) {
      bases_.table.push_back(cells_->data + 64 * i);
      const PlanNumber& cell = plan_.cells[i];
      const double number =
          cell.captured == no_index ? plan_.program.numbers[i].value : capture.numbers[cell.captured];
      dispatch(cell.dtype, [&]<class T>() {
        T* const repeated = reinterpret_cast<T*>(cells_->data + 64 * i);
        std::fill_n(repeated, 64 / sizeof(T), static_cast<T>(number));
      });
    }
  }

  KernelArgs args(const PlanCall& call, const Rows& rows, const Finished* finished, Views& views) const {
    views.clear();
    for (std::uint32_t k = 0; k <= call.inputs; ++k)
      views.push_back(view_of(plan_, plan_.operands[call.operands + k], bases_, rows));
    return {.in = {views.data(), call.inputs},
            .out = views.back(),
            .attrs = call.attributes,
            .workspace = call.workspace >= 0 ? bases_.arena + call.workspace : nullptr,
            .finished = finished,
            .first_row = rows.begin};
  }

  void kernel(const PlanCall& call, const Rows& rows, const Finished* finished, Views& views) const {
    const KernelArgs all = args(call, rows, finished, views);
    call.op ? call.op->forward.run(all) : copy(views[0], views[1]);
  }

  // A group that makes what a reduction asks for.
  void reduction(const PlanStep& s, const TileRun& tiles, const Rows& rows, Views& views) const {
    const auto make = [&](std::int64_t begin, std::int64_t end, std::byte* to) {
      tiles.run(begin, end, rows, to);
    };
    const Producer producer(make);
    KernelArgs all = args(plan_.calls[s.fold], rows, nullptr, views);
    all.producer = &producer;
    plan_.calls[s.fold].op->forward.run(all);
  }

  // Once for all rows.
  void prepare(const PlanCall& call) {
    if (call.op && call.op->prepare && call.workspace >= 0) call.op->prepare(args(call, {}, nullptr, views_));
  }

  // What is folded over rows: a block of them, and, in the end, what all blocks gave.
  void fold_block(const PlanCall& call, std::int64_t all, const Rows& rows, Views& views) const {
    KernelArgs k = args(call, rows, nullptr, views);
    k.all_rows = all;
    call.op->over_rows.part(k);
  }
  void meet(const PlanCall& call, std::int64_t all) {
    KernelArgs k = args(call, {}, nullptr, views_);
    k.all_rows = all;
    call.op->over_rows.meet(k);
  }

  // Block after block of rows goes through all parts while it is in cache.
  void row_group(const PlanStep& s) {
    std::pmr::vector<std::optional<TileRun>> tiles(s.count, scratch());
    for (std::uint32_t k = 0; k < s.count; ++k) {
      const PlanStep& part = plan_.parts[s.first + k];
      if (part.count > 0) tiles[k].emplace(plan_, part, bases_);
      if (part.head != no_index) prepare(plan_.calls[part.head]);
    }
    const auto folds = [&](const PlanStep& part) { return plan_.folds_rows(part); };
    parallel_for((s.rows + s.block - 1) / s.block, [&](std::int64_t block) {
      const Scratch<std::byte> memory(static_cast<std::int64_t>(s.scratch));
      Views views(scratch());
      const Rows rows{block * s.block, std::min(s.block, s.rows - block * s.block), memory.data()};
      for (std::uint32_t k = 0; k < s.count; ++k) {
        const PlanStep& part = plan_.parts[s.first + k];
        const auto piece = [&](std::int64_t begin, std::int64_t end) { tiles[k]->run(begin, end, rows); };
        const Finished finished(piece);
        if (folds(part))
          fold_block(plan_.calls[part.head], s.rows, rows, views);
        else if (part.fold != no_index)
          reduction(part, *tiles[k], rows, views);
        else if (part.head != no_index)
          kernel(plan_.calls[part.head], rows, part.count > 0 ? &finished : nullptr, views);
        else
          piece(0, tiles[k]->numel() / s.rows * rows.count);
      }
    });
    for (std::uint32_t k = 0; k < s.count; ++k) {
      const PlanStep& part = plan_.parts[s.first + k];
      if (folds(part)) meet(plan_.calls[part.head], s.rows);
    }
  }

  const Plan& plan_;
  Bases bases_;
  BufferRef arena_, cells_;
  Views views_{scratch()};
};

}  // namespace

std::vector<BufferRef> execute(const Plan& plan, const Capture& capture, const Watch& watch) {
  Execution run(plan, capture);
  for (std::size_t s = 0; s < plan.steps.size(); ++s) {
    if (s == plan.tail && watch.before_tail) watch.before_tail(run.outputs);
    if (watch.step) (*watch.step)(s);
    const PlanStep& step = plan.steps[s];
    const auto origin = [&]() -> const Node& {
      return *capture.nodes[plan.program.items[plan.calls[step.first_call(plan.parts)].item].node];
    };
    try {
      run.step(step);
      if (watch.after_call && step.rows == 0 && step.count == 0) watch.after_call(run.result(step), origin());
    } catch (const UserError& e) {
      throw UserError(fmt::format("{}\n  at {}", e.what(), to_string(*origin().origin)));
    }
  }
  if (watch.step) (*watch.step)(plan.steps.size());
  if (plan.tail == plan.steps.size() && watch.before_tail) watch.before_tail(run.outputs);
  return std::move(run.outputs);
}

}  // namespace opgrad
