// The tiles that Winograd's products go over, in the order in which they do.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

#include "conv2d_source.h"
#include "conv2d_transforms.h"

namespace opgrad {

// Classes of tiles: short down; whole; short across; short in both. In this order the tiles that have a
// product follow one another, whichever product it is.
inline constexpr std::size_t winograd_classes = 4, short_in_both = 3;

// Images, results and pads of a convolution with 3x3 kernels.
struct WinogradShape {
  std::int64_t rows, columns, channels;
  std::int64_t out_rows, out_columns, out_channels;
  std::int64_t top, left;
  int side;  // outputs of a tile, down and across

  int products() const { return side + 2; }
  std::int64_t down() const { return (out_rows + side - 1) / side; }
  std::int64_t across() const { return (out_columns + side - 1) / side; }

  // Of a class of tiles: outputs, and products that are needed. Where the outputs leave a rest, the last line
  // (column) of tiles has that many, and needs all products but the last, or one alone: where its second
  // input is beyond the image, the others are of zeros.
  std::int64_t rows_of(std::size_t k) const { return short_down(k) ? out_rows % side : side; }
  std::int64_t columns_of(std::size_t k) const { return short_across(k) ? out_columns % side : side; }
  std::int64_t products_down(std::size_t k) const {
    return short_down(k) ? rest(out_rows, rows, top) : products();
  }
  std::int64_t products_across(std::size_t k) const {
    return short_across(k) ? rest(out_columns, columns, left) : products();
  }

 private:
  static bool short_down(std::size_t k) { return k == 0 || k == 3; }
  static bool short_across(std::size_t k) { return k >= 2; }
  std::int64_t rest(std::int64_t outputs, std::int64_t inputs, std::int64_t pad) const {
    if (outputs % side == 0) return products();
    return outputs - outputs % side - pad + 1 >= inputs ? 1 : products() - 1;
  }
};

// Where each class begins; the end last.
using WinogradClasses = std::array<std::int64_t, winograd_classes + 1>;

// Writes the tiles of lines [first, end), counted through all images, and of some columns (of tiles, too) to
// `to`.
inline WinogradClasses list_tiles(const WinogradShape& s, Range lines, Range columns, Patch* to) {
  const std::int64_t down = s.down(), whole_down = s.out_rows / s.side;
  const std::int64_t whole_across = std::clamp(s.out_columns / s.side, columns.begin, columns.end);
  const auto cut = [&](std::int64_t n) {
    return static_cast<std::int8_t>(std::clamp<std::int64_t>(n, 0, s.products()));
  };
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
      const std::int64_t row = s.side * tile - s.top;
      for (std::int64_t j = across.begin; j < across.end; ++j) {
        const std::int64_t column = s.side * j - s.left;
        *next++ = {((image * s.rows + row) * s.columns + column) * s.channels,
                   ((image * s.out_rows + s.side * tile) * s.out_columns + s.side * j) * s.out_channels,
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
