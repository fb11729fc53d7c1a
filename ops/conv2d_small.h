// Convolution where patches are short (few input channels): products of one's own, without OpenBLAS, that
// keep their accumulators in registers and read x in place.
#pragma once
#include "conv2d_kernels.h"

namespace opgrad {

// Patches are at most this long; all below is for those alone.
inline constexpr std::int64_t small_depth = 32;
inline bool is_small(const ConvSizes& s) { return s.depth() <= small_depth; }

// y from x and w. T is float or double.
template <class T>
void small_forward(const ConvSizes& s, const T* x, const T* w, T* y);

// Adds to w's gradient what lines [first, end) of all images give; line i of image b is b * out_rows + i.
template <class T>
void small_kernel_gradient(const ConvSizes& s, const T* x, const T* delta, std::int64_t first,
                           std::int64_t end, T* w);

}  // namespace opgrad
