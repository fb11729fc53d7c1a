// The kernels of float products for any processor: up to 6 rows by 2 vectors of 4 columns. There is no fused
// multiply-add, so products are rounded before they are added.
#include <algorithm>
#include <cstring>

#include "gemm_kernels.h"

namespace opgrad::detail {
namespace {

using std::int64_t;

typedef float Four __attribute__((vector_size(16)));

// Up to four numbers; lanes beyond are 0.
Four load(const float* from, int64_t n) {
  Four x{};
  if (n >= 4)
    std::memcpy(&x, from, sizeof x);
  else
    for (int64_t j = 0; j < n; ++j) x[j] = from[j];
  return x;
}

void store(float* to, const Four& x, int64_t n) {
  if (n >= 4)
    std::memcpy(to, &x, sizeof x);
  else
    for (int64_t j = 0; j < n; ++j) to[j] = x[j];
}

Four splat(float x) { return Four{x, x, x, x}; }

template <int R, int V, Beside beside, bool by_rows>
void tile(const GemmTile& t) {
  Four sum[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) sum[i][j] = t.add ? load(t.c + i * t.ldc + 4 * j, t.columns - 4 * j) : Four{};
  const float *a = t.a, *b = t.b;
  [[maybe_unused]] float* copy = t.copy;
  const int64_t row = by_rows ? t.a_stride : 1, step = by_rows ? 1 : t.a_stride;
  for (int64_t left = t.k, stretch; left > 0; left -= stretch) {
    stretch = beside == Beside::fetch ? std::min(left, GemmAhead::stretch) : left;
    if constexpr (beside == Beside::fetch) t.ahead->fetch();
    for (int64_t l = stretch; l > 0; --l, a += step, b += t.b_stride) {
      Four x[V];
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) std::memcpy(&x[j], b + 4 * j, sizeof(Four));
      if constexpr (beside == Beside::copy) {
        std::memcpy(copy, x, sizeof x);
        copy += 4 * V;
      }
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const float f = a[i * row];
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) sum[i][j] = sum[i][j] + splat(f) * x[j];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) store(t.c + i * t.ldc + 4 * j, sum[i][j], t.columns - 4 * j);
}

void transpose(const float* b, int64_t ld, int64_t columns, int64_t k, float* strip) {
  for (int64_t l = 0; l < k; ++l)
    for (int64_t j = 0; j < 8; ++j) strip[8 * l + j] = j < columns ? b[j * ld + l] : 0;
}

// Steps [0, S) of the inner axis, added to all of C, or, where `fresh`, to zeros.
template <int R, int S, bool by_rows>
inline void sweep(const GemmTile& t, const float* a, const float* b, bool fresh) {
  Four f[R][S];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int l = 0; l < S; ++l) f[i][l] = splat(a[by_rows ? i * t.a_stride + l : l * t.a_stride + i]);
  for (int64_t j = 0; j < t.columns; j += 4) {
    Four sum[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) sum[i] = fresh ? Four{} : load(t.c + i * t.ldc + j, 4);
#pragma GCC unroll 16
    for (int l = 0; l < S; ++l) {
      const Four x = load(b + l * t.b_stride + j, 4);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) sum[i] = sum[i] + f[i][l] * x;
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) store(t.c + i * t.ldc + j, sum[i], 4);
  }
}

struct Set {
  static constexpr int rows = 6, lanes = 4, sweep_rows = 3, sweep_registers = 8, few_rows = 0;
  template <int R, int V, Beside beside, bool by_rows>
  static constexpr GemmKernels::Tile tile = detail::tile<R, V, beside, by_rows>;
  template <int R, int S, bool by_rows>
  static constexpr auto sweep = detail::sweep<R, S, by_rows>;
  static constexpr auto transpose = detail::transpose;
};

}  // namespace

constinit const GemmKernels gemm_baseline = gemm_kernels_of<Set>;

}  // namespace opgrad::detail
