// Inside the room: running the members of a tile group over ranges of elements, tile by tile.
#pragma once
#include <array>
#include <vector>

#include "../core/loops.h"
#include "plan.h"

namespace opgrad {

// Memory that a run has given to a plan's bases.
struct Bases {
  std::byte* arena = nullptr;
  std::vector<std::byte*> slots, outputs;
  std::span<const BufferRef> constants;
  std::byte* cells = nullptr;  // 64 bytes a number: the number, repeated

  // Null for tiles and blocks, which each thread has of its own.
  std::byte* at(const PlanOperand& o) const;
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
  // Elements [begin, end) of the group's values, or, of a row group, of those of these rows.
  void run(std::int64_t begin, std::int64_t end, const Rows& rows) const;
  // Elements of the whole, and of one row.
  std::int64_t numel() const { return numel_; }

 private:
  struct Lane {
    std::byte* data;
    std::int64_t bytes;  // of an element
    std::int64_t period;
    std::int64_t row_bytes;  // from row to row, where the rows are cut
    const PlanOperand* operand;
    std::uint32_t tile;
    Walk walk;
    bool in_block;
  };
  struct Member {
    void (*loop)(const detail::Strip&);  // null: the kernel is called on views of a tile
    const PlanCall* call;
    std::uint32_t lane;  // its first input's
    std::int64_t width;  // elements of a pack
  };
  // Where a tile's elements are, and whether they may be read and written up to a whole pack.
  struct Piece {
    std::byte* data;
    bool padded;
  };
  void streams(const Lane& l);
  void fetch(std::int64_t at, std::int64_t end, std::uint32_t member, const Rows& rows) const;
  void run_member(const Member& m, const Piece* pieces, std::int64_t n) const;

  const Plan& plan_;
  const Bases& bases_;
  std::uint32_t count_;
  std::int64_t numel_;
  std::array<Member, longest_group> members_;
  // Arrays whose next tiles are fetched ahead.
  static constexpr std::uint32_t most_streams = 8;
  std::array<const Lane*, most_streams> streams_;
  std::uint32_t stream_count_ = 0;
  std::array<Lane, std::size_t{longest_group} * (widest_member + 1)> lanes_;
};

}  // namespace opgrad
