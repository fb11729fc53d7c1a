// The arithmetic of operations, counted from their shapes.
#pragma once
#include <cstdint>

#include "../graph/program.h"

namespace opgrad {

// 2 per multiply-add of an item that is a matrix product, a convolution or a gradient of one; those of a
// convolution with pads included. 0 for every other item: works.h counts in the same way.
double flops_of(const Program& p, std::uint32_t item);

}  // namespace opgrad
