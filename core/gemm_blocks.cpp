// Float products: cut into blocks of C by shape, each block computed strip by strip with the kernels.
#include "gemm_blocks.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "error.h"
#include "gemm_kernels.h"
#include "isa.h"
#include "parallel.h"

namespace opgrad::detail {

const GemmKernels& gemm_kernels() {
  switch (isa()) {
    case Isa::avx512:
      return gemm_avx512;
    case Isa::avx2:
      return gemm_avx2;
    case Isa::baseline:
      break;
  }
  return gemm_baseline;
}

namespace {

using std::int64_t;

// A strip of B this deep fits into the first cache, beside the rows of A that meet it.
constexpr int64_t most_depth = 384, widest_strip = 32;
// Where no strip is made, rows of A this long do.
constexpr int64_t most_depth_turned = 1024;
// So many numbers of B stay in the second cache while one block of rows after another reads them.
constexpr int64_t most_kept = 256 << 10;
// Groups of blocks that are reported together.
constexpr std::size_t most_counters = 64;

int64_t pieces(int64_t n, int64_t most) { return (n + most - 1) / most; }

// So few rows meet a transposed B while it is turned round in registers.
bool turns_in_registers(int64_t rows, bool a_transposed, bool b_transposed) {
  return b_transposed && !a_transposed && rows <= gemm_kernels().few_rows;
}

// strip[l * width + j] = b[l * ld + j] for j < columns <= width; 0 beyond.
void copy_strip(const float* b, int64_t ld, int64_t columns, int64_t k, int64_t width, float* strip) {
  for (int64_t l = 0; l < k; ++l, b += ld, strip += width) {
    std::memcpy(strip, b, static_cast<std::size_t>(columns) * sizeof(float));
    std::fill(strip + columns, strip + width, 0.0F);
  }
}

// Where depth d of several begins: at whole vectors of a B that lies transposed.
int64_t depth_at(int64_t k, int64_t d, int64_t depths) {
  return std::min(k, d * (pieces(pieces(k, depths), 16) * 16));
}

// The part of B in l0 <= l < l1 and columns [j0, j1), asked for in so many steps of the inner axis.
GemmAhead part_ahead(const Matrix<float>& b, int64_t l0, int64_t l1, int64_t j0, int64_t j1, int64_t steps) {
  GemmAhead ahead;
  ahead.row = b.data + (b.transposed ? j0 * b.ld + l0 : l0 * b.ld + j0);
  ahead.stride = b.ld;
  ahead.rows = b.transposed ? j1 - j0 : l1 - l0;
  ahead.lines = pieces(b.transposed ? l1 - l0 : j1 - j0, 16);
  ahead.at_once = pieces(ahead.rows * ahead.lines, std::max<int64_t>(1, steps / GemmAhead::stretch));
  return ahead;
}

// Steps of the inner axis from l0 on at which `width` columns of a dense B from j on can be read, the last
// ones beyond the row's end: at all but the last rows of B they are its next row's.
int64_t readable_steps(const FloatProduct& p, int64_t l0, int64_t l1, int64_t j, int64_t width) {
  if (p.b.transposed || p.b.ld != p.n) return 0;
  return std::clamp<int64_t>(p.k - pieces(std::max<int64_t>(0, j + width - p.n), p.n), l0, l1) - l0;
}

// All steps but the last ones read B where it lies, those a copy.
void run_narrow(GemmTile t, GemmKernels::Tile kernel, int64_t steps, int64_t a_step, int64_t width) {
  const int64_t rest = t.k - steps;
  t.k = steps;
  kernel(t);
  if (rest == 0) return;
  copy_strip(t.b + steps * t.b_stride, t.b_stride, t.columns, rest, width, t.copy);
  t.k = rest;
  t.a += steps * a_step;
  t.b = t.copy;
  t.b_stride = width;
  t.add = true;
  kernel(t);
}

void fill_zeros(const FloatProduct& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  for (int64_t i = i0; i < i1; ++i) std::fill(p.c + i * p.ldc + j0, p.c + i * p.ldc + j1, 0.0F);
}

// The part of C in rows [i0, i1), which are few, and in as many columns from j0 on as are whole vectors.
// Returns the first column behind them.
int64_t sweep(const FloatProduct& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  const GemmKernels& g = gemm_kernels();
  const int64_t columns = (j1 - j0) / g.lanes * g.lanes;
  if (i1 - i0 > g.sweep_rows || p.b.transposed || columns == 0 || p.k == 0) return j0;
  const GemmTile t{.k = p.k,
                   .a = p.a.data + i0 * (p.a.transposed ? 1 : p.a.ld),
                   .a_stride = p.a.ld,
                   .b = p.b.data + j0,
                   .b_stride = p.b.ld,
                   .c = p.c + i0 * p.ldc + j0,
                   .ldc = p.ldc,
                   .columns = columns,
                   .add = p.add};
  (p.a.transposed ? g.sweep_by_columns : g.sweep_by_rows)[i1 - i0 - 1](t);
  return j0 + columns;
}

// The part of C in rows [i0, i1) and columns [j0, j1). Strip after strip of B, each copied while the first
// rows meet it, so that the others find it in the first cache.
void run_block(const FloatProduct& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  if (p.k == 0 && !p.add) fill_zeros(p, i0, i1, j0, j1);
  j0 = sweep(p, i0, i1, j0, j1);
  if (j0 == j1) return;
  const GemmKernels& g = gemm_kernels();
  alignas(64) float strips[most_depth * widest_strip];
  // Rows at a distance of 4096 bytes meet in one place of the first cache, which has room for 8 and more.
  const bool meet = !p.a.transposed && p.a.ld % 1024 == 0;
  const int64_t width = 2 * g.lanes, panels = pieces(i1 - i0, meet ? std::min(g.rows, 8) : g.rows);
  const int64_t least = (i1 - i0) / panels, more = (i1 - i0) % panels;
  const GemmKernels::Tile* const table = p.a.transposed ? g.by_columns : g.by_rows;
  const int64_t a_row = p.a.transposed ? 1 : p.a.ld, a_step = p.a.transposed ? p.a.ld : 1;
  const int64_t b_row = p.b.transposed ? 1 : p.b.ld, b_column = p.b.transposed ? p.b.ld : 1;
  const bool turned = turns_in_registers(i1 - i0, p.a.transposed, p.b.transposed);
  const bool all_in_place = reads_in_place(i1 - i0, p.a.transposed, p.b.transposed);
  const int64_t depths = pieces(p.k, turned ? most_depth_turned : most_depth);
  const bool kept = p.m > 2 * (i1 - i0) && p.k * p.n <= most_kept;
  GemmAhead ahead;
  for (int64_t d = 0; d < depths; ++d) {
    const int64_t l0 = depth_at(p.k, d, depths), l1 = depth_at(p.k, d + 1, depths), depth = l1 - l0;
    GemmTile t{.k = depth, .a_stride = p.a.ld, .ldc = p.ldc, .add = p.add || d > 0, .ahead = &ahead};
    const int64_t group = all_in_place ? j1 - j0 : most_depth * widest_strip / (depth * width) * width;
    for (int64_t first = j0; first < j1; first += group) {
      const int64_t end = std::min(j1, first + group);
      // While one group is computed, the next is fetched: of this depth, or the first of the depth below.
      if (!all_in_place && !kept) {
        const int64_t steps = (panels > 1 ? panels - 1 : 1) * pieces(end - first, width) * depth;
        if (end < j1)
          ahead = part_ahead(p.b, l0, l1, end, std::min(j1, end + group), steps);
        else
          ahead = part_ahead(p.b, l1, depth_at(p.k, std::min(d + 2, depths), depths), j0,
                             std::min(j1, j0 + group), steps);
      }
      for (int64_t r = 0, i = i0, rows = 0; r < panels; ++r, i += rows) {
        rows = least + (r < more ? 1 : 0);
        t.a = p.a.data + i * a_row + l0 * a_step;
        int64_t j = first;
        for (; j < end; j += width) {
          t.columns = std::min(width, end - j);
          t.c = p.c + i * p.ldc + j;
          t.b = p.b.data + l0 * b_row + j * b_column;
          t.b_stride = p.b.ld;
          if (turned) {
            g.few[rows - 1](t);
            continue;
          }
          t.copy = all_in_place ? strips : strips + (j - first) * depth;
          const bool fresh = r == 0 || all_in_place;
          const bool in_place = fresh && !p.b.transposed && t.columns == width;
          const int64_t vectors = t.columns > g.lanes ? 2 : 1;
          // A copy of a narrow B takes longer than a few rows do, which read it as it lies while they can.
          const int64_t steps =
              all_in_place && !in_place ? readable_steps(p, l0, l1, j, vectors * g.lanes) : 0;
          if (steps > 0) {
            run_narrow(t, table[gemm_place(rows, vectors, Beside::nothing)], steps, a_step, width);
            continue;
          }
          if (!in_place) {
            if (fresh && p.b.transposed) g.transpose(t.b, p.b.ld, t.columns, depth, t.copy);
            if (fresh && !p.b.transposed) copy_strip(t.b, p.b.ld, t.columns, depth, width, t.copy);
            t.b = t.copy;
            t.b_stride = width;
          }
          const Beside beside = in_place && !all_in_place ? Beside::copy
                                : ahead.at_once > 0       ? Beside::fetch
                                                          : Beside::nothing;
          table[gemm_place(rows, vectors, beside)](t);
        }
      }
    }
  }
}

// Whole rows at once, else the piece of each row.
void report(const Finished& finished, int64_t n, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  if (j1 - j0 == n) return finished(i0 * n, i1 * n);
  for (int64_t i = i0; i < i1; ++i) finished(i * n + j0, i * n + j1);
}

// A product with a column is one of a row.
FloatProduct as_row(const FloatProduct& p) {
  if (p.n != 1 || p.m == 1 || p.ldc != 1) return p;
  const bool column = !p.b.transposed && p.b.ld != 1;
  return {1, p.m, p.k, {p.b.data, p.b.ld, column}, {p.a.data, p.a.ld, !p.a.transposed}, p.c, p.m, p.add};
}

// About an eighth of n columns, at most 256, such that there is an even number of equal pieces if possible:
// rows of A that come into the second cache then meet more than a strip or two.
int64_t wide_columns(int64_t n, int64_t least) {
  const int64_t most = std::max(least, std::clamp<int64_t>(n / 256 * 32, 32, 256));
  for (int64_t columns = most; columns >= std::max(least, most / 2); columns -= 32)
    if (n % (2 * columns) == 0) return columns;
  return most;
}

}  // namespace

// Few rows read B once or a few times, which does not repay a copy.
bool reads_in_place(int64_t rows, bool a_transposed, bool b_transposed) {
  return b_transposed ? turns_in_registers(rows, a_transposed, b_transposed) : rows <= 42;
}

GemmCut cut_of(int64_t m, int64_t n, int64_t k) {
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  if (work <= 64. * 64 * 64) return {m, n, 1};
  const auto tasks = static_cast<int64_t>(std::clamp(work / (1 << 19), 2., 16.));
  if (n <= 64) return {std::clamp<int64_t>(pieces(m, tasks), 14, 512), n, 1};
  const int64_t down = pieces(m, 320), across = pieces(tasks, down);
  int64_t columns = std::clamp<int64_t>(pieces(n, across * 32) * 32, m <= 14 ? 128 : 32, 256);
  // Few rows only read B: the longer the pieces of its rows, the faster. No bit depends on it.
  if (m <= gemm_kernels().sweep_rows)
    columns = std::clamp<int64_t>(pieces(n, 32 * (runs_alone() ? 1 : threads())) * 32, 256, 1024);
  if (m > 42 && down <= 2) columns = wide_columns(n, columns);
  return {pieces(m, down), columns, columns < n ? pieces(256, columns) : 1};
}

// Who is told of pieces does something with them while they are in cache. Where there are rows enough, pieces
// are whole rows, since parts of rows 4096 bytes apart would drive one another out: of at most 192 KiB, where
// all of B stays in the second cache while it is read for every 42 rows; else the blocks of 160 rows are
// reported together.
GemmCut cut_in_rows(const FloatProduct& p) {
  constexpr int64_t most_rows = 42, fewest_blocks = 8, elements = 48 << 10, together = 160;
  const int64_t rows = std::clamp<int64_t>(elements / p.n / 14 * 14, 14, most_rows);
  if (!p.b.transposed && p.m >= fewest_blocks * rows && p.k * p.n <= most_kept) return {rows, p.n, 1};
  GemmCut cut = cut_of(p.m, p.n, p.k);
  if (pieces(p.m, together) > static_cast<int64_t>(most_counters)) return cut;
  cut.rows = std::min(cut.rows, together);
  cut.together = pieces(p.n, cut.columns);
  return cut;
}

void multiply(const FloatProduct& product) {
  const FloatProduct p = as_row(product);
  const GemmCut cut = cut_of(p.m, p.n, p.k);
  for (int64_t i = 0; i < p.m; i += cut.rows) run_block(p, i, std::min(p.m, i + cut.rows), 0, p.n);
}

void multiply_parallel(const FloatProduct& product, const Finished* finished) {
  const FloatProduct p = as_row(product);
  const GemmCut cut = finished ? cut_in_rows(p) : cut_of(p.m, p.n, p.k);
  const int64_t across = pieces(p.n, cut.columns), down = pieces(p.m, cut.rows);
  const int64_t groups = pieces(across, cut.together);
  // How many blocks of a group are computed; the thread that computes the last one reports them all.
  std::array<std::atomic<int>, most_counters> computed{};
  internal_check(cut.together == 1 || groups * down <= static_cast<int64_t>(most_counters),
                 "more groups of blocks than counters");
  parallel_for(across * down, [&](int64_t t) {
    const int64_t i0 = t / across * cut.rows, i1 = std::min(p.m, i0 + cut.rows);
    const int64_t block = t % across, j0 = block * cut.columns, j1 = std::min(p.n, j0 + cut.columns);
    run_block(p, i0, i1, j0, j1);
    if (!finished) return;
    if (cut.together == 1) return report(*finished, p.n, i0, i1, j0, j1);
    const int64_t group = block / cut.together, first = group * cut.together;
    const int64_t end = std::min(across, first + cut.together);
    auto& count = computed[static_cast<std::size_t>(t / across * groups + group)];
    if (count.fetch_add(1, std::memory_order_acq_rel) + 1 == end - first)
      report(*finished, p.n, i0, i1, first * cut.columns, std::min(p.n, end * cut.columns));
  });
}

}  // namespace opgrad::detail
