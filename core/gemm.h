// Matrix products over single-threaded OpenBLAS tiles, and the choice of OpenBLAS's kernels.
#pragma once
#include <cstdint>
#include <string>

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
// size may be 0 (k = 0 gives zeros). gemm_tile is one single-threaded call; gemm cuts C into tiles chosen
// from (m, n, k) alone and runs them with parallel_for. C may overlap neither A nor B. T is float or double.
template <class T>
void gemm_tile(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<T> a, Matrix<T> b, T* c,
               std::int64_t ldc, bool accumulate);
template <class T>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, Matrix<T> a, Matrix<T> b, T* c, std::int64_t ldc,
          bool accumulate);

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
