// The kernel's gradient by register tiles: taps x channels of it are summed over pixels, images are read in
// place.
#pragma once
#include <cstddef>

#include "conv2d_kernels.h"

namespace opgrad {

// T is float or double, nothing overlaps, no size is 0. Pixels are cut into at most 8 groups by shape alone,
// each with sums of its own, which are added in the order of the groups: the bits are those of one thread.
template <class T>
void direct_kernel_gradient(const ConvSizes& s, const T* x, const T* delta, T* w, T* workspace);
// Of at most 8 MiB, or of one kernel with its channels rounded up to 64 bytes.
std::size_t direct_gradient_workspace(const ConvSizes& s, std::size_t element_bytes);

// w[r, :] = the sum over groups of partial[group][r, :], whose rows are `width` apart and groups `rows` rows;
// channels of w that do not fill a vector lie as tiles leave them.
template <class T>
void add_groups(const T* partial, std::int64_t groups, std::int64_t rows, std::int64_t width,
                std::int64_t channels, T* w);

}  // namespace opgrad
