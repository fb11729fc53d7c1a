// What the shape rules of all convolutions check, each with a message for the user.
#pragma once
#include <string>

#include "conv2d_window.h"

namespace opgrad {

// What messages call the operation, and the last axis of its kernels.
struct ConvolutionWords {
  const char *name, *last;
};

// Inputs 0 and 1 are f32, or f64, and called so.
void check_types(const Call& call, const char* a, const char* b);
void check_image_rank(const Call& call, int i, const char* what, const char* layout);
// Of the kernel, or of each of the kernels.
Shape check_kernel(const Call& call, int i, const Conv2DAttributes& a, const ConvolutionWords& words);
void check_window(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words);
// Rows and columns of the result, whose kernel has these; a padded image with so many channels can be
// counted.
std::array<std::int64_t, 2> output_sizes(const Call& call, const Conv2DAttributes& a, std::int64_t rows,
                                         std::int64_t columns, std::int64_t channels,
                                         std::int64_t kernel_rows, std::int64_t kernel_columns);
// That delta is of the size of the result `output`, which is that of `of`.
void check_delta(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words,
                 const Shape& delta, const std::array<std::int64_t, 2>& output, const char* of);

}  // namespace opgrad
