// Inside the room: a tensor's elements as they lie in memory, for files and batches.
#pragma once
#include <cstddef>
#include <span>

#include "../graph/ir.h"

namespace opgrad {

// The elements of x, computed if need be; they live as long as x.
inline std::span<const std::byte> bytes_of(const Tensor& x) {
  return dispatch(x.dtype(), [&]<class T>() {
    const auto values = x.values<T>();
    return std::as_bytes(std::span(values.data(), values.size()));
  });
}

}  // namespace opgrad
