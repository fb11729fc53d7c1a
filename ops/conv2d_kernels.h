// The numeric part of the convolution trio: products of unfolded panels, for dense channels-last arrays.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

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
  // The matrix of all patches is x itself.
  bool plain() const;
};

// y from x and w; w's gradient from x and y's; x's gradient from y's and w. T is float or double. Nothing
// overlaps. Each thread keeps a buffer for one panel: 512 KiB, or 128 patches where they are longer than 4
// KiB. The middle one needs kernel_gradient_workspace bytes.
template <class T>
void convolve_forward(const ConvSizes&, const T* x, const T* w, T* y);
template <class T>
void convolve_kernel_gradient(const ConvSizes&, const T* x, const T* delta, T* w, T* workspace);
template <class T>
void convolve_input_gradient(const ConvSizes&, const T* delta, const T* w, T* x);

std::size_t kernel_gradient_workspace(const ConvSizes&, std::size_t element_bytes);

}  // namespace opgrad
