// The register tiles of forward convolution and input gradient.
#include "depthwise_tiles.h"

#include <algorithm>

#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

// The most packs of channels that leave room for the sums of J pixels and for the weights of a run.
template <int bytes>
constexpr int packs_of(int J, int run) {
  const int registers = bytes == 64 ? 32 : 16, fitting = (registers - 2) / (J + run);
  return fitting >= 8 ? 8 : fitting >= 4 ? 4 : fitting >= 2 ? 2 : fitting;
}

// J pixels of V packs. In a run of R taps an element of x is a factor of R sums, and is loaded once.
template <class T, int N, int J, int V, int R>
[[gnu::always_inline]] inline void tile(const DepthwiseTiles<T>& a, const T* x, const T* w, T* y) {
  using P = Pack<T, N>;
  P sum[J][V];
#pragma GCC unroll 16
  for (int p = 0; p < J; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[p][v] = P(T{});
  for (Size k = 0; k < a.taps; k += R) {
    const T* from = x + a.offsets[k];
    P weight[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) weight[r][v] = P::load(w + a.weights[k + r] + v * N);
#pragma GCC unroll 16
    for (int q = 0; q < J + R - 1; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const P value = P::load(from + q * a.x_step + v * N);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
          if (q - r >= 0 && q - r < J) sum[q - r][v] = multiply_add(value, weight[r][v], sum[q - r][v]);
      }
  }
#pragma GCC unroll 16
  for (int p = 0; p < J; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[p][v].store(y + p * a.y_step + v * N);
}

// J pixels of all channels. The last pack is moved back: its first channels are computed twice.
template <class T, int bytes, int J, int R>
[[gnu::always_inline]] inline void pixels(const DepthwiseTiles<T>& a, const T* x, T* y) {
  constexpr int N = bytes / static_cast<int>(sizeof(T)), V = packs_of<bytes>(J, R);
  Size c = 0;
  for (; c + V * N <= a.channels; c += V * N) tile<T, N, J, V, R>(a, x + c, a.w + c, y + c);
  for (; c < a.channels; c += N) {
    const Size at = std::min(c, a.channels - N);
    tile<T, N, J, 1, R>(a, x + at, a.w + at, y + at);
  }
}

template <class T, int bytes, int R>
[[gnu::always_inline]] inline void rectangle(const DepthwiseTiles<T>& a) {
  constexpr int J = packs_of<bytes>(8, R) ? 8 : 4;
  for (Size r = 0; r < a.rows; ++r) {
    const T* x = a.x + (a.first + r * a.x_row);
    T* y = a.y + r * a.y_row;
    Size p = 0;
    const auto step = [&](Size n) __attribute__((always_inline)) {
      p += n;
      x += n * a.x_step;
      y += n * a.y_step;
    };
    for (; p + J <= a.columns; step(J)) pixels<T, bytes, J, R>(a, x, y);
    if constexpr (J > 4)
      for (; p + 4 <= a.columns; step(4)) pixels<T, bytes, 4, R>(a, x, y);
    for (; p + 2 <= a.columns; step(2)) pixels<T, bytes, 2, R>(a, x, y);
    if (p < a.columns) pixels<T, bytes, 1, 1>(a, x, y);
  }
}

template <class T>
struct Tiles {
  template <int bytes>
  [[gnu::always_inline]] static void run(const DepthwiseTiles<T>* given) {
    const DepthwiseTiles<T> a = *given;
    switch (a.run) {
      case 2:
        return rectangle<T, bytes, 2>(a);
      case 3:
        return rectangle<T, bytes, 3>(a);
      case 5:
        return rectangle<T, bytes, 5>(a);
      case 7:
        return rectangle<T, bytes, 7>(a);
      default:
        return rectangle<T, bytes, 1>(a);
    }
  }
};

}  // namespace

std::int64_t depthwise_lanes(std::size_t element_bytes) {
  return vector_bytes(isa()) / static_cast<Size>(element_bytes);
}

std::int64_t depthwise_run(std::int64_t taps) {
  return taps == 2 || taps == 3 || taps == 5 || taps == 7 ? taps : 1;
}

template <class T>
void depthwise_tiles(const DepthwiseTiles<T>& tiles) {
  in_vectors<Tiles<T>>(&tiles);
}

template void depthwise_tiles(const DepthwiseTiles<float>&);
template void depthwise_tiles(const DepthwiseTiles<double>&);

}  // namespace opgrad
