// Products of columns with rows: stores that bypass the caches where the result is large.
#include "outer_product.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>

#include "../core/parallel.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

// Results beyond this are not found in a cache again, and rows below that are not worth the start.
constexpr Size large_bytes = Size{8} << 20, long_row_bytes = 256;
constexpr Size chunk_elements = 1 << 16;

template <class T>
struct Row {
  template <int bytes>
  [[gnu::always_inline]] static void run(T factor, const T* row, T* y, Size n) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    Size j = 0;
    for (; j + N <= n; j += N) (kernel::Pack<T, N>::load(row + j) * factor + 0).store(y + j);
    for (; j < n; ++j) y[j] = row[j] * factor + 0;
  }
};

#if defined(__SSE2__)
inline void store_past_caches(float* y, const float* row, float factor) {
  _mm_stream_ps(y, _mm_add_ps(_mm_mul_ps(_mm_loadu_ps(row), _mm_set1_ps(factor)), _mm_setzero_ps()));
}
inline void store_past_caches(double* y, const double* row, double factor) {
  _mm_stream_pd(y, _mm_add_pd(_mm_mul_pd(_mm_loadu_pd(row), _mm_set1_pd(factor)), _mm_setzero_pd()));
}

// y is aligned to T alone: what lies before and after whole vectors is stored as usual.
template <class T>
void write_past_caches(T factor, const T* row, T* y, Size n) {
  constexpr Size N = 16 / static_cast<Size>(sizeof(T));
  Size j = 0;
  for (; j < n && reinterpret_cast<std::uintptr_t>(y + j) % 16 != 0; ++j) y[j] = row[j] * factor + 0;
  for (; j + N <= n; j += N) store_past_caches(y + j, row + j, factor);
  for (; j < n; ++j) y[j] = row[j] * factor + 0;
}
void finish_writes() { _mm_sfence(); }
#else
template <class T>
void write_past_caches(T factor, const T* row, T* y, Size n) {
  in_vectors<Row<T>>(factor, row, y, n);
}
void finish_writes() {}
#endif

}  // namespace

template <class T>
void outer_products(const OuterProducts<T>& o, T* y, const Finished* finished) {
  const Size rows = o.count * o.rows, n = o.columns;
  const auto bytes = [](Size elements) { return elements * static_cast<Size>(sizeof(T)); };
  const bool past_caches = bytes(rows * n) >= large_bytes && bytes(n) >= long_row_bytes;
  parallel_ranges(rows, std::max<Size>(1, chunk_elements / std::max<Size>(1, n)), [&](Size first, Size end) {
    for (Size r = first; r < end; ++r) {
      const Size pair = r / o.rows, i = r % o.rows;
      const T factor = o.a[pair * o.a_stride + i * o.a_step];
      const T* const row = o.b + pair * o.b_stride;
      if (past_caches)
        write_past_caches(factor, row, y + r * n, n);
      else
        in_vectors<Row<T>>(factor, row, y + r * n, n);
    }
    if (past_caches) finish_writes();
    if (finished && n > 0) (*finished)(first * n, end * n);
  });
}

template void outer_products(const OuterProducts<float>&, float*, const Finished*);
template void outer_products(const OuterProducts<double>&, double*, const Finished*);

}  // namespace opgrad
