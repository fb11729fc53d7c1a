// The numeric part of the depthwise trio, for dense channels-last arrays: direct kernels that read the images
// in place. No unfolding, no matrix products.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "../core/kernel.h"

namespace opgrad {

// All numbers of y[b, i, j, c*M + q] = sum over m, n of
// x[b, i*strides[0] + m*dilations[0] - top, j*strides[1] + n*dilations[1] - left, c] w[m, n, c, q].
struct DepthwiseSizes {
  std::int64_t batch, rows, columns, channels;           // x
  std::int64_t kernel_rows, kernel_columns, multiplier;  // w, with `channels` between; M
  std::int64_t out_rows, out_columns;                    // y
  std::array<std::int64_t, 2> strides, dilations;
  std::int64_t top, left;
  std::int64_t images;  // that share a kernel; w holds batch / images kernels, one behind the other

  std::int64_t out() const { return channels * multiplier; }
  std::int64_t taps() const { return kernel_rows * kernel_columns; }
  std::int64_t kernel_size() const { return taps() * out(); }
};

// y from x and w; w's gradient from x and y's; x's gradient from y's and w. T is float or double. Nothing
// overlaps, no size is 0. Each sum has one order: that of the taps (backward for x's gradient), and within a
// group of lines that of the pixels; taps outside the image are left out. The first and last give an image
// the same bits whatever images stand beside it, and tell `finished` (null: nobody) of runs of whole pixels
// of some 128 KiB. The middle one needs depthwise_gradient_workspace bytes, at most 8 MiB. Sums are fused
// with AVX2 and AVX-512, whose bits are equal, and not in the baseline.
template <class T>
void depthwise_forward(const DepthwiseSizes&, const T* x, const T* w, T* y, const Finished* finished);
template <class T>
void depthwise_kernel_gradient(const DepthwiseSizes&, const T* x, const T* delta, T* w, T* workspace);
template <class T>
void depthwise_input_gradient(const DepthwiseSizes&, const T* delta, const T* w, T* x,
                              const Finished* finished);

std::size_t depthwise_gradient_workspace(const DepthwiseSizes&, std::size_t element_bytes);

}  // namespace opgrad
