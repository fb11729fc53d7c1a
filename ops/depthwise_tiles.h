// Register tiles: the inner loops of depthwise convolution, over packs of channels.
#pragma once
#include <cstdint>

namespace opgrad {

// A rectangle of outputs that read the same taps: y[r*y_row + p*y_step + c] = sum over taps k of
// x[first + r*x_row + p*x_step + offsets[k] + c] w[weights[k] + c], from the first tap to the last, so that a
// sum does not depend on the tile. Taps come in runs of `run`, in which the offsets differ by x_step.
template <class T>
struct DepthwiseTiles {
  const T* x;
  std::int64_t first, x_row, x_step;
  const T* w;
  T* y;
  std::int64_t y_row, y_step;
  std::int64_t rows, columns, channels;
  const std::int64_t *offsets, *weights;
  std::int64_t taps, run;
};

// Channels in a vector.
std::int64_t depthwise_lanes(std::size_t element_bytes);

// At least depthwise_lanes channels. `run` is one of those that depthwise_run gives.
template <class T>
void depthwise_tiles(const DepthwiseTiles<T>& tiles);
// The greatest length of runs that `taps` neighbouring taps are cut into.
std::int64_t depthwise_run(std::int64_t taps);

// Any number of channels: pixels of x follow one another (x_step is the number of channels), and so do those
// of y. Vectors go over pixels and channels alike.
template <class T>
void depthwise_lines(const DepthwiseTiles<T>& tiles);

// sums[weights[k] + c] += sum over rows and columns of x[first + r*x_row + p*x_step + offsets[k] + c]
// d[r*d_row + p*d_step + c], in this order, for each tap k. Sums lie in vectors: the last, where channels do
// not fill it, holds the last channels, some of them for a second time. Channels that fill no vector have
// one, whose elements beyond them are nobody's, and x and d may be read so far.
template <class T>
struct DepthwiseSums {
  const T* x;
  std::int64_t first, x_row, x_step;
  const T* d;
  std::int64_t d_row, d_step;
  T* sums;
  std::int64_t rows, columns, channels;
  const std::int64_t *offsets, *weights;  // of the taps in x, and in sums
  std::int64_t taps, run;
};
template <class T>
void depthwise_sums(const DepthwiseSums<T>& sums);

}  // namespace opgrad
