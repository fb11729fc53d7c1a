// The kernel's gradient by Winograd: products over tiles, summed by groups, transformed at the end.
#include <algorithm>

#include "../core/scratch.h"
#include "conv2d_boxes.h"
#include "conv2d_patches.h"
#include "conv2d_source.h"
#include "conv2d_tiles.h"
#include "conv2d_transforms.h"
#include "conv2d_winograd.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

constexpr Size most_groups = 8, least_tiles = 128;
constexpr Size partial_bytes = Size{8} << 20;  // for all groups together
constexpr Size box_bytes = 448 << 10;          // of transformed inputs and deltas
// Between the matrices of the products, which else would share few sets of the cache.
constexpr Size gap_in = 80, gap_delta = 48;

// Groups of tile rows, and pieces of the input channels where that leaves few groups.
struct Cut {
  Size products, down, across, width;  // of a tile; tiles of an image; padded output channels
  Size groups, pieces;
};
Cut cut_of(const ConvSizes& s, int side) {
  const Size products = (side + 2) * (side + 2);
  Cut c{products, divide_up(s.out_rows, side), divide_up(s.out_columns, side), divide_up(s.out, 16) * 16, 1,
        1};
  const Size most = std::clamp<Size>(partial_bytes / (4 * products * s.in * c.width), 1, most_groups);
  c.groups = std::clamp<Size>(s.batch * c.down * c.across / least_tiles, 1, std::min(most, s.batch * c.down));
  c.pieces = std::min(divide_up(most_groups, c.groups), s.in / 16);
  return c;
}

struct Job {
  const ConvSizes& s;
  int side;
  const Cut& cut;
  const float *x, *delta;
  Size first_channel, channels;  // of the input: this piece's
  float* sum;                    // [in][product][width], of which this piece's rows are written
};

// Adds what tiles of some lines, counted through all images, and of some columns give; `fresh` where the sums
// count as 0.
void add_tiles(const Job& j, Range lines, Range columns, bool fresh) {
  const ConvSizes& s = j.s;
  const WinogradShape shape{s.rows, s.columns, s.in, s.out_rows, s.out_columns, s.out, s.top, s.left, j.side};
  const Size tiles = (lines.end - lines.begin) * (columns.end - columns.begin),
             lanes = tile_lanes(sizeof(float)), width = j.cut.width;
  const Scratch<Patch> patches(tiles);
  Patch* const list = patches.data();
  const WinogradClasses begin = list_tiles(shape, lines, columns, list);
  const Size apart_in = tiles * j.channels + gap_in, apart_delta = tiles * width + gap_delta;
  const Scratch<float> inputs_memory(j.cut.products * apart_in), deltas_memory(j.cut.products * apart_delta);
  float* const inputs = inputs_memory.data();
  float* const deltas = deltas_memory.data();
  const PatchIn in{
      j.x + j.first_channel, s.columns * s.in, s.in, j.channels, list, tiles, inputs, j.channels, apart_in};
  transform<PatchIn>(j.side)(&in);
  for (std::size_t k = 0; k < winograd_classes; ++k) {
    const DeltaIn delta{j.delta,
                        s.out_columns * s.out,
                        s.out,
                        s.out,
                        list + begin[k],
                        begin[k + 1] - begin[k],
                        shape.rows_of(k),
                        shape.columns_of(k),
                        deltas + begin[k] * width,
                        width,
                        apart_delta};
    transform<DeltaIn>(j.side)(&delta);
  }
  const Size vectors = divide_up(s.out, lanes), most = tile_packs() == 4 && vectors > 2 ? 4 : 2;
  for (Size m = 0; m < j.cut.products; ++m) {
    // Of the tiles that have this product.
    const bool whole_down = m / shape.products() >= shape.products_down(short_in_both),
               whole_across = m % shape.products() >= shape.products_across(short_in_both);
    const Size from = begin[whole_down ? 1 : 0], to = begin[whole_across ? 2 : whole_down ? 3 : 4];
    for (Size v = 0; v < vectors; v += most) {
      const Size packs = std::min(most, vectors - v);
      const Size count = divide_up(j.channels, tile_height(static_cast<int>(packs)));
      for (Size i = 0; i < count; ++i) {
        const Size k = i * j.channels / count, height = (i + 1) * j.channels / count - k;
        const GradientTile<float> tile{
            .x = inputs + m * apart_in + from * j.channels + k,
            .x_step = j.channels,
            .x_line = 0,
            .offsets = nullptr,
            .d = deltas + m * apart_delta + from * width + v * lanes,
            .d_step = width,
            .d_line = 0,
            .last = (packs - 1) * lanes,
            .lines = 1,
            .pixels = to - from,
            .sum = j.sum + ((j.first_channel + k) * j.cut.products + m) * width + v * lanes,
            .width = j.cut.products * width,
            .fresh = fresh};
        gradient_tile<float>(static_cast<int>(packs), static_cast<int>(height), false)(&tile);
      }
    }
  }
}

}  // namespace

void winograd_kernel_gradient(const ConvSizes& s, int side, const float* x, const float* delta, float* w,
                              float* workspace) {
  const Cut cut = cut_of(s, side);
  const Size row = cut.products * cut.width;
  parallel_for(cut.groups * cut.pieces, [&](Size chunk) {
    const Size group = chunk / cut.pieces, piece = chunk % cut.pieces;
    // Pieces are of whole sixteens of channels.
    const Size begin = piece * (s.in / 16) / cut.pieces * 16;
    const Size end = piece + 1 == cut.pieces ? s.in : (piece + 1) * (s.in / 16) / cut.pieces * 16;
    const Job job{s, side, cut, x, delta, begin, end - begin, workspace + group * s.in * row};
    const auto start = [&](Size g) {
      return s.batch >= cut.groups ? g * s.batch / cut.groups * cut.down
                                   : g * s.batch * cut.down / cut.groups;
    };
    const Size first = start(group), lines = start(group + 1) - first;
    const Size fitting = std::max<Size>(14, box_bytes / (4 * cut.products * (job.channels + cut.width)));
    const Size pieces = divide_up(cut.across, fitting);  // of a line
    const Size boxes =
        pieces > 1 ? lines : std::clamp<Size>((lines * cut.across + fitting / 2) / fitting, 1, lines);
    for (Size b = 0; b < boxes; ++b)
      for (Size c = 0; c < pieces; ++c)
        add_tiles(job, {first + b * lines / boxes, first + (b + 1) * lines / boxes},
                  {c * cut.across / pieces, (c + 1) * cut.across / pieces}, b == 0 && c == 0);
  });
  parallel_ranges(s.in, std::max<Size>(1, 512 / cut.width), [&](Size first, Size end) {
    const auto run = transform<KernelOut>(side);
    for (Size k = first; k < end; ++k) {
      const KernelOut one{workspace + k * row, cut.width,   cut.groups, s.in * row, s.out,
                          w + k * s.out,       s.in * s.out};
      run(&one);
    }
  });
}

std::size_t winograd_gradient_workspace(const ConvSizes& s, int side) {
  const Cut cut = cut_of(s, side);
  return static_cast<std::size_t>(4 * cut.products * cut.groups * s.in * cut.width);
}

}  // namespace opgrad
