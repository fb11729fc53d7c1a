// A view: what a kernel sees of a tensor. Pointer, type, strides; no ownership.
#pragma once
#include <array>
#include <cstdint>

#include "shape.h"

namespace opgrad {

// Element (i0, i1, ...) lies at data + i0*strides[0] + i1*strides[1] + ..., strides counted in elements;
// a stride is 0 along a broadcast axis and negative along a flipped one.
struct View {
  void* data = nullptr;
  Type type;
  std::array<std::int64_t, max_rank> strides{};

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  const Shape& shape() const { return type.shape; }
  DType dtype() const { return type.dtype; }
  std::int64_t numel() const { return type.shape.numel(); }
  // Row-major without gaps: element k in row-major order is data[k].
  bool dense() const;
  // Every element is the same memory (all strides of axes longer than 1 are 0).
  bool splat() const;
};

View dense_view(void* data, const Type& type);

// Copies src into dst element by element; equal types, any strides.
void copy(const View& src, const View& dst);

}  // namespace opgrad
