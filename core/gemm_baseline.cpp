// The kernels of float products for any processor: up to 6 rows by 2 vectors of 4 columns. There is no fused
// multiply-add, so products are rounded before they are added.
#include <array>
#include <cstring>
#include <utility>

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

template <int R, int V, bool copies, bool by_rows>
void tile(const GemmTile& t) {
  Four sum[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) sum[i][j] = t.add ? load(t.c + i * t.ldc + 4 * j, t.columns - 4 * j) : Four{};
  const float *a = t.a, *b = t.b;
  [[maybe_unused]] float* copy = t.copy;
  const int64_t row = by_rows ? t.a_stride : 1, step = by_rows ? 1 : t.a_stride;
  for (int64_t l = t.k; l > 0; --l, a += step, b += t.b_stride) {
    Four x[V];
#pragma GCC unroll 16
    for (int j = 0; j < V; ++j) std::memcpy(&x[j], b + 4 * j, sizeof(Four));
    if constexpr (copies) {
      std::memcpy(copy, x, sizeof x);
      copy += 4 * V;
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const float f = a[i * row];
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) sum[i][j] = sum[i][j] + Four{f, f, f, f} * x[j];
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

template <bool by_rows, std::size_t... i>
constexpr std::array<GemmKernels::Tile, sizeof...(i)> table(std::index_sequence<i...>) {
  return {tile<rows_at(i), vectors_at(i), copies_at(i), by_rows>...};
}
template <bool by_rows, std::size_t... i>
constexpr std::array<GemmKernels::Tile, sizeof...(i)> wide_table(std::index_sequence<i...>) {
  return {tile<static_cast<int>(i) + 1, wide_vectors, false, by_rows>...};
}
constexpr int most_rows = 6;
constexpr auto rows_table = table<true>(std::make_index_sequence<3 * most_rows>());
constexpr auto columns_table = table<false>(std::make_index_sequence<3 * most_rows>());

constexpr int wide_rows = 1;
constexpr auto wide_rows_table = wide_table<true>(std::make_index_sequence<wide_rows>());
constexpr auto wide_columns_table = wide_table<false>(std::make_index_sequence<wide_rows>());

}  // namespace

constinit const GemmKernels gemm_baseline{.rows = most_rows,
                                          .lanes = 4,
                                          .by_rows = rows_table.data(),
                                          .by_columns = columns_table.data(),
                                          .wide_rows = wide_rows,
                                          .wide_by_rows = wide_rows_table.data(),
                                          .wide_by_columns = wide_columns_table.data(),
                                          .transpose = transpose};

}  // namespace opgrad::detail
