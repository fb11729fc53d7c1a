// A plan: a flat array of steps over one arena. Made once per structure, replayed often, never changed, so
// that several threads may run it at once, each with an arena of its own.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../core/compose.h"
#include "capture.h"
#include "passes.h"

namespace opgrad {

// Where an operand lies: a base (chosen at run time) and a layout. A tile is scratch memory of a tile group,
// a block that of one block of rows.
enum class Base : std::uint8_t { arena, slot, output, number, constant, tile, block };
// How a member of a tile group meets the elements of an operand: one after the other; one for all; the same
// run again and again; anyhow, so that they are gathered first; in a tile.
enum class Walk : std::uint8_t { dense, splat, periodic, gathered, tile };
struct PlanOperand {
  Base base;
  DType dtype;
  Walk walk = Walk::dense;  // in tile groups
  bool cut = false;         // in row groups: a block sees its own rows only
  std::uint32_t index = 0;  // which slot, output, number, constant or tile
  std::uint32_t where = 0;  // the base's place in the table that a run fills: see Plan::bases
  std::int64_t offset = 0;  // in bytes, from the base
  ShapeId shape = 0;
  std::uint32_t layout = 0;  // in Plan::layouts
  // In tile groups: bytes of an element and from row to row (0 where rows are not cut); the scratch tile of
  // what is gathered or lives in one; of a periodic walk the elements of its run, and arena memory for the
  // run, repeated for a tile's length.
  std::uint32_t bytes = 0, tile = 0;
  std::int64_t row_bytes = 0, period = 0, pattern = -1;
};

// One kernel call, on whole values or on pieces.
struct PlanCall {
  const Op* op;  // null: a copy
  const void* attributes;
  std::uint32_t item;      // for the origin in errors
  std::uint32_t operands;  // first in Plan::operands: the inputs, then the output
  std::uint32_t inputs;
  std::int64_t workspace = -1;  // offset in the arena
};

// A kernel (`head`), or a tile group (`count` calls from `first` on, run tile by tile), or both: the group
// then runs on each piece that the kernel finishes. Or a tile group and a kernel (`fold`) that reads one of
// its tiles, piece by piece as it asks for them. Or a row group: `count` parts from `first` on, all run
// for one block of `block` rows before the next.
struct PlanStep {
  std::uint32_t head = no_index;
  std::uint32_t first = 0, count = 0;
  std::uint32_t fold = no_index;
  std::uint32_t tiles = 0;  // scratch tiles of the group, without those for gathered operands
  std::int64_t rows = 0;    // of a row group: how many, 0 for other steps
  std::int64_t block = 0;
  std::size_t scratch = 0;  // bytes of a block

  std::uint32_t first_call(const std::vector<PlanStep>& parts) const {
    return rows ? parts[first].first_call(parts) : head != no_index ? head : first;
  }
};

// Calls of a tile group that run as one loop, from `first` on, and the operands whose memory it goes through.
struct PlanLoop {
  std::uint32_t first, count;
  struct Stream {
    std::uint32_t operand;
    bool written;
  };
  std::vector<Stream> streams;
  std::size_t code = 0;  // where it begins in Plan::code
};

struct PlanOutput {
  std::size_t bytes;
  std::uint32_t donor;  // slot, or no_index
};

// A number that the run brings, or one known for good.
struct PlanNumber {
  std::uint32_t captured;
  DType dtype;
};

struct Plan {
  Program program;
  std::size_t nodes = 0;          // that were captured
  std::vector<OriginId> origins;  // by captured node, as they were when the plan was made
  Words key;
  std::uint64_t hash = 0;
  std::vector<double> numbers;
  std::vector<bool> number_fixed;  // part of the key by value
  PassSet passes = PassSet::none();

  std::vector<std::array<std::int64_t, max_rank>> layouts;
  std::vector<PlanOperand> operands;
  std::vector<PlanCall> calls;
  std::vector<PlanStep> steps, parts;
  std::vector<PlanLoop> loops;             // in the order of their calls
  std::shared_ptr<const Executable> code;  // of the loops, for these instructions
  Isa code_isa = Isa::baseline;
  std::int64_t compiled_from = 0;  // groups of fewer elements have been left
  std::vector<PlanOutput> outputs;
  std::vector<PlanNumber> cells;  // by number
  // A run's table of memory: the arena, nothing (for tiles and blocks, which each thread has of its own),
  // then slots, outputs, constants, and numbers, each repeated to 64 bytes.
  std::uint32_t place_in_table(Base base, std::uint32_t index) const;
  // A part of a row group whose result is folded over all rows.
  bool folds_rows(const PlanStep& part) const {
    return part.head != no_index && !operands[calls[part.head].operands + calls[part.head].inputs].cut;
  }
  std::uint32_t tail = 0;  // from this step on nothing can fail, and donated memory is written
  std::size_t arena_bytes = 0;
  std::size_t live_bytes_bound = 0;  // the largest sum of live bytes: no arena can be smaller
};

// Tiles have this many elements. A group has at most so many calls of at most so many inputs: its tiles then
// stay in cache, and on the stack, so that a group allocates nothing.
inline constexpr std::int64_t tile_elements = 1024;
inline constexpr std::uint32_t longest_group = 32;
inline constexpr std::uint32_t widest_member = 3;

// Passes and memory plan for what was captured, which gives away its key. `fixed` as for program_of.
Plan make_plan(Capture& capture, const std::vector<bool>& fixed, PassSet passes);

// The same plan, with loops made of all its groups; null if it has them already or `passes` say not to.
std::shared_ptr<const Plan> compiled(const Plan& plan);

// What may be looked at while a plan runs.
struct Watch {
  // Called once all fallible steps are done; may throw.
  void (*before_tail)(std::span<const BufferRef> outputs) = nullptr;
  // Called after every kernel that is a step by itself, with its result; may throw.
  void (*after_call)(const View& result, const Node& node) = nullptr;
  // Called before every step, with its number, and once behind the last.
  const FunctionRef<void(std::size_t step)>* step = nullptr;
};
// Runs a plan on the capture's leaves and numbers. Returns one buffer per output; on an exception nothing has
// changed but scratch memory. Donated leaves' memory is in the returned buffers afterwards.
std::vector<BufferRef> execute(const Plan& plan, const Capture& capture, const Watch& watch = {});

}  // namespace opgrad
