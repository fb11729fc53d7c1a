// Register tiles of the kernel's gradient: sums of taps, kept in registers along all pixels of a rectangle.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "depthwise_tiles.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

// 16 registers hold the sums of so many taps or runs, the deltas of four pixels and a factor. Shorter runs
// are no faster than their taps by themselves.
constexpr int most_taps = 13, most_fives = 2, most_sevens = 1;
constexpr Size piece_pixels = 32;

// Adds U pixels of V packs to the sums of M runs of R taps. An element of x is a factor of R sums, and is
// loaded once; each sum meets the pixels in order.
template <class T, int N, int M, int R, int U, int V>
[[gnu::always_inline]] inline void pixels(const Size* offset, Size x_step, Size d_step, const T* x,
                                          const T* d, Pack<T, N> (&sum)[M * R][V]) {
  using P = Pack<T, N>;
  P delta[U][V];
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) delta[u][v] = P::load(d + u * d_step + v * N);
#pragma GCC unroll 16
  for (int q = 0; q < U + R - 1; ++q)
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const P value = P::load(x + offset[m] + q * x_step + v * N);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
          if (q - r >= 0 && q - r < U)
            sum[m * R + r][v] = multiply_add(value, delta[q - r][v], sum[m * R + r][v]);
      }
}

// The sums of M runs of R taps in V packs, over some pixels of a line.
template <class T, int bytes, int M, int R, int V>
[[gnu::always_inline]] inline void tile(const DepthwiseSums<T>& a, const Size* offset, const Size* weight,
                                        const T* x, const T* d, T* sums, Size columns) {
  constexpr int N = bytes / static_cast<int>(sizeof(T)), K = M * R, U = bytes == 64 ? 8 : 4;
  using P = Pack<T, N>;
  P sum[K][V];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[k][v] = P::load(sums + weight[k] + v * N);
  Size p = 0;
  const auto step = [&](Size n) __attribute__((always_inline)) {
    p += n;
    x += n * a.x_step;
    d += n * a.d_step;
  };
  if constexpr (R > 1) {
    while (p + U <= columns) {
      pixels<T, N, M, R, U, V>(offset, a.x_step, a.d_step, x, d, sum);
      step(U);
    }
    if constexpr (U > 4) {
      while (p + 4 <= columns) {
        pixels<T, N, M, R, 4, V>(offset, a.x_step, a.d_step, x, d, sum);
        step(4);
      }
    }
  }
  while (p < columns) {
    pixels<T, N, M, R, 1, V>(offset, a.x_step, a.d_step, x, d, sum);
    step(1);
  }
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[k][v].store(sums + weight[k] + v * N);
}

// M runs of R taps, over pieces of lines that stay in cache for all channels. The last pack is moved back in
// x and d, not in sums.
template <class T, int M, int R>
struct Sums {
  template <int bytes>
  [[gnu::always_inline]] static void run(const DepthwiseSums<T>* given, Size first_tap) {
    constexpr int N = bytes / static_cast<int>(sizeof(T)), V = bytes == 64 && R == 1 ? 2 : 1;
    const DepthwiseSums<T> a = *given;
    const Size *offset_of = a.offsets + first_tap, *weight = a.weights + first_tap;
    Size offset[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) offset[m] = offset_of[m * R];
    for (Size r = 0; r < a.rows; ++r)
      for (Size p = 0, n; p < a.columns; p += n) {
        n = std::min(piece_pixels, a.columns - p);
        const T* x = a.x + (a.first + r * a.x_row + p * a.x_step);
        const T* d = a.d + (r * a.d_row + p * a.d_step);
        Size c = 0;
        for (; c + V * N <= a.channels; c += V * N)
          tile<T, bytes, M, R, V>(a, offset, weight, x + c, d + c, a.sums + c, n);
        for (; c < a.channels; c += N) {
          const Size at = std::max<Size>(0, std::min(c, a.channels - N));
          tile<T, bytes, M, R, 1>(a, offset, weight, x + at, d + at, a.sums + c, n);
        }
      }
  }
};

// Runs of R taps, at most `most` of them at once, in shares that are as equal as can be.
template <int R, int most, class T>
void add_runs(const DepthwiseSums<T>& a) {
  const Size runs = a.taps / R, tiles = (runs + most - 1) / most;
  for (Size i = 0; i < tiles; ++i) {
    const Size first = i * runs / tiles, count = (i + 1) * runs / tiles - first;
    [&]<int... m>(std::integer_sequence<int, m...>) {
      const auto with = [&]<int M>(std::integral_constant<int, M>) {
        if (count == M) in_vectors<Sums<T, M, R>, const DepthwiseSums<T>*, Size>(&a, first * R);
      };
      (with(std::integral_constant<int, m + 1>{}), ...);
    }
    (std::make_integer_sequence<int, most>{});
  }
}

}  // namespace

template <class T>
void depthwise_sums(const DepthwiseSums<T>& a) {
  switch (a.run) {
    case 5:
      return add_runs<5, most_fives>(a);
    case 7:
      return add_runs<7, most_sevens>(a);
    default:
      return add_runs<1, most_taps>(a);
  }
}

template void depthwise_sums(const DepthwiseSums<float>&);
template void depthwise_sums(const DepthwiseSums<double>&);

}  // namespace opgrad
