// The input gradient where the input has few channels (images): they would leave most lanes of a vector
// empty.
#pragma once
#include "../core/kernel.h"
#include "conv2d_kernels.h"

namespace opgrad {

// At most four input channels, and patches that are short.
bool fold_fits(const ConvSizes& s);

// x's gradient from y's and w. T is float or double, nothing overlaps, no size is 0. An image's bits depend
// on nothing beside it.
template <class T>
void fold_input_gradient(const ConvSizes& s, const T* delta, const T* w, T* x, const Finished* finished);

}  // namespace opgrad
