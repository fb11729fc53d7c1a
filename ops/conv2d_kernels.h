// The numeric part of the convolution trio, for dense channels-last arrays, and the choice of algorithms.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "../core/dtype.h"
#include "../core/kernel.h"

namespace opgrad {

// All numbers of one convolution y[b, i, j, o] = sum over m, n, c of
// x[b, i*strides[0] + m*dilations[0] - top, j*strides[1] + n*dilations[1] - left, c] w[m, n, c, o].
struct ConvSizes {
  std::int64_t batch, rows, columns, in;          // x
  std::int64_t kernel_rows, kernel_columns, out;  // w, with `in` between
  std::int64_t out_rows, out_columns;             // y
  std::array<std::int64_t, 2> strides, dilations;
  std::int64_t top, left;

  std::int64_t image_pixels() const { return out_rows * out_columns; }
  std::int64_t pixels() const { return batch * image_pixels(); }  // of y
  std::int64_t depth() const { return kernel_rows * kernel_columns * in; }
  std::int64_t kernel_size() const { return depth() * out; }
  // Each output pixel sees the pixel of x at its own place.
  bool plain() const;
};

// y from x and w; w's gradient from x and y's; x's gradient from y's and w. T is float or double. Nothing
// overlaps. The first and last give an image the same bits whatever images stand beside it, and tell
// `finished` (null: nobody) of runs of whole pixels of some 64 to 160 KiB. The middle one needs
// kernel_gradient_workspace bytes: at most 8 MiB, or one kernel (Winograd: 4 times it) with its channels
// rounded up to 64 bytes. Sums are fused (one rounding a product) with AVX2 and AVX-512, whose bits are
// equal, and not in the baseline. Each thread keeps buffers: of a kernel in the order of use (4 times it),
// and of a box of pixels, some hundred KiB.
template <class T>
void convolve_forward(const ConvSizes&, const T* x, const T* w, T* y, const T* prepared,
                      const Finished* finished);
template <class T>
void convolve_kernel_gradient(const ConvSizes&, const T* x, const T* delta, T* w, T* workspace);
template <class T>
void convolve_input_gradient(const ConvSizes&, const T* delta, const T* w, T* x, const T* prepared,
                             const Finished* finished);

// For either setting of set_winograd.
std::size_t kernel_gradient_workspace(const ConvSizes&, DType dtype);
// How many images a part has where it is done in two steps, as in conv2d_direct_gradient.h; 0: it is not.
std::int64_t kernel_gradient_part_images(const ConvSizes&, DType dtype);

// What the first and the last make of w before they begin, for those who call them on parts of a batch: they
// take it as `prepared`, or, where that is null, make it each time. 0 bytes: nothing is made.
enum class ConvDirection { forward, kernel_gradient, input_gradient };
std::size_t prepared_bytes(ConvDirection direction, const ConvSizes& s, DType dtype);
template <class T>
void prepare_convolution(ConvDirection direction, const ConvSizes& s, const T* w, T* prepared);

// The algorithm that a convolution uses: "direct", "winograd 2x2", "winograd 4x4" (outputs of a tile), or
// "few channels" (of an input whose gradient is sought). A function of the sizes of one image, the dtype and
// the switch alone.
const char* conv2d_choice(ConvDirection direction, const ConvSizes& s, DType dtype);

}  // namespace opgrad
