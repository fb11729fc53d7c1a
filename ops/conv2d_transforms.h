// The transforms of Winograd's F(2x2, 3x3) on vectors of channels: with
//
//          1  0 -1  0          1   0   0            1  1  1  0
//     B' = 0  1  1  0      G = .5  .5  .5      A' = 0  1 -1 -1
//          0 -1  1  0          .5 -.5  .5
//          0  1  0 -1          0   0   1
//
// and 4x4 pixels d of one channel of x that overlap by two, 2x2 outputs y, and the kernel g between two
// channels,
//
//     y = A' [sum over channels of (G g G') * (B' d B)] A,     * element by element:
//
// 16 products where the plain sum has 36. The kernel's gradient is G' [sum over tiles of (A dy A') * (B' d
// B)] G. Lavin & Gray, "Fast algorithms for convolutional neural networks", 2016.
#pragma once
#include <cstdint>

namespace opgrad {

// All work on `channels` channels, at least 16 of them, and move the last vector back to end with them.
// Matrices of the 16 products are `apart` elements from one another.

// A tile: 4x4 inputs from element `in` of x on, of which lines [top, bottom) and columns [left, right) are in
// the image, the others count as zeros; and 2x2 outputs from element `out` of y on.
struct Patch {
  std::int64_t in, out;
  std::int8_t top, bottom, left, right;
};
// to = B' d B for each tile; lines are `line`, pixels `pixel`, results `step` elements apart.
struct PatchIn {
  const float* x;
  std::int64_t line, pixel, channels;
  const Patch* tiles;
  std::int64_t count;
  float* to;
  std::int64_t step, apart;
};
// y = A' m A for each tile. Of the products 4 are there down and across, or, of tiles that have one output of
// two, 3, or 1: then the others are 0.
struct PatchOut {
  const float* m;
  std::int64_t step, apart;
  float* y;
  const Patch* tiles;
  std::int64_t count, line, pixel, vectors, last;  // vector v goes to y + v*lanes, the last to y + last
  std::int64_t products_down, products_across;
};
// to = A dy A' for each tile; of the 2x2 only `rows` x `columns` are there. Vectors lie side by side in `to`.
struct DeltaIn {
  const float* dy;
  std::int64_t line, pixel, channels;
  const Patch* tiles;
  std::int64_t count, rows, columns;
  float* to;
  std::int64_t step, apart;
};
// to = G g G' for `vectors` vectors; taps are `tap` elements apart.
struct KernelIn {
  const float* g;
  std::int64_t tap, vectors;
  float* to;
  std::int64_t apart;
};
// g = G' (sum over groups of m) G; groups are `group` elements apart, taps of g are `tap`.
struct KernelOut {
  const float* m;
  std::int64_t apart, groups, group, channels;
  float* g;
  std::int64_t tap;
};

// The functions for the instructions in use.
template <class Patch>
void (*transform())(const Patch*);

}  // namespace opgrad
