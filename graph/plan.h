// A plan: a flat array of steps over one arena. Made once per structure, replayed often, never changed, so
// that several threads may run it at once, each with an arena of its own.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "capture.h"
#include "passes.h"

namespace opgrad {

// Where an operand lies: a base (chosen at run time) and a layout.
enum class Base : std::uint8_t { arena, slot, output, number, constant, tile };
struct PlanOperand {
  Base base;
  DType dtype;
  std::uint32_t index = 0;  // which slot, output, number, constant or tile
  std::int64_t offset = 0;  // in bytes, from the base
  ShapeId shape = 0;
  std::uint32_t layout = 0;  // in Plan::layouts
};

// One kernel call, on whole values or, in a group, on a tile.
struct PlanCall {
  const Op* op;  // null: a copy
  const void* attributes;
  std::uint32_t item;      // for the origin in errors
  std::uint32_t operands;  // first in Plan::operands: the inputs, then the output
  std::uint32_t inputs;
  std::int64_t workspace = -1;  // offset in the arena
};

struct PlanStep {
  std::uint32_t call, calls;  // one call, or the members of a group
  bool group = false;
  std::uint32_t tiles = 0;  // of a group: how many scratch tiles
};

struct PlanOutput {
  std::size_t bytes;
  std::uint32_t donor;  // slot, or no_index
};

struct Plan {
  Program program;
  std::size_t nodes = 0;  // that were captured
  Words key;
  std::uint64_t hash = 0;
  std::vector<double> numbers;
  std::vector<bool> number_fixed;  // part of the key by value
  PassSet passes = PassSet::none();

  std::vector<std::array<std::int64_t, max_rank>> layouts;
  std::vector<PlanOperand> operands;
  std::vector<PlanCall> calls;
  std::vector<PlanStep> steps;
  std::vector<PlanOutput> outputs;
  std::uint32_t tail = 0;  // from this step on nothing can fail, and donated memory is written
  std::size_t arena_bytes = 0;
  std::size_t live_bytes_bound = 0;  // the largest sum of live bytes: no arena can be smaller
};

// Tiles have this many elements. A group has at most so many members of at most so many inputs: its tiles
// then stay in cache, and the executor keeps them on the stack, so that a group allocates nothing.
inline constexpr std::int64_t tile_elements = 1024;
inline constexpr std::uint32_t longest_group = 24;
inline constexpr std::uint32_t widest_member = 3;

// Passes and memory plan for what was captured, which gives away its key. `fixed` as for program_of.
Plan make_plan(Capture& capture, const std::vector<bool>& fixed, PassSet passes);

// Runs a plan on the capture's leaves and numbers. Returns one buffer per output; on an exception nothing has
// changed but scratch memory. Donated leaves' memory is in the returned buffers afterwards. `before_tail`,
// which may throw, is called once all fallible steps are done; `after_call` after every single call, with its
// result.
struct Watch {
  void (*before_tail)(std::span<const BufferRef> outputs) = nullptr;
  void (*after_call)(const View& result, const Node& node) = nullptr;
};
std::vector<BufferRef> execute(const Plan& plan, const Capture& capture, const Watch& watch = {});

}  // namespace opgrad
