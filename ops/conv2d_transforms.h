// The transforms of Winograd's F(2x2, 3x3) and F(4x4, 3x3) on vectors of channels: with
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
// B)] G. With 6x6 pixels and 4x4 outputs 36 products stand for 144; the matrices follow from points at which
// polynomials are multiplied, here 0, a, -a, b, -b and infinity:
//
//          1    0  -5/2    0   1  0           1     0     0             1   1    1    1    1    0
//          0  -2a    -2    a   1  0       -2/3  -2a/3  -1/3             0   a   -a    b   -b    0
//     B' = 0   2a    -2   -a   1  0   G = -2/3   2a/3  -1/3        A' = 0  1/2  1/2   2    2    0
//          0 -b/2  -1/2    b   1  0        1/6   b/6    1/3             0  a/2 -a/2  2b  -2b    1
//          0  b/2  -1/2   -b   1  0        1/6  -b/6    1/3
//          0    1     0 -5/2   0  1           0     0     1
//
// with a = sqrt(1/2) and b = sqrt(2), for which the errors are less than the half of those of the usual 1 and
// 2, or 1 and 1/2, and among the least of all a and b. Lavin & Gray, "Fast algorithms for convolutional
// neural networks", 2016; on points, Barabasz et al., "Error analysis and improving the accuracy of Winograd
// convolution for deep neural networks", 2020.
#pragma once
#include <cstdint>

namespace opgrad {

// All work on `channels` channels, at least 16 of them, and move the last vector back to end with them.
// Matrices of the 16 (36) products are `apart` elements from one another.

// A tile: inputs from element `in` of x on, of which lines [top, bottom) and columns [left, right) are in the
// image, the others count as zeros; and outputs from element `out` of y on.
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
// y = A' m A for each tile, of which `rows` x `columns` outputs are there. Of the products all are there down
// and across, or, of tiles that have fewer outputs, all but the last, or 1: then the others are 0.
struct PatchOut {
  const float* m;
  std::int64_t step, apart;
  float* y;
  const Patch* tiles;
  std::int64_t count, line, pixel, vectors, last;  // vector v goes to y + v*lanes, the last to y + last
  std::int64_t rows, columns;
  std::int64_t products_down, products_across;
};
// to = A dy A' for each tile; only `rows` x `columns` outputs are there. Vectors lie side by side in `to`.
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
  std::int64_t tap, vectors, last;  // vector v comes from g + v*lanes, the last from g + last
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

// The functions for the instructions in use and tiles of side x side outputs, 2 or 4.
template <class Patch>
void (*transform(int side))(const Patch*);

}  // namespace opgrad
