// The kernel's gradient by register tiles: taps x channels of it are summed over pixels, images are read in
// place.
#pragma once
#include <cstddef>

#include "conv2d_kernels.h"

namespace opgrad {

// T is float or double, nothing overlaps, no size is 0. Pixels are cut into parts by shape alone, each with
// sums of its own, which are added in the order of the parts: the bits are those of one thread.
template <class T>
void direct_kernel_gradient(const ConvSizes& s, const T* x, const T* delta, T* w, T* workspace);
// Of at most 8 MiB, or of one kernel with its channels rounded up to 64 bytes.
std::size_t direct_gradient_workspace(const ConvSizes& s, std::size_t element_bytes);

// The same in two steps (Op::over_rows): a part has so many images, 0 where it has none of its own. x and
// delta are those of `images` of them from `first` on, a multiple of that.
std::int64_t direct_gradient_part_images(const ConvSizes& s, std::size_t element_bytes);
template <class T>
void direct_gradient_parts(const ConvSizes& s, std::int64_t first, std::int64_t images, const T* x,
                           const T* delta, T* workspace);
template <class T>
void direct_gradient_of_parts(const ConvSizes& s, const T* workspace, T* w);

// w[r, :] = the sum over groups of partial[group][r, :], whose rows are `width` apart and groups `rows` rows;
// channels of w that do not fill a vector lie as tiles leave them.
template <class T>
void add_groups(const T* partial, std::int64_t groups, std::int64_t rows, std::int64_t width,
                std::int64_t channels, T* w);

}  // namespace opgrad
