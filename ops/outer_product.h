// Products of columns with rows, which only write: gradients of weights example by example.
#pragma once
#include <cstdint>

#include "../core/kernel.h"

namespace opgrad {

// Pair p is the column a[p*a_stride + i*a_step], i < rows, and the row b[p*b_stride + j], j < columns.
template <class T>
struct OuterProducts {
  std::int64_t count, rows, columns;
  const T* a;
  std::int64_t a_stride, a_step;
  const T* b;
  std::int64_t b_stride;
};

// y[p, i, j] = a[p, i] b[p, j], dense. Every element is written once; a result that no cache holds goes past
// the caches, which saves reading its memory first. Zeros are +0, as in a sum that begins with 0. `finished`,
// if given, is told of whole rows. T is float or double; y overlaps neither a nor b.
template <class T>
void outer_products(const OuterProducts<T>& pairs, T* y, const Finished* finished = nullptr);

}  // namespace opgrad
