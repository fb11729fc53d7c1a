// Register tiles for few channels: vectors go along the line, over pixels and channels, and meet weights that
// repeat from pixel to pixel.
#include <algorithm>

#include "../core/scratch.h"
#include "conv2d_boxes.h"
#include "depthwise_tiles.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

// J packs from element `at` of a line on. weights[k] are those of tap k, repeated.
template <class T, int N, int J>
[[gnu::always_inline]] inline void tile(const DepthwiseTiles<T>& a, const T* x, const T* weights, Size width,
                                        Size at, T* y) {
  using P = Pack<T, N>;
  P sum[J];
  Size phase[J];
#pragma GCC unroll 4
  for (int j = 0; j < J; ++j) {
    sum[j] = P(T{});
    phase[j] = (at + j * N) % a.channels;
  }
  for (Size k = 0; k < a.taps; ++k) {
    const T *from = x + (a.offsets[k] + at), *w = weights + k * width;
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) sum[j] = multiply_add(P::load(from + j * N), P::load(w + phase[j]), sum[j]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < J; ++j) sum[j].store(y + at + j * N);
}

// What is left where a line does not fill a pack.
template <class T, int N>
[[gnu::always_inline]] inline void part(const DepthwiseTiles<T>& a, const T* x, const T* weights, Size width,
                                        Size count, T* y) {
  using P = Pack<T, N>;
  P sum = T{};
  T all[N] = {};
  for (Size k = 0; k < a.taps; ++k) {
    for (Size i = 0; i < count; ++i) all[i] = x[a.offsets[k] + i];
    sum = multiply_add(P::load(all), P::load(weights + k * width), sum);
  }
  sum.store(all);
  for (Size i = 0; i < count; ++i) y[i] = all[i];
}

template <class T>
struct Lines {
  template <int bytes>
  [[gnu::always_inline]] static void run(const DepthwiseTiles<T>* given, const T* weights, Size width) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    const DepthwiseTiles<T> a = *given;
    const Size count = a.columns * a.channels;
    for (Size r = 0; r < a.rows; ++r) {
      const T* x = a.x + (a.first + r * a.x_row);
      T* y = a.y + r * a.y_row;
      Size at = 0;
      for (; at + 4 * N <= count; at += 4 * N) tile<T, N, 4>(a, x, weights, width, at, y);
      for (; at + N <= count; at += N) tile<T, N, 1>(a, x, weights, width, at, y);
      if (at == count) continue;
      if (count >= N)
        tile<T, N, 1>(a, x, weights, width, count - N, y);
      else
        part<T, N>(a, x, weights, width, count, y);
    }
  }
};

}  // namespace

template <class T>
void depthwise_lines(const DepthwiseTiles<T>& a) {
  const Size width = a.channels + 64 / static_cast<Size>(sizeof(T));
  const Scratch<T> weights(a.taps * width);
  for (Size k = 0; k < a.taps; ++k)
    for (Size i = 0; i < width; ++i) weights[k * width + i] = a.w[a.weights[k] + i % a.channels];
  in_vectors<Lines<T>, const DepthwiseTiles<T>*, const T*, Size>(&a, weights.data(), width);
}

template void depthwise_lines(const DepthwiseTiles<float>&);
template void depthwise_lines(const DepthwiseTiles<double>&);

}  // namespace opgrad
