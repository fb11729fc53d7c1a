// How depthwise kernels cut their work: rectangles of outputs that read the same taps, and blocks of channels
// that stay in cache.
#pragma once
#include <memory_resource>
#include <vector>

#include "conv2d_boxes.h"
#include "conv2d_lattices.h"
#include "depthwise_source.h"

namespace opgrad {

// What is read, and by which outputs.
struct DepthwiseGrid {
  std::int64_t rows, columns, kernel_columns;
  Lattices down, across;
};

// Outputs in lattices a and b that read the same taps.
struct Rectangle {
  Range lines, points;
  const Lattice *a, *b;
  std::size_t first;  // of its taps in the lists
  std::int64_t taps, run;
};
struct Rectangles {
  std::pmr::vector<Rectangle> all{scratch()};
  // Of taps: in what is read, and `width` for each tap of the kernel before it.
  std::pmr::vector<std::int64_t> offsets{scratch()}, weights{scratch()};
};
// Those of a box of outputs.
void find_rectangles(const DepthwiseGrid& grid, const Box& box, const PixelLayout& from, std::int64_t width,
                     Rectangles& to);

// Rows that a box reads, within the image.
Range rows_read(const DepthwiseGrid& grid, const Box& box);

// Channels in a block, of so many, each `multiplier` times: their weights stay in cache, and `copied`
// elements for each multiple of a channel do not take too much memory.
std::int64_t block_channels(std::int64_t channels, std::int64_t multiplier, std::int64_t copied,
                            std::size_t element_bytes);
// Where the block that begins at `first` ends: the last is not so small that it fills no vector.
std::int64_t block_end(std::int64_t first, std::int64_t block, std::int64_t channels,
                       std::size_t element_bytes);

}  // namespace opgrad
