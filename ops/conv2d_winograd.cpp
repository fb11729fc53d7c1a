// Forward and input gradient: the gradient is the correlation of delta with the kernel turned by half a turn.
#include "conv2d_winograd.h"

#include <algorithm>

#include "../core/gemm_kernels.h"
#include "../core/scratch.h"
#include "conv2d_boxes.h"
#include "conv2d_patches.h"
#include "conv2d_source.h"
#include "conv2d_tiles.h"
#include "conv2d_transforms.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

constexpr Size box_bytes = 160 << 10;  // of the result
constexpr Size fewest_tiles = 12;      // of a box

// Elements between matrices of so many lines: an odd number of cache lines, else matrices share few sets.
Size apart(Size lines, Size width) { return (lines * width + 15) / 32 * 32 + 16; }

struct Problem {
  Size batch, in, out;
  WinogradShape shape;
  const float *x, *w;
  float* y;
  bool turned;  // w is [3][3][out][in], to be turned by half a turn

  Size lanes = 0, vectors = 0;
  int packs = 0;
  Size height = 0;                 // the most tiles of a chunk
  const float* kernels = nullptr;  // transformed: [block][product][in][channels of a block]

  Size products() const { return shape.products() * shape.products(); }
  Size blocks() const { return divide_up(vectors, packs); }
  Size vectors_of(Size block) const { return std::min<Size>(packs, vectors - block * packs); }
  Size channel(Size vector) const { return std::min(vector * lanes, out - lanes); }
  Size place_of(Size block) const { return products() * apart(in, packs * lanes) * block; }
  const float* kernels_of(Size block) const { return kernels + place_of(block); }
};

// Tiles of a box, in the order of their classes.
struct BoxTiles {
  const Patch* all;
  WinogradClasses begin;
};
// Tiles that are computed together: the products of a block of their channels stay in the nearest caches.
struct Chunk {
  Size begin, end, down, across;  // products down and across
  Size tiles() const { return end - begin; }
};

constexpr Size kernel_rows = 16;  // of a piece of the kernels

// Transforms rows [first, end), at most kernel_rows, of the input channels of a block.
void transform_kernels(const Problem& p, Size block, Size first, Size end, float* to) {
  const Size count = p.vectors_of(block), width = count * p.lanes;
  const Size begin = p.channel(block * p.packs), last = p.channel(block * p.packs + count - 1) - begin;
  const auto run = transform<KernelIn>(p.shape.side);
  KernelIn k{p.w + first * p.out + begin, p.in * p.out, count, last, to + first * width, apart(p.in, width)};
  Size step = p.out;
  Scratch<float> taps;
  if (p.turned) {
    step = p.packs * p.lanes;
    k.tap = kernel_rows * step;
    taps = Scratch<float>(9 * k.tap);
    for (Size tap = 0; tap < 9; ++tap)
      detail::gemm_kernels().transpose(p.w + ((8 - tap) * p.out + begin) * p.in + first, p.in, last + p.lanes,
                                       end - first, taps.data() + tap * k.tap);
    k.g = taps.data();
  }
  for (Size row = first; row < end; ++row, k.g += step, k.to += width) run(&k);
}

void transform_kernels(const Problem& p, Size block, Size piece, float* all) {
  const Size first = piece * kernel_rows;
  transform_kernels(p, block, first, std::min(p.in, first + kernel_rows), all + p.place_of(block));
}
void transform_kernels(const Problem& p, float* all) {
  const Size pieces = divide_up(p.in, kernel_rows);
  parallel_for(p.blocks() * pieces, [&](Size i) { transform_kernels(p, i / pieces, i % pieces, all); });
}

// The products of a chunk and one block of channels, and the outputs.
void compute(const Problem& p, const BoxTiles& box, const Chunk& c, Size block, const float* inputs,
             float* products) {
  const WinogradShape& s = p.shape;
  const Size count = p.vectors_of(block), width = count * p.lanes, first = block * p.packs * p.lanes;
  const Size offset = 0, side = s.products(), apart_in = apart(c.tiles(), p.in),
             apart_out = apart(c.tiles(), width);
  const auto run = forward_tile<float>(static_cast<int>(count), static_cast<int>(c.tiles()));
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
                        .tiles = c.across == side ? side * c.down : c.across,
                        .w_tile = apart(p.in, width),
                        .x_gap = apart_in - c.tiles() * p.in,
                        .y_gap = apart_out - c.tiles() * width};
  if (c.across == side) {
    run(&a);
  } else {
    for (Size i = 0; i < c.down; ++i) {
      run(&a);
      a.x += side * apart_in;
      a.y += side * apart_out;
      a.w += side * a.w_tile;
    }
  }
  for (std::size_t k = 0; k < winograd_classes; ++k) {
    const Size from = std::max(c.begin, box.begin[k]), end = std::min(c.end, box.begin[k + 1]);
    if (from >= end) continue;
    const PatchOut out{products + (from - c.begin) * width,
                       width,
                       apart_out,
                       p.y + first,
                       box.all + from,
                       end - from,
                       s.out_columns * p.out,
                       p.out,
                       count,
                       p.channel(block * p.packs + count - 1) - first,
                       s.rows_of(k),
                       s.columns_of(k),
                       s.products_down(k),
                       s.products_across(k)};
    transform<PatchOut>(s.side)(&out);
  }
}

// Whether classes are better computed together, with products that short tiles do not need, than each with
// registers that few tiles do not fill. Both have the same bits.
bool together(const Problem& p, const WinogradClasses& begin) {
  constexpr Size least = 8;  // as many tiles take about as long as fewer
  const WinogradShape& s = p.shape;
  const auto time = [&](Size tiles) {
    const Size chunks = divide_up(tiles, p.height);
    return tiles == 0 ? 0 : std::max(tiles, least * chunks);
  };
  Size each = 0;
  for (std::size_t k = 0; k < winograd_classes; ++k) {
    // Where the other products are of zeros.
    if (s.products_down(k) == 1 || s.products_across(k) == 1) return false;
    each += time(begin[k + 1] - begin[k]) * s.products_down(k) * s.products_across(k);
  }
  return time(begin[winograd_classes]) * p.products() < each;
}

// Channels of blocks [first_block, end_block).
void compute(const Problem& p, const Box& box, Size first_block, Size end_block) {
  const WinogradShape& s = p.shape;
  const Size down = s.down(), rows = box.end_row - box.first_row;
  const Size images = box.end_image - box.first_image, columns = box.end_column - box.first_column;
  const Scratch<Patch> patches(images * rows * columns);
  Patch* const list = patches.data();
  const Size line = box.first_image * down + box.first_row;
  // A box of several images has all their lines.
  const BoxTiles tiles{list,
                       list_tiles(s, {line, line + images * rows}, {box.first_column, box.end_column}, list)};
  const Scratch<float> inputs(p.products() * apart(p.height, p.in));
  const Scratch<float> products(p.products() * apart(p.height, p.packs * p.lanes));
  const auto compute_all = [&](Size begin, Size end, Size products_down, Size products_across) {
    const Size n = end - begin, chunks = divide_up(n, p.height);
    for (Size i = 0; i < chunks; ++i) {
      const Chunk c{begin + i * n / chunks, begin + (i + 1) * n / chunks, products_down, products_across};
      const PatchIn in{p.x,  s.columns * p.in,      p.in, p.in, list + c.begin, c.tiles(), inputs.data(),
                       p.in, apart(c.tiles(), p.in)};
      transform<PatchIn>(s.side)(&in);
      for (Size block = first_block; block < end_block; ++block)
        compute(p, tiles, c, block, inputs.data(), products.data());
    }
  };
  if (together(p, tiles.begin))
    return compute_all(0, tiles.begin[winograd_classes], s.products(), s.products());
  for (std::size_t k = 0; k < winograd_classes; ++k)
    compute_all(tiles.begin[k], tiles.begin[k + 1], s.products_down(k), s.products_across(k));
}

// One box, and channels for several blocks of any instructions, none of which writes what another does.
bool few_tiles(const Problem& p) {
  return p.batch * p.shape.down() * p.shape.across() <= fewest_tiles && p.out >= 64 && p.out % 16 == 0;
}

void choose_tiles(Problem& p) {
  p.lanes = tile_lanes(sizeof(float));
  p.vectors = divide_up(p.out, p.lanes);
  p.packs = 2;  // as wide as the strips of core/gemm_kernels.h
  p.height = tile_height(p.packs);
}

// Few tiles, which are cut by channels: whoever computes a block transforms its kernels.
void correlate_by_channels(Problem p, const Finished* finished) {
  const Scratch<float> kernels(p.place_of(p.blocks()));
  p.kernels = kernels.data();
  parallel_for(p.blocks(), [&](Size block) {
    for (Size piece = 0; piece < divide_up(p.in, kernel_rows); ++piece)
      transform_kernels(p, block, piece, kernels.data());
    compute(p, {0, p.batch, 0, p.shape.down(), 0, p.shape.across()}, block, block + 1);
  });
  if (finished) (*finished)(0, p.batch * p.shape.out_rows * p.shape.out_columns * p.out);
}

void correlate(Problem p, const Finished* finished) {
  choose_tiles(p);
  if (!p.kernels && few_tiles(p)) return correlate_by_channels(p, finished);
  Scratch<float> own;
  if (!p.kernels) {
    own = Scratch<float>(p.place_of(p.blocks()));
    transform_kernels(p, own.data());
    p.kernels = own.data();
  }
  const Size side = p.shape.side, tile = side * side * p.out * static_cast<Size>(sizeof(float));
  const Boxes boxes(p.batch, p.shape.down(), p.shape.across(), std::clamp<Size>(box_bytes / tile, 28, 160),
                    fewest_tiles);
  parallel_for(boxes.count(), [&](Size i) {
    const Box box = boxes[i];
    compute(p, box, 0, p.blocks());
    if (!finished) return;
    const auto report = [&](Size begin, Size end) { (*finished)(begin * p.out, end * p.out); };
    const Size row = side * box.first_row, end_row = std::min(side * box.end_row, p.shape.out_rows);
    const Size first = (box.first_image * p.shape.out_rows + row) * p.shape.out_columns;
    const Size end = ((box.end_image - 1) * p.shape.out_rows + end_row) * p.shape.out_columns;
    const Size column = side * box.first_column,
               end_column = std::min(side * box.end_column, p.shape.out_columns);
    if (column == 0 && end_column == p.shape.out_columns) return report(first, end);
    for (Size line = first; line < end; line += p.shape.out_columns) report(line + column, line + end_column);
  });
}

Problem forward(const ConvSizes& s, int side, const float* x, const float* w, float* y) {
  return {
      s.batch, s.in, s.out, {s.rows, s.columns, s.in, s.out_rows, s.out_columns, s.out, s.top, s.left, side},
      x,       w,    y,     false};
}
Problem input_gradient(const ConvSizes& s, int side, const float* delta, const float* w, float* x) {
  return {s.batch, s.out,
          s.in,    {s.out_rows, s.out_columns, s.out, s.rows, s.columns, s.in, 2 - s.top, 2 - s.left, side},
          delta,   w,
          x,       true};
}

// Without data. The kernel's gradient has the shape of the forward one.
Problem problem_of(ConvDirection direction, const ConvSizes& s, int side) {
  return (direction == ConvDirection::input_gradient ? input_gradient : forward)(s, side, nullptr, nullptr,
                                                                                 nullptr);
}

}  // namespace

bool winograd_fits(const ConvSizes& s) {
  return s.kernel_rows == 3 && s.kernel_columns == 3 && s.strides[0] == 1 && s.strides[1] == 1 &&
         s.dilations[0] == 1 && s.dilations[1] == 1 && s.in >= 16 && s.out >= 16;
}

Size winograd_products(ConvDirection direction, const ConvSizes& s, int side) {
  const WinogradShape shape = problem_of(direction, s, side).shape;
  const Size whole = shape.products(), down = shape.down() - 1, across = shape.across() - 1;
  return (down * whole + shape.products_down(short_in_both)) *
         (across * whole + shape.products_across(short_in_both));
}

std::size_t winograd_workspace(ConvDirection direction, const ConvSizes& s, int side) {
  const Problem p = problem_of(direction, s, side);
  if (few_tiles(p)) return 0;
  Size most = 0;
  for (const Size lanes : {4, 8, 16})  // whatever the instructions
    most = std::max(most, apart(p.in, 2 * lanes) * divide_up(p.out, 2 * lanes));
  return static_cast<std::size_t>((side + 2) * (side + 2) * most) * sizeof(float);
}

void winograd_prepare_forward(const ConvSizes& s, int side, const float* w, float* workspace) {
  Problem p = forward(s, side, nullptr, w, nullptr);
  choose_tiles(p);
  transform_kernels(p, workspace);
}

void winograd_prepare_input_gradient(const ConvSizes& s, int side, const float* w, float* workspace) {
  Problem p = input_gradient(s, side, nullptr, w, nullptr);
  choose_tiles(p);
  transform_kernels(p, workspace);
}

void winograd_forward(const ConvSizes& s, int side, const float* x, const float* w, float* y,
                      const float* prepared, const Finished* finished) {
  Problem p = forward(s, side, x, w, y);
  p.kernels = prepared;
  correlate(p, finished);
}

void winograd_input_gradient(const ConvSizes& s, int side, const float* delta, const float* w, float* x,
                             const float* prepared, const Finished* finished) {
  Problem p = input_gradient(s, side, delta, w, x);
  p.kernels = prepared;
  correlate(p, finished);
}

}  // namespace opgrad
