// Forward and input gradient: the gradient is the correlation of delta with the kernel turned by half a turn.
#include "conv2d_winograd.h"

#include <algorithm>

#include "conv2d_boxes.h"
#include "conv2d_patches.h"
#include "conv2d_source.h"
#include "conv2d_tiles.h"
#include "conv2d_transforms.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

constexpr Size box_bytes = 160 << 10;  // of the result

struct Problem {
  Size batch, in, out;
  WinogradShape shape;
  const float *x, *w;
  float* y;
  bool turned;  // w is [3][3][out][in], to be turned by half a turn

  Size lanes = 0, vectors = 0;
  int packs = 0;
  Size height = 0;                 // the most tiles of a chunk
  const float* kernels = nullptr;  // transformed: [block][16][in][channels of the block]

  Size blocks() const { return divide_up(vectors, packs); }
  Size vectors_of(Size block) const { return std::min<Size>(packs, vectors - block * packs); }
  Size channel(Size vector) const { return std::min(vector * lanes, out - lanes); }
  Size place_of(Size block) const { return 16 * in * block * packs * lanes; }
  const float* kernels_of(Size block) const { return kernels + place_of(block); }
};

// Tiles of one class that are computed together: the 16 products of a block of their channels never leave the
// nearest cache.
struct Chunk {
  const Patch* first;
  Size tiles, down, across;  // products down and across
};

// Transforms rows [first, end) of the input channels of a block.
void transform_kernels(const Problem& p, Size block, Size first, Size end, float* to) {
  const Size count = p.vectors_of(block), width = count * p.lanes;
  const auto run = transform<KernelIn>();
  float* taps = thread_buffer<2, float>(9 * width);
  for (Size k = first; k < end; ++k) {
    for (Size tap = 0; tap < 9; ++tap)
      for (Size v = 0; v < count; ++v) {
        float* at = taps + tap * width + v * p.lanes;
        const Size channel = p.channel(block * p.packs + v);
        if (p.turned) {
          const float* from = p.w + ((8 - tap) * p.out + channel) * p.in + k;
          for (Size i = 0; i < p.lanes; ++i) at[i] = from[i * p.in];
        } else {
          std::copy_n(p.w + (tap * p.in + k) * p.out + channel, p.lanes, at);
        }
      }
    const KernelIn one{taps, width, count, to + k * width, p.in * width};
    run(&one);
  }
}

void transform_kernels(const Problem& p, float* all) {
  constexpr Size grain = 16;
  const Size pieces = divide_up(p.in, grain);
  parallel_for(p.blocks() * pieces, [&](Size i) {
    const Size block = i / pieces, first = i % pieces * grain;
    transform_kernels(p, block, first, std::min(p.in, first + grain), all + p.place_of(block));
  });
}

// The 16 products of some tiles of one class and one block of channels, and the outputs.
void compute(const Problem& p, const Chunk& c, Size block, const float* inputs, float* products) {
  const Size count = p.vectors_of(block), width = count * p.lanes, first = block * p.packs * p.lanes;
  const Size offset = 0;
  const auto run = forward_tile<float>(static_cast<int>(count), static_cast<int>(c.tiles));
  ForwardTiles<float> a{.x = inputs,
                        .step = p.in,
                        .offsets = &offset,
                        .segments = 1,
                        .length = p.in,
                        .w = p.kernels_of(block),
                        .width = width,
                        .y = products,
                        .y_step = width,
                        .last = width - p.lanes,
                        .lanes = p.lanes,
                        .tiles = c.across == 4 ? 4 * c.down : c.across,
                        .w_tile = p.in * width};
  if (c.across == 4) {
    run(&a);
  } else {
    for (Size i = 0; i < c.down; ++i) {
      run(&a);
      a.x += 4 * c.tiles * a.step;
      a.y += 4 * c.tiles * a.y_step;
      a.w += 4 * a.w_tile;
    }
  }
  const PatchOut out{products,
                     width,
                     c.tiles * width,
                     p.y + first,
                     c.first,
                     c.tiles,
                     p.shape.out_columns * p.out,
                     p.out,
                     count,
                     p.channel(block * p.packs + count - 1) - first,
                     c.down,
                     c.across};
  transform<PatchOut>()(&out);
}

// A box of tiles of 2x2 outputs.
void compute(const Problem& p, const Box& box) {
  const WinogradShape& s = p.shape;
  const Size down = divide_up(s.out_rows, 2), rows = box.end_row - box.first_row;
  const Size images = box.end_image - box.first_image, columns = box.end_column - box.first_column;
  Patch* tiles = thread_buffer<0, Patch>(images * rows * columns);
  const Size line = box.first_image * down + box.first_row;
  // A box of several images has all their lines.
  const auto begin = list_tiles(s, {line, line + images * rows}, {box.first_column, box.end_column}, tiles);
  float* inputs = thread_buffer<2, float>(16 * p.height * p.in);
  float* products = thread_buffer<3, float>(16 * p.height * p.packs * p.lanes);
  const auto patch_in = transform<PatchIn>();
  for (std::size_t k = 0; k < winograd_classes; ++k) {
    const Size first = begin[k], n = begin[k + 1] - first, chunks = divide_up(n, p.height);
    for (Size i = 0; i < chunks; ++i) {
      const Size from = first + i * n / chunks, end = first + (i + 1) * n / chunks;
      const Chunk c{tiles + from, end - from, k == 0 || k == 3 ? s.products_down() : 4,
                    k >= 2 ? s.products_across() : 4};
      const PatchIn in{p.x, s.columns * p.in, p.in, p.in, c.first, c.tiles, inputs, p.in, c.tiles * p.in};
      patch_in(&in);
      for (Size block = 0; block < p.blocks(); ++block) compute(p, c, block, inputs, products);
    }
  }
}

void choose_tiles(Problem& p) {
  p.lanes = tile_lanes(sizeof(float));
  p.vectors = divide_up(p.out, p.lanes);
  p.packs = 2;
  p.height = tile_height(p.packs);
}

void correlate(Problem p, const Finished* finished) {
  choose_tiles(p);
  if (!p.kernels) {
    float* own = thread_buffer<1, float>(16 * p.in * p.vectors * p.lanes);
    transform_kernels(p, own);
    p.kernels = own;
  }
  const Size tile = 4 * p.out * static_cast<Size>(sizeof(float));
  const Boxes boxes(p.batch, divide_up(p.shape.out_rows, 2), divide_up(p.shape.out_columns, 2),
                    std::clamp<Size>(box_bytes / tile, 28, 160), 12);
  parallel_for(boxes.count(), [&](Size i) {
    const Box box = boxes[i];
    compute(p, box);
    if (!finished) return;
    const auto report = [&](Size begin, Size end) { (*finished)(begin * p.out, end * p.out); };
    const Size row = 2 * box.first_row, end_row = std::min(2 * box.end_row, p.shape.out_rows);
    const Size first = (box.first_image * p.shape.out_rows + row) * p.shape.out_columns;
    const Size end = ((box.end_image - 1) * p.shape.out_rows + end_row) * p.shape.out_columns;
    const Size column = 2 * box.first_column, end_column = std::min(2 * box.end_column, p.shape.out_columns);
    if (column == 0 && end_column == p.shape.out_columns) return report(first, end);
    for (Size line = first; line < end; line += p.shape.out_columns) report(line + column, line + end_column);
  });
}

Problem forward(const ConvSizes& s, const float* x, const float* w, float* y) {
  return {s.batch, s.in, s.out, {s.rows, s.columns, s.in, s.out_rows, s.out_columns, s.out, s.top, s.left},
          x,       w,    y,     false};
}
Problem input_gradient(const ConvSizes& s, const float* delta, const float* w, float* x) {
  return {s.batch, s.out,
          s.in,    {s.out_rows, s.out_columns, s.out, s.rows, s.columns, s.in, 2 - s.top, 2 - s.left},
          delta,   w,
          x,       true};
}

}  // namespace

bool winograd_fits(const ConvSizes& s) {
  return s.kernel_rows == 3 && s.kernel_columns == 3 && s.strides[0] == 1 && s.strides[1] == 1 &&
         s.dilations[0] == 1 && s.dilations[1] == 1 && s.in >= 16 && s.out >= 16;
}

std::size_t winograd_workspace(Size in, Size out) {
  return static_cast<std::size_t>(16 * in * divide_up(out, 16) * 16) * sizeof(float);
}

void winograd_prepare_forward(const ConvSizes& s, const float* w, float* workspace) {
  Problem p = forward(s, nullptr, w, nullptr);
  choose_tiles(p);
  transform_kernels(p, workspace);
}

void winograd_prepare_input_gradient(const ConvSizes& s, const float* w, float* workspace) {
  Problem p = input_gradient(s, nullptr, w, nullptr);
  choose_tiles(p);
  transform_kernels(p, workspace);
}

void winograd_forward(const ConvSizes& s, const float* x, const float* w, float* y, const float* prepared,
                      const Finished* finished) {
  Problem p = forward(s, x, w, y);
  p.kernels = prepared;
  correlate(p, finished);
}

void winograd_input_gradient(const ConvSizes& s, const float* delta, const float* w, float* x,
                             const float* prepared, const Finished* finished) {
  Problem p = input_gradient(s, delta, w, x);
  p.kernels = prepared;
  correlate(p, finished);
}

}  // namespace opgrad
