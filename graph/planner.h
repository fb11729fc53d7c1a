// Inside the room: what the two halves of planning share. The first half (plan.cpp) turns items into calls on
// storages, the second (plan_memory.cpp) gives each storage its place.
#pragma once
#include <vector>

#include "plan.h"

namespace opgrad {

// One block of memory that a plan knows: where it comes from and when it is needed.
struct Storage {
  Base base = Base::arena;
  std::uint32_t index = 0;
  std::size_t bytes = 0;
  std::uint32_t begin = no_index, end = 0;     // steps
  std::uint32_t call_begin = 0, call_end = 0;  // the call that writes it, the last that reads it
  std::int64_t offset = 0;
  std::int64_t row_bytes = 0;  // of a value that a row group makes
  // In its last step it is read element by element only, each by the call for the same element.
  bool elementwise = true;
  std::uint32_t merged = no_index;  // the storage whose memory it shares
};

// A part of a storage: values are many and their strides few, so those stand in Plan::layouts once.
struct Place {
  std::uint32_t storage = no_index;
  std::uint32_t strides = 0;  // in Plan::layouts
  std::int64_t offset = 0;    // in elements
};

struct PendingOperand {
  Place place;
  ShapeId shape;
  DType dtype;
  Walk walk;
  bool cut;
};

struct Draft {
  Plan& plan;
  std::vector<Storage> storages;
  std::vector<PendingOperand> operands;

  Layout layout_of(const Place& p) const { return {p.offset, plan.layouts[p.strides]}; }
};

// Decides donations, tiles, reuse in place, blocks and the arena; fills Plan::operands.
void lay_out(Draft& draft);

// Joins members of tile groups to loops; they also run without. Compiling a group takes some microseconds:
// when a plan is made, that is worth it for groups of many elements only.
void compile_groups(Plan& plan, std::int64_t fewest_elements);
std::int64_t worth_compiling_at_once();

// Row-major without gaps, as far as axes longer than 1 go.
bool dense_layout(const Shape& shape, const Layout& layout);
// The length of the run that repeats: trailing axes lie densely, the others do not move. 0 where that is not
// so.
std::int64_t period(const Shape& shape, const Layout& layout);

}  // namespace opgrad
