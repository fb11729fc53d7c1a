// Register tiles: the inner loops of convolution, which keep their sums in vector registers and read images
// in place.
#pragma once
#include <cstddef>
#include <cstdint>

namespace opgrad {

// Tiles are of `height` pixels (or taps) by `packs` vectors of channels; how many fit the registers.
int tile_packs();                           // the most vectors
int tile_height(int packs);                 // the greatest height with so many vectors
int tile_lanes(std::size_t element_bytes);  // channels in a vector

// `tiles` tiles side by side: y[p, :] = sum over segments g and k < length of x[p*step + offsets[g] + k]
// w[g*length + k, :], each sum from the first product to the last, so that it does not depend on the tile.
template <class T>
struct ForwardTiles {
  const T* x;
  std::int64_t step;            // elements between pixels of x
  const std::int64_t* offsets;  // of the segments in x
  std::int64_t segments, length;
  const T* w;
  std::int64_t width;  // elements between rows of w, which hold all vectors of the tile
  T* y;
  std::int64_t y_step;  // elements between pixels of y
  std::int64_t last;    // where the last vector goes in y; it may overlap the one before
  std::int64_t lanes;   // of the last vector; less than all only where it is the only one
  std::int64_t tiles;
  // Elements from the w of one tile to that of the next, and that lie unused between the pixels of two tiles.
  std::int64_t w_tile = 0, x_gap = 0, y_gap = 0;
};
template <class T>
using ForwardFunction = void (*)(const ForwardTiles<T>*);
// 1 <= packs <= tile_packs(), 1 <= height <= tile_height(packs).
template <class T>
ForwardFunction<T> forward_tile(int packs, int height);

// A line of `n` pixels as tiles of two heights.
template <class T>
struct LineTiles {
  ForwardFunction<T> high, low;
  std::int64_t high_tiles, low_tiles, low_height;

  LineTiles(int packs, std::int64_t n) {
    const std::int64_t tiles = (n + tile_height(packs) - 1) / tile_height(packs);
    low_height = n / tiles;
    high_tiles = n % tiles;
    low_tiles = tiles - high_tiles;
    low = forward_tile<T>(packs, static_cast<int>(low_height));
    high = high_tiles ? forward_tile<T>(packs, static_cast<int>(low_height + 1)) : nullptr;
  }
  // All of `a` but the number of tiles.
  void operator()(ForwardTiles<T> a) const {
    if (high_tiles) {
      a.tiles = high_tiles;
      high(&a);
      a.x += high_tiles * (low_height + 1) * a.step;
      a.y += high_tiles * (low_height + 1) * a.y_step;
    }
    a.tiles = low_tiles;
    low(&a);
  }
};

// One tile of a kernel's gradient: sum[k, :] += sum over lines and pixels of x[line*x_line + p*x_step +
// offset(k)] d[line*d_line + p*d_step, :]. offset(k) is offsets[k], or k where there are none.
template <class T>
struct GradientTile {
  const T* x;
  std::int64_t x_step, x_line;
  const std::int64_t* offsets;
  const T* d;
  std::int64_t d_step, d_line;
  std::int64_t last;  // where the last vector comes from in d
  std::int64_t lines, pixels;
  T* sum;
  std::int64_t width;  // elements between rows of sum, which hold all vectors of the tile
  bool fresh;          // sum counts as 0
};
template <class T>
using GradientFunction = void (*)(const GradientTile<T>*);
template <class T>
GradientFunction<T> gradient_tile(int packs, int height, bool offsets);

}  // namespace opgrad
