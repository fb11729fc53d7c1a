// The kernels of float products for AVX-512: up to 14 rows by 2 vectors of 16 columns.
#include <immintrin.h>

#include "gemm_kernels.h"

namespace opgrad::detail {
namespace {

using std::int64_t;

// The first n of 16 lanes.
[[gnu::target("avx512f")]] inline __mmask16 first(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

template <int R, int V, bool copies, bool by_rows>
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
  for (int64_t l = t.k; l > 0; --l, b += t.b_stride) {
    __m512 x[V];
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) x[j] = _mm512_loadu_ps(b + 16 * j);
    if constexpr (copies) {
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

// Four numbers of column j of b, from l on; where not whole, 0 in place of those that are not there.
template <bool whole>
[[gnu::target("avx512f,avx512vl"), gnu::always_inline]] inline __m128 four(const float* b, int64_t ld,
                                                                           int64_t j, int64_t l,
                                                                           int64_t columns, int64_t k) {
  if (whole) return _mm_loadu_ps(b + j * ld + l);
  return j < columns ? _mm_maskz_loadu_ps(static_cast<__mmask8>(first(k - l)), b + j * ld + l)
                     : _mm_setzero_ps();
}

// strip[l * 32 + j] = b[j * ld + l] for j < 16 and l < 16; where not whole, for j < columns and l < k alone,
// and 0 for the other j.
template <bool whole>
[[gnu::target("avx512f,avx512vl")]] void transpose_16(const float* b, int64_t ld, int64_t columns, int64_t k,
                                                      float* strip) {
#pragma GCC unroll 4
  for (int l = 0; l < 16; l += 4) {
    if (!whole && l >= k) return;
    // Quarter t of x[j] is four numbers of column 4 t + j; then 4 by 4 numbers change places in each quarter.
    __m512 x[4], y[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      x[j] = _mm512_zextps128_ps512(four<whole>(b, ld, j, l, columns, k));
      x[j] = _mm512_mask_broadcast_f32x4(x[j], 0x00f0, four<whole>(b, ld, j + 4, l, columns, k));
      x[j] = _mm512_mask_broadcast_f32x4(x[j], 0x0f00, four<whole>(b, ld, j + 8, l, columns, k));
      x[j] = _mm512_mask_broadcast_f32x4(x[j], 0xf000, four<whole>(b, ld, j + 12, l, columns, k));
    }
    // The forms without a mask make GCC 12 warn of what is not initialized in its own header.
    constexpr __mmask16 all = 0xffff;
    y[0] = _mm512_maskz_unpacklo_ps(all, x[0], x[1]);
    y[1] = _mm512_maskz_unpackhi_ps(all, x[0], x[1]);
    y[2] = _mm512_maskz_unpacklo_ps(all, x[2], x[3]);
    y[3] = _mm512_maskz_unpackhi_ps(all, x[2], x[3]);
    x[0] = _mm512_maskz_shuffle_ps(all, y[0], y[2], 0x44);
    x[1] = _mm512_maskz_shuffle_ps(all, y[0], y[2], 0xee);
    x[2] = _mm512_maskz_shuffle_ps(all, y[1], y[3], 0x44);
    x[3] = _mm512_maskz_shuffle_ps(all, y[1], y[3], 0xee);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r)
      if (whole || l + r < k) _mm512_store_ps(strip + 32 * (l + r), x[r]);
  }
}

void transpose(const float* b, int64_t ld, int64_t columns, int64_t k, float* strip) {
  for (int64_t j = 0; j < 32; j += 16)
    for (int64_t l = 0; l < k; l += 16)
      if (j + 16 <= columns && l + 16 <= k)
        transpose_16<true>(b + j * ld + l, ld, 16, 16, strip + 32 * l + j);
      else
        transpose_16<false>(b + j * ld + l, ld, columns - j, k - l, strip + 32 * l + j);
}

struct Set {
  static constexpr int rows = 14, lanes = 16, wide_rows = 2;
  template <int R, int V, bool copies, bool by_rows>
  static constexpr GemmKernels::Tile tile = detail::tile<R, V, copies, by_rows>;
  static constexpr auto transpose = detail::transpose;
};

}  // namespace

constinit const GemmKernels gemm_avx512 = gemm_kernels_of<Set>;

}  // namespace opgrad::detail
