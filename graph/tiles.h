// Inside the room: running the members of a tile group over ranges of elements, tile by tile.
#pragma once
#include <array>
#include <memory_resource>
#include <vector>

#include "../core/loops.h"
#include "../core/scratch.h"
#include "plan.h"

namespace opgrad {

// Memory that a run has given to a plan's bases: see Plan::place_in_table.
struct Bases {
  std::byte* arena = nullptr;
  std::pmr::vector<std::byte*> table{scratch()};

  // Meaningless for tiles and blocks.
  std::byte* at(const PlanOperand& o) const { return table[o.where] + o.offset; }
};

// The rows that a part of a row group works on; all of them elsewhere.
struct Rows {
  std::int64_t begin = 0, count = -1;
  std::byte* scratch = nullptr;
};

// What a kernel sees of an operand.
View view_of(const Plan& plan, const PlanOperand& o, const Bases& bases, const Rows& rows);

// A tile group whose operands have been looked up, so that a tile costs little more than its loops. Made by
// the thread that runs the step, used by all.
class TileRun {
 public:
  TileRun(const Plan& plan, const PlanStep& step, const Bases& bases);
  TileRun(const TileRun&) = delete;
  TileRun& operator=(const TileRun&) = delete;
  // Elements [begin, end) of the group's values, or, of a row group, of those of these rows. What the step's
  // reduction reads of them goes to `consumed`.
  void run(std::int64_t begin, std::int64_t end, const Rows& rows, std::byte* consumed = nullptr) const;
  // Elements of the whole, and of one row.
  std::int64_t numel() const { return numel_; }

 private:
  // A member, or several as one loop.
  struct Unit {
    void (*loop)(const detail::Strip&);  // null: the kernel is called on views of a tile
    const PlanCall* call;
    const PlanOperand* operands;  // its inputs and its result
    std::int64_t width;           // elements of a pack
    const PlanLoop* joined = nullptr;
    ComposedLoop code = nullptr;  // of `joined`
  };
  // Where a tile's elements are, and whether they may be read and written up to a whole pack.
  struct Piece {
    std::byte* data;
    bool padded;
  };
  void repeat(const PlanOperand& o) const;
  Piece piece_of(const PlanOperand& o, std::int64_t at, std::int64_t n, const Rows& rows,
                 std::byte* tiles) const;
  void run_joined(const Unit& u, std::int64_t at, std::int64_t n, const Rows& rows, std::byte* tiles) const;
  void run_member(const Unit& u, const Piece* pieces, std::int64_t n) const;

  const Plan& plan_;
  const Bases& bases_;
  const PlanOperand* consumed_;  // null without a reduction
  std::uint32_t count_ = 0;
  std::int64_t numel_;
  std::array<Unit, longest_group> units_;
};

}  // namespace opgrad
