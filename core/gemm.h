// Matrix products: f32 by kernels of our own, f64 by OpenBLAS, and the choice of OpenBLAS's kernels.
#pragma once
#include <cstdint>
#include <string>

#include "dtype.h"
#include "kernel.h"

namespace opgrad {

// One operand: element (i, j) of the matrix as it enters the product lies at data[i*ld + j], or at data[j*ld
// + i] when transposed. ld >= 1 even for empty matrices is the callee's business.
template <class T>
struct Matrix {
  const T* data;
  std::int64_t ld;
  bool transposed = false;
};

// C = A B, or C += A B when accumulate; A is m x k, B is k x n, C is m x n with leading dimension ldc; any
// size may be 0 (k = 0 gives zeros). C may overlap neither A nor B. T is float or double. gemm_tile runs in
// the calling thread; gemm cuts C into blocks, whose sizes change no bit, and runs them with parallel_for.
//
// For float, element (i, j) is one chain, c = fma(a[i, l], b[l, j], c) for l = 0 ... k - 1, which begins with
// 0 or with C: its bits depend on row i of A and column j of B alone, on no cut, thread or neighbour. They
// are the same for avx2 and avx512; baseline has no fused multiply-add and rounds the product as well.
// Scratch is 48 KiB on the stack of each thread. Double goes to OpenBLAS, whose bits depend on the shape.
//
// `finished` is told of each piece of C once its values are final, whole rows or pieces of a row, all of C
// exactly once: elements counted row-major, which needs ldc = n.
template <class T>
void gemm_tile(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<T> a, Matrix<T> b, T* c,
               std::int64_t ldc, bool accumulate);
template <class T>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<T> a, Matrix<T> b, T* c, std::int64_t ldc,
          bool accumulate, const Finished* finished = nullptr);

// How gemm computes such a product, for reports: "zeros" (k = 0), "B in place" (read where it lies: few
// rows), "B in strips" (copied strip by strip into the first cache), "B transposed in registers" (turned
// round there, 16 columns by 16 rows at a time: few rows), "B transposed in strips", "OpenBLAS" (double).
// "nothing" where m or n is 0. A product that reports its pieces may be cut otherwise. UserError unless dtype
// is f32 or f64.
const char* gemm_choice(std::int64_t m, std::int64_t n, std::int64_t k, bool a_transposed, bool b_transposed,
                        DType dtype, bool reports = false);

// OpenBLAS's kernel set in use ("SkylakeX", "Haswell", ...), the one this processor deserves, and whether the
// former is older than the latter. The choice is made before main; OPENBLAS_CORETYPE set by the user is
// respected.
struct BlasKernels {
  std::string in_use, best, config;
  bool outdated = false;
  std::string warning;  // why the choice could not be corrected; empty when all is well
};
BlasKernels blas_kernels();

namespace detail {
// Makes the choice and sets OpenBLAS to one thread per call; run once, when the library is loaded.
void prepare_blas();
}  // namespace detail

// GFLOP/s of a 1024 x 1024 x 1024 product in float, the best of a few runs, on threads() threads.
double measured_gemm_rate();

}  // namespace opgrad
