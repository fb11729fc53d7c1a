// Matrix products: f32 goes to gemm_blocks; for f64 C is cut into tiles by shape alone, each of them one
// single-threaded call of OpenBLAS.
#include "gemm.h"

#include <cblas.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "error.h"
#include "gemm_blocks.h"
#include "parallel.h"

namespace opgrad {
namespace {

using std::int64_t;

// Here, so that whoever links a product from a static library links this as well. Before the static objects
// of others, which may compute already.
[[gnu::constructor(200)]] void at_load() { detail::prepare_blas(); }

blasint blas_size(int64_t size, const char* what) {
  if (size > std::numeric_limits<blasint>::max())
    throw UserError(fmt::format(
        "matrix product: its {} is {}, but OpenBLAS counts with {} bits, up to {}; compute it in pieces",
        what, size, 8 * sizeof(blasint), std::numeric_limits<blasint>::max()));
  return static_cast<blasint>(std::max<int64_t>(1, size));
}

CBLAS_TRANSPOSE transpose(bool t) { return t ? CblasTrans : CblasNoTrans; }

// y = M x, or y += M x, for the rows x cols matrix M.
void matrix_times_vector(int64_t rows, int64_t cols, Matrix<double> m, const double* x, int64_t x_step,
                         double* y, int64_t y_step, bool accumulate) {
  cblas_dgemv(CblasRowMajor, transpose(m.transposed), blas_size(m.transposed ? cols : rows, "number of rows"),
              blas_size(m.transposed ? rows : cols, "number of columns"), 1, m.data,
              blas_size(m.ld, "row distance"), x, blas_size(x_step, "row distance"), accumulate, y,
              blas_size(y_step, "row distance"));
}

struct Tile {
  int64_t rows, cols;
};

// One of `pieces` equal pieces of n, rounded up to whole blocks.
int64_t even_piece(int64_t n, int64_t pieces, int64_t block) {
  const int64_t size = (n + pieces - 1) / pieces;
  return std::min(n, (size + block - 1) / block * block);
}

// The largest multiple of 16 up to 256 that makes a product of it, `other` and k a small one; 0 if there is
// none. OpenBLAS has kernels for products of at most 100^3 that do not repack the operands, which is what a
// narrow product would spend its time on.
int64_t small_piece(int64_t other, int64_t k) {
  const double fits = 1e6 / (static_cast<double>(other) * static_cast<double>(k));
  return static_cast<int64_t>(std::min(fits, 256.)) / 16 * 16;
}

// Every tile repacks its share of both operands, so tiles are large, but not so large that fewer than 16 are
// left to the threads of a product worth dividing.
Tile choose_tile(int64_t m, int64_t n, int64_t k) {
  const double multiplications = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  if (multiplications <= 64. * 64 * 64) return {m, n};
  if (m == 1 || n == 1) {
    const int64_t piece = std::max<int64_t>(64, (int64_t{1} << 17) / k / 16 * 16);
    return {m == 1 ? 1 : std::min(m, piece), n == 1 ? 1 : std::min(n, piece)};
  }
  if (const int64_t rows = small_piece(n, k); n <= 96 && rows >= 32) return {std::min(m, rows), n};
  if (const int64_t cols = small_piece(m, k); m <= 32 && cols >= 64) return {m, std::min(n, cols)};
  int64_t down = 1, across = 1;
  for (;;) {
    const int64_t rows = m / down, cols = n / across;
    const bool many = down * across >= 16 || multiplications <= static_cast<double>(down * across << 24);
    const bool split_rows = rows >= 256 && (rows >= cols || cols < 256) && (rows > 384 || !many);
    const bool split_cols = !split_rows && cols >= 256 && (cols > 512 || !many);
    if (split_rows)
      down *= 2;
    else if (split_cols)
      across *= 2;
    else
      return {even_piece(m, down, 16), even_piece(n, across, 32)};
  }
}

const double* offset(Matrix<double> x, int64_t row, int64_t col) {
  return x.transposed ? x.data + col * x.ld + row : x.data + row * x.ld + col;
}

void tile_of(int64_t m, int64_t n, int64_t k, Matrix<float> a, Matrix<float> b, float* c, int64_t ldc,
             bool accumulate) {
  if (m > 0 && n > 0) detail::multiply({m, n, k, a, b, c, ldc, accumulate});
}

void tile_of(int64_t m, int64_t n, int64_t k, Matrix<double> a, Matrix<double> b, double* c, int64_t ldc,
             bool accumulate) {
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {
    if (!accumulate)
      for (int64_t i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, 0.0);
    return;
  }
  // A product with a vector only reads its matrix once, which gemv does without copying it first.
  if (n == 1) return matrix_times_vector(m, k, a, b.data, b.transposed ? 1 : b.ld, c, ldc, accumulate);
  if (m == 1) {
    b.transposed = !b.transposed;
    return matrix_times_vector(n, k, b, a.data, a.transposed ? a.ld : 1, c, 1, accumulate);
  }
  cblas_dgemm(CblasRowMajor, transpose(a.transposed), transpose(b.transposed), blas_size(m, "number of rows"),
              blas_size(n, "number of columns"), blas_size(k, "inner size"), 1, a.data,
              blas_size(a.ld, "row distance"), b.data, blas_size(b.ld, "row distance"), accumulate, c,
              blas_size(ldc, "row distance"));
}

void product_of(int64_t m, int64_t n, int64_t k, Matrix<float> a, Matrix<float> b, float* c, int64_t ldc,
                bool accumulate, const Finished* finished) {
  if (m > 0 && n > 0) detail::multiply_parallel({m, n, k, a, b, c, ldc, accumulate}, finished);
}

void product_of(int64_t m, int64_t n, int64_t k, Matrix<double> a, Matrix<double> b, double* c, int64_t ldc,
                bool accumulate, const Finished* finished) {
  if (m <= 0 || n <= 0) return;
  const Tile tile = choose_tile(m, n, k);
  const int64_t across = (n + tile.cols - 1) / tile.cols;
  const int64_t down = (m + tile.rows - 1) / tile.rows;
  parallel_for(down * across, [&](int64_t t) {
    const int64_t i = t / across * tile.rows, j = t % across * tile.cols;
    tile_of(std::min(tile.rows, m - i), std::min(tile.cols, n - j), k,
            Matrix<double>{offset(a, i, 0), a.ld, a.transposed},
            Matrix<double>{offset(b, 0, j), b.ld, b.transposed}, c + i * ldc + j, ldc, accumulate);
  });
  // Tiles may be narrow, so that the pieces are reported when all are done.
  if (finished) parallel_ranges(m * n, 1 << 14, *finished);
}

}  // namespace

template <class T>
void gemm_tile(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t ldc,
               bool accumulate) {
  tile_of(m, n, k, a, b, c, ldc, accumulate);
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t ldc, bool accumulate,
          const Finished* finished) {
  internal_check(!finished || m <= 1 || ldc == n, "pieces are counted in a matrix without gaps");
  product_of(m, n, k, a, b, c, ldc, accumulate, finished);
}

template void gemm_tile(int64_t, int64_t, int64_t, Matrix<float>, Matrix<float>, float*, int64_t, bool);
template void gemm_tile(int64_t, int64_t, int64_t, Matrix<double>, Matrix<double>, double*, int64_t, bool);
template void gemm(int64_t, int64_t, int64_t, Matrix<float>, Matrix<float>, float*, int64_t, bool,
                   const Finished*);
template void gemm(int64_t, int64_t, int64_t, Matrix<double>, Matrix<double>, double*, int64_t, bool,
                   const Finished*);

const char* gemm_choice(int64_t m, int64_t n, int64_t k, bool a_transposed, bool b_transposed, DType dtype,
                        bool reports) {
  if (dtype != DType::f32 && dtype != DType::f64)
    throw UserError(fmt::format(
        "gemm_choice: there are products of f32 and f64, not of {}; convert with cast", name_of(dtype)));
  if (m <= 0 || n <= 0) return "nothing";
  if (k <= 0) return "zeros";
  if (dtype == DType::f64) return "OpenBLAS";
  if (n == 1 && m > 1) return gemm_choice(1, m, k, false, !a_transposed, dtype, reports);
  detail::FloatProduct p{};
  p.m = m;
  p.n = n;
  p.k = k;
  p.b.transposed = b_transposed;
  const detail::GemmCut cut = reports ? detail::cut_in_rows(p) : detail::cut_of(m, n, k);
  const bool in_place = detail::reads_in_place(cut.rows, a_transposed, b_transposed);
  if (b_transposed) return in_place ? "B transposed in registers" : "B transposed in strips";
  return in_place ? "B in place" : "B in strips";
}

}  // namespace opgrad
