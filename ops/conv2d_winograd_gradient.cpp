// The kernel's gradient by Winograd: 16 products over tiles, summed by groups, transformed at the end.
#include <algorithm>

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

// Groups of tile rows, and pieces of the input channels where that leaves few groups.
struct Cut {
  Size down, across, width;  // tiles of an image; padded output channels
  Size groups, pieces;
};
Cut cut_of(const ConvSizes& s) {
  Cut c{divide_up(s.out_rows, 2), divide_up(s.out_columns, 2), divide_up(s.out, 16) * 16, 1, 1};
  const Size most = std::clamp<Size>(partial_bytes / (64 * s.in * c.width), 1, most_groups);
  c.groups = std::clamp<Size>(s.batch * c.down * c.across / least_tiles, 1, std::min(most, s.batch * c.down));
  c.pieces = std::min(divide_up(most_groups, c.groups), s.in / 16);
  return c;
}

struct Job {
  const ConvSizes& s;
  const Cut& cut;
  const float *x, *delta;
  Size first_channel, channels;  // of the input: this piece's
  float* sum;                    // [16][in][width], of which this piece's rows are written
};

// Adds what tiles [first, end) of all images give; `fresh` where the sums count as 0.
void add_tiles(const Job& j, Size first, Size end, bool fresh) {
  const ConvSizes& s = j.s;
  const Size tiles = end - first, lanes = tile_lanes(sizeof(float)), width = j.cut.width;
  float* inputs = thread_buffer<2, float>(16 * tiles * j.channels);
  float* deltas = thread_buffer<3, float>(16 * tiles * width);
  const auto patch_in = transform<PatchIn>();
  const auto delta_in = transform<DeltaIn>();
  for (Size t = first; t < end; ++t) {
    const Size column = t % j.cut.across * 2, row = t / j.cut.across % j.cut.down * 2;
    const Size image = t / j.cut.across / j.cut.down;
    PatchIn patch{nullptr, 0, 0, j.channels, inputs + (t - first) * j.channels, tiles * j.channels};
    find_patch({j.x + image * s.rows * s.columns * s.in, s.rows, s.columns, s.in}, row - s.top,
               column - s.left, j.first_channel, patch);
    patch_in(&patch);
    const DeltaIn delta{j.delta + ((image * s.out_rows + row) * s.out_columns + column) * s.out,
                        s.out_columns * s.out,
                        s.out,
                        s.out,
                        std::min<Size>(2, s.out_rows - row),
                        std::min<Size>(2, s.out_columns - column),
                        deltas + (t - first) * width,
                        tiles * width};
    delta_in(&delta);
  }
  const Size vectors = divide_up(s.out, lanes), most = tile_packs() == 4 && vectors > 2 ? 4 : 2;
  for (Size m = 0; m < 16; ++m)
    for (Size v = 0; v < vectors; v += most) {
      const Size packs = std::min(most, vectors - v);
      const Size count = divide_up(j.channels, tile_height(static_cast<int>(packs)));
      for (Size i = 0; i < count; ++i) {
        const Size k = i * j.channels / count, height = (i + 1) * j.channels / count - k;
        const GradientTile<float> tile{.x = inputs + m * tiles * j.channels + k,
                                       .x_step = j.channels,
                                       .x_line = 0,
                                       .offsets = nullptr,
                                       .d = deltas + m * tiles * width + v * lanes,
                                       .d_step = width,
                                       .d_line = 0,
                                       .last = (packs - 1) * lanes,
                                       .lines = 1,
                                       .pixels = tiles,
                                       .sum = j.sum + (m * s.in + j.first_channel + k) * width + v * lanes,
                                       .width = width,
                                       .fresh = fresh};
        gradient_tile<float>(static_cast<int>(packs), static_cast<int>(height), false)(&tile);
      }
    }
}

}  // namespace

void winograd_kernel_gradient(const ConvSizes& s, const float* x, const float* delta, float* w,
                              float* workspace) {
  const Cut cut = cut_of(s);
  const Size matrix = s.in * cut.width;
  parallel_for(cut.groups * cut.pieces, [&](Size chunk) {
    const Size group = chunk / cut.pieces, piece = chunk % cut.pieces;
    // Pieces are of whole sixteens of channels.
    const Size begin = piece * (s.in / 16) / cut.pieces * 16;
    const Size end = piece + 1 == cut.pieces ? s.in : (piece + 1) * (s.in / 16) / cut.pieces * 16;
    const Job job{s, cut, x, delta, begin, end - begin, workspace + 16 * group * matrix};
    const auto start = [&](Size g) {
      return s.batch >= cut.groups ? g * s.batch / cut.groups * cut.down * cut.across
                                   : g * s.batch * cut.down / cut.groups * cut.across;
    };
    const Size first = start(group), last = start(group + 1);
    const Size fitting = std::max<Size>(14, box_bytes / (64 * (job.channels + cut.width)));
    const Size boxes = divide_up(last - first, fitting);
    for (Size b = 0; b < boxes; ++b)
      add_tiles(job, first + b * (last - first) / boxes, first + (b + 1) * (last - first) / boxes, b == 0);
  });
  parallel_ranges(s.in, std::max<Size>(1, 512 / cut.width), [&](Size first, Size end) {
    const auto run = transform<KernelOut>();
    for (Size k = first; k < end; ++k) {
      const KernelOut one{
          workspace + k * cut.width, matrix, cut.groups, 16 * matrix, s.out, w + k * s.out, s.in * s.out};
      run(&one);
    }
  });
}

std::size_t winograd_gradient_workspace(const ConvSizes& s) {
  const Cut cut = cut_of(s);
  return static_cast<std::size_t>(64 * cut.groups * s.in * cut.width);
}

}  // namespace opgrad
