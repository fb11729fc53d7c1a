// Convolution with 3x3 kernels, stride 1 and dilation 1, by Winograd's F(2x2, 3x3): 2.25 times fewer products
// (conv2d_transforms.h). f32 alone. Forward and for the input, the products of up to 14 tiles of 2x2 outputs
// are transformed while they are in the nearest cache; for the kernel, tiles are transformed by the box,
// which stays in cache. Where outputs are odd in number, products that no output needs are left out.
// Rounding, on normal numbers, 16 to 256 channels, as the largest error relative to the largest result of a
// loop in f64: 1.9e-7 to 7.2e-7 forward and for the input, 1.2e-7 to 5.3e-7 for the kernel; the direct
// kernels, whose sums are longer, have 4.5e-7 to 2.4e-6 and 2.6e-7 to 7e-7.
#pragma once
#include <cstddef>

#include "../core/kernel.h"
#include "conv2d_kernels.h"

namespace opgrad {

// What the functions below are for: such kernels, and at least 16 channels on both sides.
bool winograd_fits(const ConvSizes& s);

// The transformed kernels of a convolution with so many channels to read and to write: bytes, and how they
// are made.
std::size_t winograd_workspace(std::int64_t in, std::int64_t out);
void winograd_prepare_forward(const ConvSizes& s, const float* w, float* workspace);
void winograd_prepare_input_gradient(const ConvSizes& s, const float* w, float* workspace);
// An image's bits depend on nothing beside it. `prepared`: what the functions above have made of w, or null.
void winograd_forward(const ConvSizes& s, const float* x, const float* w, float* y, const float* prepared,
                      const Finished* finished);
void winograd_input_gradient(const ConvSizes& s, const float* delta, const float* w, float* x,
                             const float* prepared, const Finished* finished);
// Tiles are cut into at most 8 groups by shape alone, whose sums are added in the order of the groups.
void winograd_kernel_gradient(const ConvSizes& s, const float* x, const float* delta, float* w,
                              float* workspace);
// Of at most 8 MiB, or of 16 matrices in x out with `out` rounded up to 16.
std::size_t winograd_gradient_workspace(const ConvSizes& s);

}  // namespace opgrad
