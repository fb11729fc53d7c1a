// Convolution with 3x3 kernels, stride 1 and dilation 1, by Winograd's F(2x2, 3x3) or F(4x4, 3x3): 2.25 or 4
// times fewer products (conv2d_transforms.h). f32 alone. Forward and for the input, the products of up to 14
// tiles are transformed while they are in the nearest caches; for the kernel, tiles are transformed by the
// box, which stays in cache. Where outputs leave a rest, products that no output needs are left out.
// Rounding, on normal numbers, as the largest error relative to the largest result of a loop in f64; in
// brackets, the root of the mean square of the errors over that of the results:
//
//     channels   forward and input: 2x2, 4x4, direct kernels           kernel: 2x2, 4x4, direct
//           16   2.6e-7 (1.8e-7)  1.1e-6 (5.7e-7)  5.6e-7 (2.1e-7)    4.6e-7  2.1e-6  3.4e-7
//           64   4.3e-7 (2.7e-7)  1.7e-6 (8.5e-7)  1.1e-6 (4.2e-7)    5.8e-7  2.1e-6  3.7e-7
//          256   7.0e-7 (5.0e-7)  3.2e-6 (1.6e-6)  2.1e-6 (8.4e-7)    6.5e-7  1.1e-6  3.8e-7
//          512   9.2e-7 (7.0e-7)  4.4e-6 (2.2e-6)  3.4e-6 (1.2e-6)    6.6e-7  1.3e-6  1.3e-6
//
// (the worst of the instruction sets; images of 16x16 pixels, eight of them up to 64 channels, else two).
#pragma once
#include <cstddef>

#include "../core/kernel.h"
#include "conv2d_kernels.h"

namespace opgrad {

// What the functions below are for: such kernels, and at least 16 channels on both sides.
bool winograd_fits(const ConvSizes& s);

// Tiles are of `side` x `side` outputs, 2 or 4. The products of an image between two channels: each output
// needs 9 without Winograd.
std::int64_t winograd_products(ConvDirection direction, const ConvSizes& s, int side);

// The kernels, transformed once for all images: bytes, and how that is done. 0 bytes where tiles are so few
// that they are cut by channels, each thread transforming the kernels of its own.
std::size_t winograd_workspace(ConvDirection direction, const ConvSizes& s, int side);
void winograd_prepare_forward(const ConvSizes& s, int side, const float* w, float* workspace);
void winograd_prepare_input_gradient(const ConvSizes& s, int side, const float* w, float* workspace);
// An image's bits depend on nothing beside it. `prepared`: what the functions above have made of w, or null.
void winograd_forward(const ConvSizes& s, int side, const float* x, const float* w, float* y,
                      const float* prepared, const Finished* finished);
void winograd_input_gradient(const ConvSizes& s, int side, const float* delta, const float* w, float* x,
                             const float* prepared, const Finished* finished);
// Tiles are cut into at most 8 groups by shape alone, whose sums are added in the order of the groups.
void winograd_kernel_gradient(const ConvSizes& s, int side, const float* x, const float* delta, float* w,
                              float* workspace);
// Of at most 8 MiB, or of 16 (36) matrices in x out with `out` rounded up to 16.
std::size_t winograd_gradient_workspace(const ConvSizes& s, int side);

}  // namespace opgrad
