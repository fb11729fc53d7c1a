// The tiles of 2x2 outputs that Winograd's products go over, in the order in which they do.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

#include "conv2d_source.h"
#include "conv2d_transforms.h"

namespace opgrad {

// Images, results and pads of a convolution with 3x3 kernels.
struct WinogradShape {
  std::int64_t rows, columns, channels;
  std::int64_t out_rows, out_columns, out_channels;
  std::int64_t top, left;

  // Where outputs are odd in number, the last line (column) of tiles has one output of its two, and needs
  // three of the four products down (across), or one: where its second input is beyond the image, the others
  // are of zeros.
  std::int64_t products_down() const { return products(out_rows, rows, top); }
  std::int64_t products_across() const { return products(out_columns, columns, left); }

 private:
  static std::int64_t products(std::int64_t outputs, std::int64_t inputs, std::int64_t pad) {
    if (outputs % 2 == 0) return 4;
    return outputs - pad >= inputs ? 1 : 3;
  }
};

// Classes of tiles: short down; whole; short across; short in both. In this order the tiles that have a
// product follow one another, whichever product it is.
inline constexpr std::size_t winograd_classes = 4;
// Where each class begins; the end last.
using WinogradClasses = std::array<std::int64_t, winograd_classes + 1>;

// Writes the tiles of lines [first, end), counted through all images, and of some columns (of tiles, too) to
// `to`.
inline WinogradClasses list_tiles(const WinogradShape& s, Range lines, Range columns, Patch* to) {
  const std::int64_t down = (s.out_rows + 1) / 2, whole_down = s.out_rows / 2;
  const std::int64_t whole_across = std::clamp(s.out_columns / 2, columns.begin, columns.end);
  const auto cut = [](std::int64_t n) { return static_cast<std::int8_t>(std::clamp<std::int64_t>(n, 0, 4)); };
  WinogradClasses begin{};
  Patch* next = to;
  for (std::size_t c = 0; c < winograd_classes; ++c) {
    begin[c] = next - to;
    const bool short_down = c == 0 || c == 3;
    const Range across = c < 2 ? Range{columns.begin, whole_across} : Range{whole_across, columns.end};
    if (short_down && whole_down == down) continue;
    for (std::int64_t line = lines.begin; line < lines.end; ++line) {
      const std::int64_t image = line / down, tile = line % down;
      if ((tile == whole_down) != short_down) continue;
      const std::int64_t row = 2 * tile - s.top;
      for (std::int64_t j = across.begin; j < across.end; ++j) {
        const std::int64_t column = 2 * j - s.left;
        *next++ = {((image * s.rows + row) * s.columns + column) * s.channels,
                   ((image * s.out_rows + 2 * tile) * s.out_columns + 2 * j) * s.out_channels,
                   cut(-row),
                   cut(s.rows - row),
                   cut(-column),
                   cut(s.columns - column)};
      }
    }
  }
  begin[winograd_classes] = next - to;
  return begin;
}

}  // namespace opgrad
