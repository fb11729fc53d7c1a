// Float products by blocks of C: what gemm and gemm_tile do for f32.
#pragma once
#include <cstdint>

#include "gemm.h"
#include "kernel.h"

namespace opgrad::detail {

struct FloatProduct {
  std::int64_t m, n, k;
  Matrix<float> a, b;
  float* c;
  std::int64_t ldc;
  bool add;  // C += A B
};

// C is cut into blocks of rows by columns, one to a task. Blocks narrower than 256 columns are reported
// `together` at a time.
struct GemmCut {
  std::int64_t rows, columns, together;
};
GemmCut cut_of(std::int64_t m, std::int64_t n, std::int64_t k);
GemmCut cut_in_rows(const FloatProduct& p);  // of one that reports its pieces
// A block of so many rows reads B where it lies, turned round in registers if it lies transposed; else from
// strips.
bool reads_in_place(std::int64_t rows, bool a_transposed, bool b_transposed);

// All of C in this thread; on all threads, reporting to `finished` unless it is null. m and n are not 0.
void multiply(const FloatProduct& p);
void multiply_parallel(const FloatProduct& p, const Finished* finished);

}  // namespace opgrad::detail
