// The products for short patches: tiles of pixels or taps by channels, summed in registers.
#include "conv2d_small.h"

#include <algorithm>
#include <cstring>

#include "../core/parallel.h"
#include "conv2d_panels.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

// Patches of `depth` elements: element k of pixel p of a line lies at x + p*step + offset[k].
struct Patches {
  Size depth, step;
  std::array<Size, small_depth> offset;
};

bool has_padding(const ConvSizes& s) {
  for (const int axis : {0, 1}) {
    const Size size = axis ? s.columns : s.rows, before = axis ? s.left : s.top;
    const Size taps = axis ? s.kernel_columns : s.kernel_rows, outputs = axis ? s.out_columns : s.out_rows;
    const auto a = static_cast<std::size_t>(axis);
    if (before > 0 || (outputs - 1) * s.strides[a] + (taps - 1) * s.dilations[a] >= size) return true;
  }
  return false;
}

Patches patches_in_place(const ConvSizes& s) {
  Patches p{s.depth(), s.strides[1] * s.in, {}};
  std::size_t k = 0;
  for (Size m = 0; m < s.kernel_rows; ++m)
    for (Size n = 0; n < s.kernel_columns; ++n)
      for (Size c = 0; c < s.in; ++c)
        p.offset[k++] = (m * s.dilations[0] * s.columns + n * s.dilations[1]) * s.in + c;
  return p;
}
Patches patches_in_panel(const ConvSizes& s) {
  Patches p{s.depth(), s.depth(), {}};
  for (Size k = 0; k < s.depth(); ++k) p.offset[static_cast<std::size_t>(k)] = k;
  return p;
}

// Calls use(patches, x, first, n) for the pixels [first, first + n) of pieces of lines; reads x in place
// unless there is padding, then from an unfolded piece of a line.
template <class T, class Use>
void for_each_line(const ConvSizes& s, const T* x, Size first, Size end, Use use) {
  const bool in_place = !has_padding(s);
  const Patches patches = in_place ? patches_in_place(s) : patches_in_panel(s);
  constexpr Size piece = 256;
  for (Size line = first; line < end; ++line) {
    const Size b = line / s.out_rows, i = line % s.out_rows, pixel = line * s.out_columns;
    for (Size j = 0; j < s.out_columns; j += piece) {
      const Size n = std::min(piece, s.out_columns - j);
      if (in_place) {
        use(patches, x + ((b * s.rows + i * s.strides[0]) * s.columns + j * s.strides[1]) * s.in, pixel + j,
            n);
      } else {
        T* panel = thread_buffer<0, T>(piece * small_depth);
        unfold(s, {pixel + j, pixel + j + n, 0, s.kernel_rows}, x, panel);
        use(patches, panel, pixel + j, n);
      }
    }
  }
}

// Lines of a chunk: some 64 KiB of y.
Size line_grain(const ConvSizes& s) {
  return std::max<Size>(1, 16384 / std::max<Size>(1, s.out_columns * s.out));
}

// A pack of which only the first n elements are there; none where n is not positive.
template <int N, class T>
[[gnu::always_inline]] inline Pack<T, N> load(const T* from, Size n) {
  if (n >= N) return Pack<T, N>::load(from);
  Pack<T, N> part = T{};
  std::memcpy(&part.v, from, static_cast<std::size_t>(n) * sizeof(T));
  return part;
}
template <int N, class T>
[[gnu::always_inline]] inline void store(const Pack<T, N>& pack, T* to, Size n) {
  if (n >= N)
    pack.store(to);
  else if (n > 0)
    std::memcpy(to, &pack.v, static_cast<std::size_t>(n) * sizeof(T));
}

// y[p, :] = sum over k of patch[p, k] w[k, :]; w's rows are `width` apart, a multiple of all packs and zero
// beyond `out`. Six pixels by two packs of channels are summed in registers.
template <class T>
struct SmallForward {
  template <int bytes, int pixels, int packs>
  [[gnu::always_inline]] static void tile(const Patches& a, const T* x, const T* w, Size width, T* y,
                                          Size out, Size channels) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    Pack<T, N> sum[pixels][packs];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) sum[p][v] = Pack<T, N>(T{});
    for (Size k = 0; k < a.depth; ++k) {
      const T* from = x + a.offset[static_cast<std::size_t>(k)];
      Pack<T, N> weight[packs];
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) weight[v] = Pack<T, N>::load(w + k * width + v * N);
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) {
        const Pack<T, N> value = from[p * a.step];
#pragma GCC unroll 2
        for (int v = 0; v < packs; ++v) sum[p][v] = sum[p][v] + value * weight[v];
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) store<N>(sum[p][v], y + p * out + v * N, channels - v * N);
  }
  template <int bytes, int packs>
  [[gnu::always_inline]] static void strip(const Patches& a, const T* x, Size n, const T* w, Size width, T* y,
                                           Size out, Size channels) {
    Size p = 0;
    for (; p + 6 <= n; p += 6) tile<bytes, 6, packs>(a, x + p * a.step, w, width, y + p * out, out, channels);
    for (; p < n; ++p) tile<bytes, 1, packs>(a, x + p * a.step, w, width, y + p * out, out, channels);
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const Patches* a, const T* x, Size n, const T* w, Size width, T* y,
                                         Size out) {
    constexpr Size N = bytes / static_cast<Size>(sizeof(T));
    for (Size o = 0; o < out; o += 2 * N)
      if (out - o > N)
        strip<bytes, 2>(*a, x, n, w + o, width, y + o, out, out - o);
      else
        strip<bytes, 1>(*a, x, n, w + o, width, y + o, out, out - o);
  }
};

// w[k, :] += sum over p of patch[p, k] delta[p, :], three taps by two packs of channels in registers.
template <class T>
struct SmallKernelGradient {
  template <int bytes, int taps, int packs>
  [[gnu::always_inline]] static void tile(const Size* offset, Size step, const T* x, Size n, const T* delta,
                                          Size out, T* w, Size channels) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    Pack<T, N> sum[taps][packs];
#pragma GCC unroll 4
    for (int k = 0; k < taps; ++k)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) sum[k][v] = load<N>(w + k * out + v * N, channels - v * N);
    for (Size p = 0; p < n; ++p) {
      Pack<T, N> d[packs];
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) d[v] = load<N>(delta + p * out + v * N, channels - v * N);
#pragma GCC unroll 4
      for (int k = 0; k < taps; ++k) {
        const Pack<T, N> value = x[p * step + offset[k]];
#pragma GCC unroll 2
        for (int v = 0; v < packs; ++v) sum[k][v] = sum[k][v] + value * d[v];
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < taps; ++k)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) store<N>(sum[k][v], w + k * out + v * N, channels - v * N);
  }
  template <int bytes, int packs>
  [[gnu::always_inline]] static void strip(const Patches& a, const T* x, Size n, const T* delta, Size out,
                                           T* w, Size channels) {
    Size k = 0;
    for (; k + 3 <= a.depth; k += 3)
      tile<bytes, 3, packs>(&a.offset[static_cast<std::size_t>(k)], a.step, x, n, delta, out, w + k * out,
                            channels);
    for (; k < a.depth; ++k)
      tile<bytes, 1, packs>(&a.offset[static_cast<std::size_t>(k)], a.step, x, n, delta, out, w + k * out,
                            channels);
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const Patches* a, const T* x, Size n, const T* delta, Size out,
                                         T* w) {
    constexpr Size N = bytes / static_cast<Size>(sizeof(T));
    for (Size o = 0; o < out; o += 2 * N)
      if (out - o > N)
        strip<bytes, 2>(*a, x, n, delta + o, out, w + o, out - o);
      else
        strip<bytes, 1>(*a, x, n, delta + o, out, w + o, out - o);
  }
};

}  // namespace

template <class T>
void small_forward(const ConvSizes& s, const T* x, const T* w, T* y) {
  parallel_ranges(s.batch * s.out_rows, line_grain(s), [&](Size first, Size end) {
    const Size width = divide_up(s.out, 16) * 16;
    T* weights = thread_buffer<1, T>(s.depth() * width);
    for (Size k = 0; k < s.depth(); ++k) {
      std::copy_n(w + k * s.out, s.out, weights + k * width);
      std::fill_n(weights + k * width + s.out, width - s.out, T{});
    }
    for_each_line(s, x, first, end, [&](const Patches& a, const T* from, Size pixel, Size n) {
      in_vectors<SmallForward<T>>(&a, from, n, static_cast<const T*>(weights), width, y + pixel * s.out,
                                  s.out);
    });
  });
}

template <class T>
void small_kernel_gradient(const ConvSizes& s, const T* x, const T* delta, Size first, Size end, T* w) {
  for_each_line(s, x, first, end, [&](const Patches& a, const T* from, Size pixel, Size n) {
    in_vectors<SmallKernelGradient<T>>(&a, from, n, delta + pixel * s.out, s.out, w);
  });
}

template void small_forward(const ConvSizes&, const float*, const float*, float*);
template void small_forward(const ConvSizes&, const double*, const double*, double*);
template void small_kernel_gradient(const ConvSizes&, const float*, const float*, Size, Size, float*);
template void small_kernel_gradient(const ConvSizes&, const double*, const double*, Size, Size, double*);

}  // namespace opgrad
