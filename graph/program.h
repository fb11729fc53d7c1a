// The captured graph: a numbered copy of what a run computes, without nodes. Passes rewrite it, the planner
// lays it out; the user's own graph is never edited.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir.h"

namespace opgrad {

inline constexpr std::uint32_t no_index = ~std::uint32_t{0};

// A slot is a leaf, memory given at run time; a number is one number repeated; a constant is memory that a
// pass has filled when the plan was made.
enum class ItemKind : std::uint8_t { slot, number, constant, op };

// One value.
struct Item {
  ItemKind kind;
  DType dtype;
  ShapeId shape;
  const Op* op = nullptr;              // of an op
  const void* attributes = nullptr;    // of an op; memory in Program::owned
  std::uint32_t first = 0, count = 0;  // of an op: its inputs in Program::inputs
  std::uint32_t place = no_index;      // of the others: which slot, number or constant
  std::uint32_t node = no_index;       // the captured node it stems from, whose line errors and profiles name
  // Neighbours in `order` that run together: tile by tile (pointwise.cpp), block of rows by block (rows.cpp).
  std::uint32_t group = no_index, rows = no_index;
  std::uint32_t epilogue = no_index;  // the group that runs on the pieces of this result (epilogue.cpp)
  std::uint32_t consumes = no_index;  // the group whose result this reads piece by piece (reductions.cpp)
};

struct Output {
  std::uint32_t item;
  std::uint32_t donor = no_index;  // the slot whose memory this output may take over
};

struct Number {
  double value;
  std::uint32_t captured;  // which of the run's numbers it is; no_index: known for good, `value`
};

struct Program {
  std::vector<Item> items;  // inputs before users
  std::vector<std::uint32_t> inputs;
  std::vector<Output> outputs;  // as many, in the same order, whatever passes do
  std::uint32_t slots = 0;
  std::vector<Number> numbers;
  std::vector<BufferRef> constants;
  std::vector<std::uint32_t> order;  // the items that are steps, in the order of execution (schedule.cpp)
  // From this place of `order` on nothing can fail: donated memory is written here.
  std::uint32_t tail = no_index;
  std::vector<std::int64_t> row_blocks;      // how many rows a block of each row group has
  std::vector<std::shared_ptr<void>> owned;  // copies of attributes

  // A copy of an attribute struct that lives as long as the program.
  const void* own(const AttributeInfo& info, const void* attributes);
  std::span<const std::uint32_t> inputs_of(const Item& i) const { return {inputs.data() + i.first, i.count}; }
  const Shape& shape(std::uint32_t i) const { return shape_of(items[i].shape); }
  // Input k of an op is cut along axis 0 as its result is (Op::rows).
  bool cut_with_rows(const Item& i, std::uint32_t k) const {
    if (has(i.op->traits, Traits::pointwise)) return true;
    return i.op->rows && (i.op->rows(i.attributes, shape_of(i.shape)) >> k & 1);
  }
  // In a row group: its result is folded over the rows of all its inputs (Op::over_rows).
  bool folds_rows(const Item& i) const { return i.op->over_rows.rows && !cut_with_rows(i, 0); }
  std::size_t bytes_of(const Item& i) const {
    return static_cast<std::size_t>(shape_of(i.shape).numel()) * size_of(i.dtype);
  }
};

// The users of every item, one after the other: users[first[i]] ... users[first[i+1]].
struct Users {
  std::vector<std::uint32_t> first, users;
  explicit Users(const Program& p);
  std::span<const std::uint32_t> of(std::uint32_t i) const {
    return {users.data() + first[i], first[i + 1] - first[i]};
  }
};

// An op as the rules of its record see a call: its inputs have their types, and nothing else.
class ItemCall {
 public:
  ItemCall(const Program& p, const Item& item);
  Call call() const { return {*item_.op, inputs_, item_.attributes}; }

 private:
  const Item& item_;
  std::vector<Node> nodes_;
  std::vector<Node*> inputs_;
};

// Which items some output depends on.
std::vector<bool> reached(const Program& p);

// The items in execution order, inputs before users, by Boost.Graph's topological sort; items that do not
// depend on one another in the order of their numbers. Throws InternalError on a cycle.
std::vector<std::uint32_t> topological_order(const Program& p);

// Drops items where they lie, which takes less memory than a copy. stands_for[i] is i for an item that stays,
// an earlier one of equal value that stays and is read in its place, or no_index for one that nobody reads.
// Numbers and constants of none that stays go as well, and so does the order of steps.
void keep_representatives(Program& p, std::vector<std::uint32_t> stands_for);

// Copies a program item by item, the way passes rewrite: walk the old items in order and say what stands for
// each.
//
//     Rewrite r(program);
//     for (std::uint32_t i = 0; i < r.from().items.size(); ++i)
//       if (...) r.replace(i, r.of(other)); else r.keep(i);
//     program = r.finish();
class Rewrite {
 public:
  explicit Rewrite(Program& from);

  const Program& from() const { return from_; }
  const Program& to() const { return to_; }
  // The new item that stands for an old one.
  std::uint32_t of(std::uint32_t old) const { return map_[old]; }
  // The old item as it is, on what stands for its inputs; it stands for itself then.
  std::uint32_t keep(std::uint32_t old);
  // `item`, a new one, stands for `old`.
  void replace(std::uint32_t old, std::uint32_t item) { map_[old] = item; }
  // New items. Attributes must be those of an old item or have been given to own.
  std::uint32_t number(double value, DType dtype, ShapeId shape, std::uint32_t node);
  std::uint32_t op(const Op& op, const void* attributes, std::span<const std::uint32_t> inputs, DType dtype,
                   ShapeId shape, std::uint32_t node);
  const void* own(const AttributeInfo& info, const void* attributes) { return to_.own(info, attributes); }
  // The new program, outputs mapped. The old one is used up.
  Program finish();

 private:
  Program& from_;
  Program to_;
  std::vector<std::uint32_t> map_;
};

}  // namespace opgrad
