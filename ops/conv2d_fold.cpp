// A line of delta times the kernel gives what each of its pixels adds to its patch, taps and channels side by
// side in vectors; these patches are added to the image.
#include "conv2d_fold.h"

#include <algorithm>

#include "../core/scratch.h"
#include "conv2d_boxes.h"
#include "conv2d_tiles.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

template <class T>
struct Fold {
  const ConvSizes& s;
  const T* delta;
  T* x;
  const T* weights;  // [out][width], the kernel transposed
  Size width;        // depth in whole vectors
};

// patches[j][tap, channel] of line i of an image's delta.
template <class T>
void multiply(const Fold<T>& f, const T* line, T* patches) {
  const Size lanes = tile_lanes(sizeof(T)), vectors = f.width / lanes, zero = 0;
  for (Size v = 0; v < vectors; v += 2) {
    const Size packs = std::min<Size>(2, vectors - v);
    LineTiles<T>(static_cast<int>(packs), f.s.out_columns)({.x = line,
                                                            .step = f.s.out,
                                                            .offsets = &zero,
                                                            .segments = 1,
                                                            .length = f.s.out,
                                                            .w = f.weights + v * lanes,
                                                            .width = f.width,
                                                            .y = patches + v * lanes,
                                                            .y_step = f.width,
                                                            .last = (packs - 1) * lanes,
                                                            .lanes = lanes,
                                                            .tiles = 0});
  }
}

// Adds one kernel row of all patches to the image line.
template <class T>
void add_row(const ConvSizes& s, const T* patches, Size width, T* line) {
  const Size length = s.dilations[1] == 1 ? s.kernel_columns * s.in : s.in;
  for (Size j = 0; j < s.out_columns; ++j, patches += width) {
    const Size column = j * s.strides[1] - s.left;
    if (s.dilations[1] == 1 && column >= 0 && column + s.kernel_columns <= s.columns) {
      T* to = line + column * s.in;
      for (Size k = 0; k < length; ++k) to[k] += patches[k];
      continue;
    }
    for (Size n = 0; n < s.kernel_columns; ++n) {
      const Size c = column + n * s.dilations[1];
      if (c < 0 || c >= s.columns) continue;
      for (Size k = 0; k < s.in; ++k) line[c * s.in + k] += patches[n * s.in + k];
    }
  }
}

// Lines [first_row, end_row) of one image.
template <class T>
void compute(const Fold<T>& f, Size image, Size first_row, Size end_row) {
  const ConvSizes& s = f.s;
  const Scratch<T> patches(s.out_columns * f.width);
  T* x = f.x + image * s.rows * s.columns * s.in;
  std::fill(x + first_row * s.columns * s.in, x + end_row * s.columns * s.in, T{});
  // Line i touches rows i*stride - top to i*stride - top + extent.
  const Size extent = (s.kernel_rows - 1) * s.dilations[0];
  const Size first = divide_up(std::max<Size>(0, first_row + s.top - extent), s.strides[0]);
  const Size end = std::min(s.out_rows, (end_row - 1 + s.top) / s.strides[0] + 1);
  for (Size i = first; i < end; ++i) {
    multiply(f, f.delta + (image * s.out_rows + i) * s.out_columns * s.out, patches.data());
    for (Size m = 0; m < s.kernel_rows; ++m) {
      const Size row = i * s.strides[0] + m * s.dilations[0] - s.top;
      if (row >= first_row && row < end_row)
        add_row(s, patches.data() + m * s.kernel_columns * s.in, f.width, x + row * s.columns * s.in);
    }
  }
}

}  // namespace

bool fold_fits(const ConvSizes& s) {
  return s.in <= 4 && s.depth() <= 256 && s.kernel_rows * s.kernel_columns > 1;
}

template <class T>
void fold_input_gradient(const ConvSizes& s, const T* delta, const T* w, T* x, const Finished* finished) {
  const Size lanes = tile_lanes(sizeof(T)), depth = s.depth(), width = divide_up(depth, lanes) * lanes;
  const Scratch<T> weights(s.out * width);
  std::fill_n(weights.data(), s.out * width, T{});
  for (Size k = 0; k < depth; ++k)
    for (Size o = 0; o < s.out; ++o) weights[o * width + k] = w[k * s.out + o];
  const Fold<T> fold{s, delta, x, weights.data(), width};

  // Whole images; in small batches bands of lines, which share lines of delta with their neighbours, whose
  // products both compute: so bands are four times as high as what they share.
  const Size shared = (s.kernel_rows - 1) * s.dilations[0] + 1;
  const Size bands = s.batch >= 16 ? 1 : std::clamp<Size>(s.rows / 4 / shared, 1, divide_up(16, s.batch));
  parallel_for(s.batch * bands, [&](Size chunk) {
    const Size image = chunk / bands, first = chunk % bands * s.rows / bands;
    const Size end = (chunk % bands + 1) * s.rows / bands;
    compute(fold, image, first, end);
    const Size line = s.columns * s.in;
    if (finished) (*finished)((image * s.rows + first) * line, (image * s.rows + end) * line);
  });
}

template void fold_input_gradient(const ConvSizes&, const float*, const float*, float*, const Finished*);
template void fold_input_gradient(const ConvSizes&, const double*, const double*, double*, const Finished*);

}  // namespace opgrad
