// The innermost loops of float products: a few rows of C by one strip of columns, held in registers.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace opgrad::detail {

// C[i, j] for i below the kernel's rows and j < columns: begins with C when `add`, else with 0, and takes in
// a[i, l] b[l, j] for l = 0 ... k - 1, in this order. b has whole strips: what lies right of `columns` is
// read and not used. a[i, l] lies at a[i * a_stride + l] in kernels by rows, at a[l * a_stride + i] in those
// by columns. Copying kernels also write the strip of b to `copy`, line after line without gaps.
struct GemmTile {
  std::int64_t k = 0;
  const float* a = nullptr;
  std::int64_t a_stride = 0;
  const float* b = nullptr;
  std::int64_t b_stride = 0;
  float* c = nullptr;
  std::int64_t ldc = 0;
  std::int64_t columns = 0;
  bool add = false;
  float* copy = nullptr;
};

// The kernels of one instruction set. `by_rows` and `by_columns` hold three for each number of rows up to
// `rows`, at gemm_place: for one and for two vectors of `lanes` columns, and the copying one for two.
struct GemmKernels {
  using Tile = void (*)(const GemmTile&);
  int rows, lanes;
  const Tile *by_rows, *by_columns;
  // For up to wide_rows rows and wide_vectors vectors, none of them partly used: where C has no more rows,
  // the time goes into reading B, which long pieces of its rows make faster.
  int wide_rows;
  const Tile *wide_by_rows, *wide_by_columns;
  // strip[l * 2 lanes + j] = b[j * ld + l] for j < columns <= 2 lanes and l < k; 0 for the columns beyond.
  void (*transpose)(const float* b, std::int64_t ld, std::int64_t columns, std::int64_t k, float* strip);
};

inline constexpr int wide_vectors = 8;
extern const GemmKernels gemm_baseline, gemm_avx2, gemm_avx512;

constexpr std::int64_t gemm_place(std::int64_t rows, std::int64_t vectors, bool copies) {
  return 3 * (rows - 1) + (copies ? 2 : vectors - 1);
}
constexpr int rows_at(std::size_t place) { return static_cast<int>(place / 3) + 1; }
constexpr int vectors_at(std::size_t place) { return place % 3 == 0 ? 1 : 2; }
constexpr bool copies_at(std::size_t place) { return place % 3 == 2; }

// The kernels of an instruction set, from a struct that names it: `tile`, a template of rows, vectors,
// copying and by rows; `transpose`; `rows`, `lanes` and `wide_rows`.
template <class Set, bool by_rows, std::size_t... place>
constexpr std::array<GemmKernels::Tile, sizeof...(place)> gemm_tiles(std::index_sequence<place...>) {
  return {Set::template tile<rows_at(place), vectors_at(place), copies_at(place), by_rows>...};
}
template <class Set, bool by_rows, std::size_t... row>
constexpr std::array<GemmKernels::Tile, sizeof...(row)> wide_gemm_tiles(std::index_sequence<row...>) {
  return {Set::template tile<static_cast<int>(row) + 1, wide_vectors, false, by_rows>...};
}
template <class Set, bool by_rows>
inline constexpr auto gemm_table = gemm_tiles<Set, by_rows>(std::make_index_sequence<3 * Set::rows>());
template <class Set, bool by_rows>
inline constexpr auto wide_gemm_table =
    wide_gemm_tiles<Set, by_rows>(std::make_index_sequence<Set::wide_rows>());
template <class Set>
inline constexpr GemmKernels gemm_kernels_of{.rows = Set::rows,
                                             .lanes = Set::lanes,
                                             .by_rows = gemm_table<Set, true>.data(),
                                             .by_columns = gemm_table<Set, false>.data(),
                                             .wide_rows = Set::wide_rows,
                                             .wide_by_rows = wide_gemm_table<Set, true>.data(),
                                             .wide_by_columns = wide_gemm_table<Set, false>.data(),
                                             .transpose = Set::transpose};

}  // namespace opgrad::detail
