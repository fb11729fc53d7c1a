// The captured graph: a numbered copy of what a run computes, without nodes. Passes and planner work on it;
// the user's own graph is never edited.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir.h"

namespace opgrad {

inline constexpr std::uint32_t no_index = ~std::uint32_t{0};

enum class ItemKind : std::uint8_t { slot, number, op };

// One value. `slot` is a leaf: memory given at run time; `number` is one number repeated.
struct Item {
  ItemKind kind;
  DType dtype;
  ShapeId shape;
  const Op* op = nullptr;              // of an op
  const void* attributes = nullptr;    // of an op; owned by the program once it is planned
  std::uint32_t first = 0, count = 0;  // of an op: its inputs in Program::inputs
  std::uint32_t place = no_index;      // of a slot or number: its place among slots or numbers
  std::uint32_t group = no_index;      // items of one group run together, tile by tile (fuse.cpp)
};

struct Output {
  std::uint32_t item;
  std::uint32_t donor = no_index;  // the slot whose memory this output may take over
};

struct Program {
  std::vector<Item> items;  // inputs before users
  std::vector<std::uint32_t> inputs;
  std::vector<Output> outputs;
  std::uint32_t slots = 0, numbers = 0;
  std::vector<std::uint32_t> order;  // the items that are steps, in the order of execution (schedule.cpp)
  std::uint32_t tail =
      no_index;  // from this place of `order` on nothing can fail: donated memory is written here
  std::vector<std::shared_ptr<void>> owned;  // copies of attributes

  std::span<const std::uint32_t> inputs_of(const Item& i) const { return {inputs.data() + i.first, i.count}; }
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

// The items in execution order, inputs before users, by Boost.Graph's topological sort; items that do not
// depend on one another in the order of their numbers. Throws InternalError on a cycle.
std::vector<std::uint32_t> topological_order(const Program& p);

// What distinguishes this run from another: structure as words, and the numbers apart.
struct Capture {
  Program program;
  std::vector<Node*> nodes;          // by item; valid while the run lasts
  std::vector<Node*> leaves;         // by slot
  std::vector<double> numbers;       // by number
  std::vector<bool> number_is_slot;  // never part of the key
  Words key;
  std::uint64_t hash = 0;
};

// What a run is asked for.
struct Wish {
  Node* node;
  Node* donor = nullptr;  // the leaf whose memory the result may take over, if nobody else holds it
};

// Captures what `wishes` need. With `with_held` every node met that somebody outside the graph holds becomes
// an output too. Donations that somebody else's hold forbids are dropped and counted in `missed`.
Capture capture(std::span<const Wish> wishes, bool with_held, std::uint64_t& missed);

}  // namespace opgrad
