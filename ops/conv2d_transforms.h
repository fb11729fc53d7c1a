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

// to = B' d B for the patch at d, whose lines are `line` and whose pixels `pixel` elements apart.
struct PatchIn {
  const float* d;
  std::int64_t line, pixel, channels;
  float* to;
  std::int64_t apart;
};
// y = A' m A; of the 2x2 only `rows` x `columns` are stored.
struct PatchOut {
  const float* m;
  std::int64_t apart;
  float* y;
  std::int64_t line, pixel, vectors, last;  // vector v goes to y + v*lanes, the last to y + last
  std::int64_t rows, columns;
};
// to = A dy A'; of the 2x2 only `rows` x `columns` are there. Vectors lie side by side in `to`.
struct DeltaIn {
  const float* dy;
  std::int64_t line, pixel, channels, rows, columns;
  float* to;
  std::int64_t apart;
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
