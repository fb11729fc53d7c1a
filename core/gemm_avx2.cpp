// The kernels of float products for AVX2 with FMA: up to 6 rows by 2 vectors of 8 columns.
#include <immintrin.h>

#include <algorithm>

#include "gemm_kernels.h"

namespace opgrad::detail {
namespace {

using std::int64_t;

// The first n of 8 lanes.
[[gnu::target("avx2")]] inline __m256i first(int64_t n) {
  const int lanes = static_cast<int>(n > 8 ? 8 : n);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

template <int R, int V, Beside beside, bool by_rows>
[[gnu::target("avx2,fma")]] void tile(const GemmTile& t) {
  __m256 sum[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j)
      sum[i][j] =
          t.add ? _mm256_maskload_ps(t.c + i * t.ldc + 8 * j, first(t.columns - 8 * j)) : _mm256_setzero_ps();
  // Every third row has a pointer; the others are a distance or two away, which an address can say.
  constexpr int P = (R + 2) / 3;
  const float* a[P];
  const int64_t row = by_rows ? t.a_stride : 1, step = by_rows ? 1 : t.a_stride;
#pragma GCC unroll 16
  for (int i = 0; i < P; ++i) a[i] = t.a + 3 * i * row;
  const float* b = t.b;
  [[maybe_unused]] float* copy = t.copy;
  for (int64_t left = t.k, stretch; left > 0; left -= stretch) {
    stretch = beside == Beside::fetch ? std::min(left, GemmAhead::stretch) : left;
    if constexpr (beside == Beside::fetch) t.ahead->fetch();
    for (int64_t l = stretch; l > 0; --l, b += t.b_stride) {
      __m256 x[V];
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) x[j] = _mm256_loadu_ps(b + 8 * j);
      if constexpr (beside == Beside::copy) {
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) _mm256_store_ps(copy + 8 * j, x[j]);
        copy += 8 * V;
      }
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const __m256 f = _mm256_set1_ps(by_rows ? a[i / 3][i % 3 * row] : a[0][i]);
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) sum[i][j] = _mm256_fmadd_ps(f, x[j], sum[i][j]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < P; ++i) a[i] += step;
    }
  }
  const __m256i mask = first(t.columns - 8 * (V - 1));
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < V - 1; ++j) _mm256_storeu_ps(t.c + i * t.ldc + 8 * j, sum[i][j]);
    _mm256_maskstore_ps(t.c + i * t.ldc + 8 * (V - 1), mask, sum[i][V - 1]);
  }
}

// Lane j of x[l] is b[j * ld + l] for 8 columns j and 8 l.
[[gnu::target("avx2"), gnu::always_inline]] inline void load_turned(const float* b, int64_t ld,
                                                                    __m256 (&x)[8]) {
  __m256 y[8];
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) x[j] = _mm256_loadu_ps(b + j * ld);
    // Pairs of numbers, then fours, then halves change places.
#pragma GCC unroll 8
  for (int j = 0; j < 8; j += 2) {
    y[j] = _mm256_unpacklo_ps(x[j], x[j + 1]);
    y[j + 1] = _mm256_unpackhi_ps(x[j], x[j + 1]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; j += 4) {
    x[j] = _mm256_shuffle_ps(y[j], y[j + 2], 0x44);
    x[j + 1] = _mm256_shuffle_ps(y[j], y[j + 2], 0xee);
    x[j + 2] = _mm256_shuffle_ps(y[j + 1], y[j + 3], 0x44);
    x[j + 3] = _mm256_shuffle_ps(y[j + 1], y[j + 3], 0xee);
  }
#pragma GCC unroll 8
  for (int j = 0; j < 4; ++j) {
    y[j] = _mm256_permute2f128_ps(x[j], x[j + 4], 0x20);
    y[j + 4] = _mm256_permute2f128_ps(x[j], x[j + 4], 0x31);
  }
#pragma GCC unroll 8
  for (int l = 0; l < 8; ++l) x[l] = y[l];
}

// strip[l * 16 + j] = b[j * ld + l] for 8 columns j and 8 l.
[[gnu::target("avx2")]] void transpose_8(const float* b, int64_t ld, float* strip) {
  __m256 x[8];
  load_turned(b, ld, x);
#pragma GCC unroll 8
  for (int l = 0; l < 8; ++l) _mm256_storeu_ps(strip + 16 * l, x[l]);
}

void transpose(const float* b, int64_t ld, int64_t columns, int64_t k, float* strip) {
  for (int64_t j = 0; j < 16; j += 8)
    for (int64_t l = 0; l < k; l += 8) {
      if (j + 8 <= columns && l + 8 <= k) {
        transpose_8(b + j * ld + l, ld, strip + 16 * l + j);
        continue;
      }
      for (int64_t r = l; r < k && r < l + 8; ++r)
        for (int64_t c = j; c < j + 8; ++c) strip[16 * r + c] = c < columns ? b[c * ld + r] : 0;
    }
}

template <int R>
[[gnu::target("avx2,fma")]] void few(const GemmTile& t) {
  const __m256i masks[2] = {first(t.columns), first(t.columns - 8)};
  __m256 sum[R][2];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j)
      sum[i][j] = t.add ? _mm256_maskload_ps(t.c + i * t.ldc + 8 * j, masks[j]) : _mm256_setzero_ps();
  const float *a = t.a, *b = t.b;
  int64_t left = t.k;
  if (t.columns == 16)
    for (; left >= 8; left -= 8, a += 8, b += 8)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        __m256 x[8];
        load_turned(b + 8 * j * t.b_stride, t.b_stride, x);
#pragma GCC unroll 8
        for (int l = 0; l < 8; ++l)
#pragma GCC unroll 8
          for (int i = 0; i < R; ++i)
            sum[i][j] = _mm256_fmadd_ps(_mm256_set1_ps(a[i * t.a_stride + l]), x[l], sum[i][j]);
      }
  for (; left > 0; left -= 8, b += 8) {
    alignas(32) float strip[8 * 16];
    transpose(b, t.b_stride, t.columns, left < 8 ? left : 8, strip);
    for (int64_t l = 0; l < left && l < 8; ++l, ++a)
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j)
          sum[i][j] = _mm256_fmadd_ps(_mm256_set1_ps(a[i * t.a_stride]),
                                      _mm256_load_ps(strip + 16 * l + 8 * j), sum[i][j]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) _mm256_maskstore_ps(t.c + i * t.ldc + 8 * j, masks[j], sum[i][j]);
}

// Steps [0, S) of the inner axis, added to all of C, or, where `fresh`, to zeros.
template <int R, int S, bool by_rows>
[[gnu::target("avx2,fma")]] inline void sweep(const GemmTile& t, const float* a, const float* b, bool fresh) {
  __m256 f[R][S];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int l = 0; l < S; ++l)
      f[i][l] = _mm256_set1_ps(a[by_rows ? i * t.a_stride + l : l * t.a_stride + i]);
  for (int64_t j = 0; j < t.columns; j += 8) {
    __m256 sum[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) sum[i] = fresh ? _mm256_setzero_ps() : _mm256_loadu_ps(t.c + i * t.ldc + j);
#pragma GCC unroll 16
    for (int l = 0; l < S; ++l) {
      const __m256 x = _mm256_loadu_ps(b + l * t.b_stride + j);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) sum[i] = _mm256_fmadd_ps(f[i][l], x, sum[i]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) _mm256_storeu_ps(t.c + i * t.ldc + j, sum[i]);
  }
}

struct Set {
  static constexpr int rows = 6, lanes = 8, sweep_rows = 3, sweep_registers = 8, few_rows = 2;
  template <int R, int V, Beside beside, bool by_rows>
  static constexpr GemmKernels::Tile tile = detail::tile<R, V, beside, by_rows>;
  template <int R, int S, bool by_rows>
  static constexpr auto sweep = detail::sweep<R, S, by_rows>;
  template <int R>
  static constexpr GemmKernels::Tile few = detail::few<R>;
  static constexpr auto transpose = detail::transpose;
};

}  // namespace

constinit const GemmKernels gemm_avx2 = gemm_kernels_of<Set>;

}  // namespace opgrad::detail
