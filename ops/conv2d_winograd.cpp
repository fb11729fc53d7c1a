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

constexpr Size box_bytes = 192 << 10;  // of transformed input

struct Problem {
  Size batch, rows, columns, in, out_rows, out_columns, out, top, left;
  const float *x, *w;
  float* y;
  bool turned;  // w is [3][3][out][in], to be turned by half a turn

  Size lanes = 0, vectors = 0;
  int packs = 0;
  const float* kernels = nullptr;  // transformed: [block][16][in][channels of the block]

  Size blocks() const { return divide_up(vectors, packs); }
  Size vectors_of(Size block) const { return std::min<Size>(packs, vectors - block * packs); }
  Size channel(Size vector) const { return std::min(vector * lanes, out - lanes); }
  const float* kernels_of(Size block) const { return kernels + 16 * in * block * packs * lanes; }
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

void transform_kernels(Problem& p) {
  float* all = thread_buffer<1, float>(16 * p.in * p.vectors * p.lanes);
  p.kernels = all;
  constexpr Size grain = 16;
  const Size pieces = divide_up(p.in, grain);
  parallel_for(p.blocks() * pieces, [&](Size i) {
    const Size block = i / pieces, first = i % pieces * grain;
    transform_kernels(p, block, first, std::min(p.in, first + grain),
                      all + (p.kernels_of(block) - p.kernels));
  });
}

// A box of tiles of 2x2 outputs.
void compute(const Problem& p, const Box& box) {
  const Size down = box.end_row - box.first_row, across = box.end_column - box.first_column;
  const Size tiles = (box.end_image - box.first_image) * down * across;
  float* inputs = thread_buffer<2, float>(16 * tiles * p.in);
  float* products = thread_buffer<3, float>(16 * tiles * p.packs * p.lanes);

  const auto each_tile = [&](auto use) {
    Size tile = 0;
    for (Size image = box.first_image; image < box.end_image; ++image)
      for (Size i = box.first_row; i < box.end_row; ++i)
        for (Size j = box.first_column; j < box.end_column; ++j) use(tile++, image, 2 * i, 2 * j);
  };
  const auto patch_in = transform<PatchIn>();
  each_tile([&](Size tile, Size image, Size i, Size j) {
    PatchIn patch{nullptr, 0, 0, p.in, inputs + tile * p.in, tiles * p.in};
    const Image<float> from{p.x + image * p.rows * p.columns * p.in, p.rows, p.columns, p.in};
    find_patch(from, i - p.top, j - p.left, 0, patch);
    patch_in(&patch);
  });

  const auto patch_out = transform<PatchOut>();
  const Size offset = 0;
  for (Size block = 0; block < p.blocks(); ++block) {
    const Size count = p.vectors_of(block), width = count * p.lanes, first = block * p.packs * p.lanes;
    const float* kernels = p.kernels_of(block);
    const LineTiles<float> run(static_cast<int>(count), tiles);
    for (Size m = 0; m < 16; ++m)
      run({.x = inputs + m * tiles * p.in,
           .step = p.in,
           .offsets = &offset,
           .segments = 1,
           .length = p.in,
           .w = kernels + m * p.in * width,
           .width = width,
           .y = products + m * tiles * width,
           .y_step = width,
           .last = width - p.lanes,
           .lanes = p.lanes,
           .tiles = 0});
    each_tile([&](Size tile, Size image, Size i, Size j) {
      const PatchOut patch{products + tile * width,
                           tiles * width,
                           p.y + ((image * p.out_rows + i) * p.out_columns + j) * p.out + first,
                           p.out_columns * p.out,
                           p.out,
                           count,
                           p.channel(block * p.packs + count - 1) - first,
                           std::min<Size>(2, p.out_rows - i),
                           std::min<Size>(2, p.out_columns - j)};
      patch_out(&patch);
    });
  }
}

void correlate(Problem p, const Finished* finished) {
  p.lanes = tile_lanes(sizeof(float));
  p.vectors = divide_up(p.out, p.lanes);
  p.packs = 2;
  transform_kernels(p);
  const Size tile = 16 * p.in * static_cast<Size>(sizeof(float));
  const Boxes boxes(p.batch, divide_up(p.out_rows, 2), divide_up(p.out_columns, 2),
                    std::max<Size>(14, box_bytes / tile), 6);
  parallel_for(boxes.count(), [&](Size i) {
    const Box box = boxes[i];
    compute(p, box);
    if (!finished) return;
    const auto report = [&](Size begin, Size end) { (*finished)(begin * p.out, end * p.out); };
    const Size row = 2 * box.first_row, end_row = std::min(2 * box.end_row, p.out_rows);
    const Size first = (box.first_image * p.out_rows + row) * p.out_columns;
    const Size end = ((box.end_image - 1) * p.out_rows + end_row) * p.out_columns;
    const Size column = 2 * box.first_column, end_column = std::min(2 * box.end_column, p.out_columns);
    if (column == 0 && end_column == p.out_columns) return report(first, end);
    for (Size line = first; line < end; line += p.out_columns) report(line + column, line + end_column);
  });
}

}  // namespace

bool winograd_fits(const ConvSizes& s) {
  return s.kernel_rows == 3 && s.kernel_columns == 3 && s.strides[0] == 1 && s.strides[1] == 1 &&
         s.dilations[0] == 1 && s.dilations[1] == 1 && s.in >= 16 && s.out >= 16;
}

void winograd_forward(const ConvSizes& s, const float* x, const float* w, float* y,
                      const Finished* finished) {
  correlate(
      {s.batch, s.rows, s.columns, s.in, s.out_rows, s.out_columns, s.out, s.top, s.left, x, w, y, false},
      finished);
}

void winograd_input_gradient(const ConvSizes& s, const float* delta, const float* w, float* x,
                             const Finished* finished) {
  correlate({s.batch, s.out_rows, s.out_columns, s.out, s.rows, s.columns, s.in, 2 - s.top, 2 - s.left, delta,
             w, x, true},
            finished);
}

}  // namespace opgrad
