// Convolution by register tiles that read the images in place: no unfolding. Any strides, dilations, pads and
// channels. Each sum has one order, (rows, columns, channels) of the kernel, forward for y and backward for
// x's gradient, so an image's bits depend on nothing beside it.
#pragma once
#include "../core/kernel.h"
#include "conv2d_kernels.h"

namespace opgrad {

// T is float or double, nothing overlaps, no size is 0.
template <class T>
void direct_forward(const ConvSizes& s, const T* x, const T* w, T* y, const Finished* finished);
template <class T>
void direct_input_gradient(const ConvSizes& s, const T* delta, const T* w, T* x, const Finished* finished);

}  // namespace opgrad
