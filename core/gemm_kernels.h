// The innermost loops of float products: a few rows of C by one strip of columns, held in registers.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace opgrad::detail {

// What the kernels ask the second cache for while they compute: lines of 16 numbers, row after row. Rows that
// lie in pages of their own are what no processor fetches ahead by itself.
struct GemmAhead {
  static constexpr std::int64_t stretch = 8;
  const float* row = nullptr;
  std::int64_t stride = 0;   // from row to row
  std::int64_t rows = 0;     // still to come
  std::int64_t lines = 0;    // in a row
  std::int64_t line = 0;     // the next one
  std::int64_t at_once = 0;  // asked for in every `stretch` steps of the inner axis

  [[gnu::always_inline]] void fetch() {
    for (std::int64_t n = rows > 0 ? at_once : 0; n > 0; --n) {
      __builtin_prefetch(row + 16 * line, 0, 2);
      if (++line < lines) continue;
      line = 0;
      row += stride;
      if (--rows == 0) return;
    }
  }
};

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
  GemmAhead* ahead = nullptr;
};

// The kernels of one instruction set. `by_rows` and `by_columns` hold four for each number of rows up to
// `rows`, at gemm_place: for one and for two vectors of `lanes` columns, and those for two that copy and that
// fetch ahead.
struct GemmKernels {
  using Tile = void (*)(const GemmTile&);
  int rows, lanes;
  const Tile *by_rows, *by_columns;
  // For up to sweep_rows rows and any number of whole vectors: where C has no more rows, the time goes into
  // reading B, and goes fastest from one end of its rows to the other, a few rows side by side.
  int sweep_rows;
  const Tile *sweep_by_rows, *sweep_by_columns;
  // For up to few_rows rows and a B that lies transposed, element (l, j) at b[j * b_stride + l], which is
  // turned round in registers: writing it to a strip first takes longer than so few rows do. Null where there
  // are none.
  int few_rows;
  const Tile* few;
  // strip[l * 2 lanes + j] = b[j * ld + l] for j < columns <= 2 lanes and l < k; 0 for the columns beyond.
  void (*transpose)(const float* b, std::int64_t ld, std::int64_t columns, std::int64_t k, float* strip);
};

extern const GemmKernels gemm_baseline, gemm_avx2, gemm_avx512;
const GemmKernels& gemm_kernels();  // those of the instructions in use

// How many rows of B a sweep reads side by side: their numbers of A stay in `registers`, and the processor
// follows no more than 8.
constexpr int sweep_steps(int rows, int registers) { return std::min(8, registers / rows); }

// What a kernel does beside its sums.
enum class Beside { nothing, copy, fetch };

constexpr std::int64_t gemm_place(std::int64_t rows, std::int64_t vectors, Beside beside) {
  return 4 * (rows - 1) + (vectors == 1 ? 0 : 1 + static_cast<int>(beside));
}
constexpr int rows_at(std::size_t place) { return static_cast<int>(place / 4) + 1; }
constexpr int vectors_at(std::size_t place) { return place % 4 == 0 ? 1 : 2; }
constexpr Beside beside_at(std::size_t place) {
  return place % 4 == 2 ? Beside::copy : place % 4 == 3 ? Beside::fetch : Beside::nothing;
}

// The kernels of an instruction set, from a struct that names it: `tile`, a template of rows, vectors,
// copying and by rows; `sweep`, one of rows, steps and by rows, which adds these steps to C; `few`, one of
// rows; `transpose`; `rows`, `lanes`, `sweep_rows`, `sweep_registers` and `few_rows`.
template <class Set, bool by_rows, std::size_t... place>
constexpr std::array<GemmKernels::Tile, sizeof...(place)> gemm_tiles(std::index_sequence<place...>) {
  return {Set::template tile<rows_at(place), vectors_at(place), beside_at(place), by_rows>...};
}
template <class Set, int R, bool by_rows>
void gemm_sweep(const GemmTile& t) {
  constexpr int S = sweep_steps(R, Set::sweep_registers);
  const std::int64_t step = by_rows ? 1 : t.a_stride;
  const float *a = t.a, *b = t.b;
  bool fresh = !t.add;
  std::int64_t left = t.k;
  for (; left >= S; left -= S, a += S * step, b += S * t.b_stride, fresh = false)
    Set::template sweep<R, S, by_rows>(t, a, b, fresh);
  for (; left > 0; --left, a += step, b += t.b_stride, fresh = false)
    Set::template sweep<R, 1, by_rows>(t, a, b, fresh);
}
template <class Set, bool by_rows, std::size_t... row>
constexpr std::array<GemmKernels::Tile, sizeof...(row)> gemm_sweeps(std::index_sequence<row...>) {
  return {gemm_sweep<Set, static_cast<int>(row) + 1, by_rows>...};
}
template <class Set, bool by_rows>
inline constexpr auto gemm_table = gemm_tiles<Set, by_rows>(std::make_index_sequence<4 * Set::rows>());
template <class Set, bool by_rows>
inline constexpr auto sweep_table = gemm_sweeps<Set, by_rows>(std::make_index_sequence<Set::sweep_rows>());
template <class Set, std::size_t... row>
constexpr std::array<GemmKernels::Tile, sizeof...(row)> few_gemm_tiles(std::index_sequence<row...>) {
  return {Set::template few<static_cast<int>(row) + 1>...};
}
template <class Set>
inline constexpr auto few_gemm_table = few_gemm_tiles<Set>(std::make_index_sequence<Set::few_rows>());
template <class Set>
inline constexpr GemmKernels gemm_kernels_of{.rows = Set::rows,
                                             .lanes = Set::lanes,
                                             .by_rows = gemm_table<Set, true>.data(),
                                             .by_columns = gemm_table<Set, false>.data(),
                                             .sweep_rows = Set::sweep_rows,
                                             .sweep_by_rows = sweep_table<Set, true>.data(),
                                             .sweep_by_columns = sweep_table<Set, false>.data(),
                                             .few_rows = Set::few_rows,
                                             .few = few_gemm_table<Set>.data(),
                                             .transpose = Set::transpose};

}  // namespace opgrad::detail
