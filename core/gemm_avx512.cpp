// The kernels of float products for AVX-512: up to 14 rows by 2 vectors of 16 columns.
#include <immintrin.h>

#include <algorithm>

#include "gemm_kernels.h"

namespace opgrad::detail {
namespace {

using std::int64_t;

// The first n of 16 lanes.
[[gnu::target("avx512f")]] inline __mmask16 first(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

template <int R, int V, Beside beside, bool by_rows>
[[gnu::target("avx512f")]] void tile(const GemmTile& t) {
  __m512 sum[R][V];
  __mmask16 mask[V];
#pragma GCC unroll 16
  for (int j = 0; j < V; ++j) mask[j] = first(t.columns - 16 * j);
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j)
      sum[i][j] = t.add ? _mm512_maskz_loadu_ps(mask[j], t.c + i * t.ldc + 16 * j) : _mm512_setzero_ps();
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
      __m512 x[V];
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) x[j] = _mm512_loadu_ps(b + 16 * j);
      if constexpr (beside == Beside::copy) {
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) _mm512_store_ps(copy + 16 * j, x[j]);
        copy += 16 * V;
      }
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        const __m512 f = _mm512_set1_ps(by_rows ? a[i / 3][i % 3 * row] : a[0][i]);
#pragma GCC unroll 16
        for (int j = 0; j < V; ++j) sum[i][j] = _mm512_fmadd_ps(f, x[j], sum[i][j]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < P; ++i) a[i] += step;
    }
  }
  if (t.columns == 16 * V) {  // masked stores take longer
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) _mm512_storeu_ps(t.c + i * t.ldc + 16 * j, sum[i][j]);
    return;
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) _mm512_mask_storeu_ps(t.c + i * t.ldc + 16 * j, mask[j], sum[i][j]);
}

// Each makes one vector of two, by the same choice in each quarter or by a choice of quarters.
[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 low(const __m512& x, const __m512& y) {
  return __builtin_shufflevector(x, y, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
}
[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 high(const __m512& x, const __m512& y) {
  return __builtin_shufflevector(x, y, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}
[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 low_pairs(const __m512& x, const __m512& y) {
  return __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
}
[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 high_pairs(const __m512& x, const __m512& y) {
  return __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 even_quarters(const __m512& x, const __m512& y) {
  return __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
[[gnu::target("avx512f"), gnu::always_inline]] inline __m512 odd_quarters(const __m512& x, const __m512& y) {
  return __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

// Lane j of x[l] is b[j * ld + l] for 16 columns j and 16 l; where not whole, for j < columns and l < k, and
// 0 elsewhere.
template <bool whole>
[[gnu::target("avx512f"), gnu::always_inline]] inline void load_turned(const float* b, int64_t ld,
                                                                       int64_t columns, int64_t k,
                                                                       __m512 (&x)[16]) {
  // Every third row has a pointer, as above.
  const float* row[6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) row[j] = b + 3 * j * ld;
#pragma GCC unroll 16
  for (int j = 0; j < 16; ++j)
    if (whole)
      x[j] = _mm512_loadu_ps(row[j / 3] + j % 3 * ld);
    else
      x[j] = j < columns ? _mm512_maskz_loadu_ps(first(k), b + j * ld) : _mm512_setzero_ps();
  __m512 y[16];
#pragma GCC unroll 16
  for (int j = 0; j < 16; j += 2) {
    y[j] = low(x[j], x[j + 1]);
    y[j + 1] = high(x[j], x[j + 1]);
  }
  // Quarter q of x[j + r]: columns j to j + 3, l = 4 q + r.
#pragma GCC unroll 16
  for (int j = 0; j < 16; j += 4) {
    x[j] = low_pairs(y[j], y[j + 2]);
    x[j + 1] = high_pairs(y[j], y[j + 2]);
    x[j + 2] = low_pairs(y[j + 1], y[j + 3]);
    x[j + 3] = high_pairs(y[j + 1], y[j + 3]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < 4; ++r) {
    y[r] = even_quarters(x[r], x[r + 4]);
    y[r + 4] = odd_quarters(x[r], x[r + 4]);
    y[r + 8] = even_quarters(x[r + 8], x[r + 12]);
    y[r + 12] = odd_quarters(x[r + 8], x[r + 12]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < 4; ++r) {
    x[r] = even_quarters(y[r], y[r + 8]);
    x[r + 4] = even_quarters(y[r + 4], y[r + 12]);
    x[r + 8] = odd_quarters(y[r], y[r + 8]);
    x[r + 12] = odd_quarters(y[r + 4], y[r + 12]);
  }
}

// strip[l * 32 + j] = b[j * ld + l] for j < 16 and l < 16; where not whole, for j < columns and l < k alone,
// and 0 for the other j.
template <bool whole>
[[gnu::target("avx512f")]] void transpose_16(const float* b, int64_t ld, int64_t columns, int64_t k,
                                             float* strip) {
  __m512 x[16];
  load_turned<whole>(b, ld, columns, k, x);
#pragma GCC unroll 16
  for (int l = 0; l < 16; ++l)
    if (whole || l < k) _mm512_store_ps(strip + 32 * l, x[l]);
}

void transpose(const float* b, int64_t ld, int64_t columns, int64_t k, float* strip) {
  for (int64_t j = 0; j < 32; j += 16)
    for (int64_t l = 0; l < k; l += 16)
      if (j + 16 <= columns && l + 16 <= k)
        transpose_16<true>(b + j * ld + l, ld, 16, 16, strip + 32 * l + j);
      else
        transpose_16<false>(b + j * ld + l, ld, columns - j, k - l, strip + 32 * l + j);
}

template <int R>
[[gnu::target("avx512f")]] void few(const GemmTile& t) {
  for (int64_t j = 0; j < t.columns; j += 16) {
    const __mmask16 mask = first(t.columns - j);
    __m512 sum[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i)
      sum[i] = t.add ? _mm512_maskz_loadu_ps(mask, t.c + i * t.ldc + j) : _mm512_setzero_ps();
    const float *a = t.a, *b = t.b + j * t.b_stride;
    int64_t left = t.k;
    if (t.columns - j >= 16)
      for (; left >= 16; left -= 16, a += 16, b += 16) {
        __m512 x[16];
        load_turned<true>(b, t.b_stride, 16, 16, x);
#pragma GCC unroll 16
        for (int l = 0; l < 16; ++l)
#pragma GCC unroll 16
          for (int i = 0; i < R; ++i)
            sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[i * t.a_stride + l]), x[l], sum[i]);
      }
    for (; left > 0; left -= 16, b += 16) {
      alignas(64) float strip[16 * 32];
      transpose_16<false>(b, t.b_stride, t.columns - j, left, strip);
      for (int64_t l = 0; l < left && l < 16; ++l, ++a) {
        const __m512 x = _mm512_load_ps(strip + 32 * l);
#pragma GCC unroll 16
        for (int i = 0; i < R; ++i) sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[i * t.a_stride]), x, sum[i]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) _mm512_mask_storeu_ps(t.c + i * t.ldc + j, mask, sum[i]);
  }
}

// Steps [0, S) of the inner axis, added to all of C, or, where `fresh`, to zeros.
template <int R, int S, bool by_rows>
[[gnu::target("avx512f")]] inline void sweep(const GemmTile& t, const float* a, const float* b, bool fresh) {
  __m512 f[R][S];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int l = 0; l < S; ++l)
      f[i][l] = _mm512_set1_ps(a[by_rows ? i * t.a_stride + l : l * t.a_stride + i]);
  for (int64_t j = 0; j < t.columns; j += 16) {
    __m512 sum[R];
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) sum[i] = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(t.c + i * t.ldc + j);
#pragma GCC unroll 16
    for (int l = 0; l < S; ++l) {
      const __m512 x = _mm512_loadu_ps(b + l * t.b_stride + j);
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) sum[i] = _mm512_fmadd_ps(f[i][l], x, sum[i]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) _mm512_storeu_ps(t.c + i * t.ldc + j, sum[i]);
  }
}

struct Set {
  static constexpr int rows = 14, lanes = 16, sweep_rows = 4, sweep_registers = 20, few_rows = 8;
  template <int R, int V, Beside beside, bool by_rows>
  static constexpr GemmKernels::Tile tile = detail::tile<R, V, beside, by_rows>;
  template <int R, int S, bool by_rows>
  static constexpr auto sweep = detail::sweep<R, S, by_rows>;
  template <int R>
  static constexpr GemmKernels::Tile few = detail::few<R>;
  static constexpr auto transpose = detail::transpose;
};

}  // namespace

constinit const GemmKernels gemm_avx512 = gemm_kernels_of<Set>;

}  // namespace opgrad::detail
