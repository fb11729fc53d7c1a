// Rectangles and blocks of depthwise convolution.
#include "depthwise_rectangles.h"

#include <algorithm>

#include "depthwise_tiles.h"

namespace opgrad {

using Size = std::int64_t;

namespace {

constexpr Size block_packs = 16;        // whose weights stay in the first cache
constexpr Size copy_bytes = 192 << 10;  // a part of the second
constexpr Size vector = 64;             // of the widest instructions

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

}  // namespace

void find_rectangles(const DepthwiseGrid& grid, const Box& box, const PixelLayout& from, Size width,
                     Rectangles& to) {
  to.all.clear();
  to.offsets.clear();
  to.weights.clear();
  for (const Lattice& a : grid.down.all) {
    const auto bands = segments(grid.down, a, points(grid.down, a, box.first_row, box.end_row), grid.rows);
    if (bands.empty()) continue;
    for (const Lattice& b : grid.across.all) {
      const Range p = points(grid.across, b, box.first_column, box.end_column);
      for (const Segment& column : segments(grid.across, b, p, grid.columns)) {
        const Size taps = column.taps.end - column.taps.begin;
        const Size start = static_cast<Size>(to.offsets.size());
        bool dense = grid.across.step == 1;
        for (std::size_t m = 0; m < a.taps.size(); ++m)
          for (std::size_t n = at(column.taps.begin); n < at(column.taps.end); ++n) {
            to.offsets.push_back(a.offsets[m] * from.line + from.column(b.offsets[n]));
            to.weights.push_back((a.taps[m] * grid.kernel_columns + b.taps[n]) * width);
            if (n > at(column.taps.begin)) dense = dense && b.offsets[n] == b.offsets[n - 1] + 1;
          }
        for (const Segment& row : bands)
          to.all.push_back({row.points, column.points, &a, &b, at(start + row.taps.begin * taps),
                            (row.taps.end - row.taps.begin) * taps, dense ? depthwise_run(taps) : 1});
      }
    }
  }
}

Range rows_read(const DepthwiseGrid& grid, const Box& box) {
  Range rows{grid.rows, 0};
  for (const Lattice& a : grid.down.all) {
    const Range p = points(grid.down, a, box.first_row, box.end_row);
    for (const Segment& s : segments(grid.down, a, p, grid.rows)) {
      if (s.taps.begin == s.taps.end) continue;
      rows.begin = std::min(rows.begin, s.points.begin * grid.down.step + a.offsets[at(s.taps.begin)]);
      rows.end = std::max(rows.end, (s.points.end - 1) * grid.down.step + a.offsets[at(s.taps.end - 1)] + 1);
    }
  }
  return rows.begin < rows.end ? rows : Range{0, 0};
}

Size block_channels(Size channels, Size multiplier, Size copied, std::size_t element_bytes) {
  const Size bytes = static_cast<Size>(element_bytes), pack = vector / bytes;
  Size most = block_packs * pack;
  if (copied) most = std::clamp(copy_bytes / (copied * bytes), pack, most);
  const Size blocks = divide_up(channels, divide_up(most, multiplier));
  const Size even = divide_up(channels, blocks);
  return multiplier == 1 ? divide_up(even, pack) * pack : std::max(even, divide_up(pack, multiplier));
}

Size block_end(Size first, Size block, Size channels, std::size_t element_bytes) {
  const Size least = vector / static_cast<Size>(element_bytes);
  return channels - first < block + least ? channels : first + block;
}

}  // namespace opgrad
