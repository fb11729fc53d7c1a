// What all convolutions check, each with a message for the user: parts of shape rules, and refusals of the
// public functions.
#pragma once
#include "convolution_window.h"

namespace opgrad {

// What messages call the operation, and the last axis of its kernels.
struct ConvolutionWords {
  const char *name, *last;
};

// Of the convolution of input 0 by input 1: everything but its channels. Returns the kernel, or one of the
// kernels.
Shape check_convolution(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words);
// Of the kernel's gradient, from the image and delta; of the image's, from delta and the kernel, which is
// returned, or one of the kernels: the same, without delta's size.
void check_kernel_gradient(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words);
Shape check_input_gradient(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words);

// That image and kernel have as many channels. `hint` (null: none) says what else the kernel looks like.
void check_channels(const Call& call, const Shape& x, const Shape& w, const char* hint);

// Rows and columns of the result of an image, whose kernel has these; a padded image with so many channels
// can be counted.
std::array<std::int64_t, 2> output_sizes(const Call& call, const Conv2DAttributes& a, std::int64_t rows,
                                         std::int64_t columns, std::int64_t channels,
                                         std::int64_t kernel_rows, std::int64_t kernel_columns);

// The results of the gradients, once delta has been found to be of the size that belongs to them: a kernel
// whose last axis is `last`, for each example or not, and an image that `w` takes. `channels` as above.
Result kernel_sought(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words,
                     std::int64_t channels, std::int64_t last);
Result image_sought(const Call& call, const Conv2DAttributes& a, const ConvolutionWords& words,
                    std::int64_t channels, const Shape& w);

// Of the shapes that the public gradients are told: that they have four axes, and that an image is the one
// that was made.
void check_kernel_shape(const char* operation, Location where, const Shape& w, const ConvolutionWords& words);
void check_input_shape(const char* operation, Location where, const Shape& x);
void check_image_made(const char* operation, Location where, const Shape& x, const Tensor& made,
                      const Tensor& delta, const Tensor& kernel);

}  // namespace opgrad
