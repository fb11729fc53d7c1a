// The values with which weights begin.
#pragma once
#include <cstdint>

#include "module.h"

namespace opgrad {

// A leaf of this type, f32 or f64, drawn on the host, so that making weights runs no plan. The same stream
// gives the same elements.
Tensor initial_value(Initializer initializer, std::uint64_t stream, std::int64_t fan_in, std::int64_t fan_out,
                     const Shape& shape, DType dtype);

}  // namespace opgrad
