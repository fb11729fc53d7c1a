// Max pooling over packs of channels. Windows that tile the image (strides equal to sizes) are done in one
// sweep, which writes every element of dx once, those that floor leaves over included. Others go over zeros.
#include "pool2d_kernels.h"

#include <algorithm>

#include "../core/parallel.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

struct PoolSizes {
  Size batch, rows, columns, channels, out_rows, out_columns;
  std::array<Size, 2> size, strides;

  bool tiles() const { return strides == size; }
  bool overlaps() const { return strides[0] < size[0] || strides[1] < size[1]; }
};
PoolSizes sizes_of(const Shape& x, const Shape& y, const Pool2DAttributes& a) {
  return {x[0], x[1], x[2], x[3], y[1], y[2], a.size, a.strides};
}

enum class Pool { forward, gradient, pick };

// The later of two elements of a window wins where it is greater, or the first NaN.
template <class P>
[[gnu::always_inline]] inline auto beats(const P& later, const P& earlier) {
  return (!(later <= earlier)) & (earlier == earlier);
}

// From a pixel of x to the one below it and to the next in its row, in elements.
struct Steps {
  Size row, column;
};

// N channels of a window of down x across, all of it in registers.
template <class T, Pool what, int N, int down, int across>
struct KnownWindow {
  using P = kernel::Pack<T, N>;
  static constexpr int taps = down * across;

  [[gnu::always_inline]] static void run(const PoolSizes&, const Steps& steps, const T* x, const T* values,
                                         T* out, int) {
    const auto at = [&](int tap) __attribute__((always_inline)) {
      return tap / across * steps.row + tap % across * steps.column;
    };
    P best = P::load(x);
    typename P::M won[taps];
    // x was written long ago, and may have left the cache: the windows below are asked for now.
    if constexpr (what == Pool::gradient) {
#pragma GCC unroll 16
      for (int tap = 0; tap < taps; ++tap) __builtin_prefetch(x + at(tap) + down * steps.row);
    }
#pragma GCC unroll 16
    for (int tap = 1; tap < taps; ++tap) {
      const P value = P::load(x + at(tap));
      won[tap] = beats(value, best);
      best = select(won[tap], value, best);
    }
    if constexpr (what == Pool::forward) best.store(out);
    if constexpr (what == Pool::gradient) {
      // The winner is the last that beat those before it.
      P left = P::load(values);
      const P zero = T{};
#pragma GCC unroll 16
      for (int tap = taps - 1; tap > 0; --tap) {
        select(won[tap], left, zero).store(out + at(tap));
        left = select(won[tap], zero, left);
      }
      left.store(out);
    }
  }
};

// N channels of a window of any size; the first `done` of them have been written.
template <class T, Pool what, int N, bool overlaps>
struct AnyWindow {
  using P = kernel::Pack<T, N>;
  using Index = kernel::Pack<typename P::I, N>;

  [[gnu::always_inline]] static void run(const PoolSizes& s, const Steps& steps, const T* x, const T* values,
                                         T* out, [[maybe_unused]] int done) {
    P best = P::load(x), picked = what == Pool::pick ? P::load(values) : P(T{});
    // Counted in packs, since GCC spreads a whole number over a pack lane by lane.
    const Index one = 1;
    Index index = 0, tap = 0;
    for (Size m = 0; m < s.size[0]; ++m) {
      for (Size n = 0; n < s.size[1]; ++n, tap = tap + one) {
        const Size offset = m * steps.row + n * steps.column;
        const P value = P::load(x + offset);
        const auto won = beats(value, best);
        best = select(won, value, best);
        if constexpr (what == Pool::gradient) index = select(won, tap, index);
        if constexpr (what == Pool::pick) picked = select(won, P::load(values + offset), picked);
      }
    }
    if constexpr (what == Pool::forward) best.store(out);
    if constexpr (what == Pool::pick) picked.store(out);
    if constexpr (what == Pool::gradient) {
      const P zero = T{};
      P dy = P::load(values);
      if constexpr (overlaps) {
        // Sums that begin at 0 are never -0, so that to add 0 changes nothing.
        alignas(64) T lanes[N] = {};
        std::fill_n(lanes, done, T{1});
        dy = select(P::load(lanes) == zero, dy, zero);
      }
      tap = 0;
      for (Size m = 0; m < s.size[0]; ++m) {
        for (Size n = 0; n < s.size[1]; ++n, tap = tap + one) {
          T* to = out + m * steps.row + n * steps.column;
          const P share = select(index == tap, dy, zero);
          if constexpr (overlaps)
            (P::load(to) + share).store(to);
          else
            share.store(to);
        }
      }
    }
  }
};

// One image, N channels at a time. Where they do not come out even, the last N meet those before: what is
// written twice is the same.
template <class T, Pool what, int N, class Window>
[[gnu::always_inline]] inline void sweep(const PoolSizes& all, const T* x, const T* values, T* out) {
  const PoolSizes s = all;
  const Steps steps{s.columns * s.channels, s.channels};
  const Size right = s.columns - s.out_columns * s.size[1], below = s.rows - s.out_rows * s.size[0];
  for (Size i = 0; i < s.out_rows; ++i) {
    const Size top = i * s.strides[0] * steps.row;
    for (Size j = 0; j < s.out_columns; ++j) {
      const Size in = top + j * s.strides[1] * steps.column, pixel = (i * s.out_columns + j) * s.channels;
      const Size from = what == Pool::pick ? in : pixel, to = what == Pool::gradient ? in : pixel;
      Size c = 0;
      for (; c + N <= s.channels; c += N)
        Window::run(s, steps, x + in + c, values + from + c, out + to + c, 0);
      if (c < s.channels) {
        const auto done = static_cast<int>(c + N - s.channels);
        c = s.channels - N;
        Window::run(s, steps, x + in + c, values + from + c, out + to + c, done);
      }
    }
    if (what == Pool::gradient && s.tiles() && right > 0)
      for (Size m = 0; m < s.size[0]; ++m)
        std::fill_n(out + top + (m + 1) * steps.row - right * s.channels, right * s.channels, T{});
  }
  if (what == Pool::gradient && s.tiles()) {
    const Size rest = below * steps.row;
    std::fill_n(out + s.rows * steps.row - rest, rest, T{});
  }
}

template <class T, Pool what>
struct PoolImage {
  // In the widest packs that the channels fill.
  template <int N>
  [[gnu::always_inline]] static void any(const PoolSizes& s, const T* x, const T* values, T* out) {
    if constexpr (N > 1)
      if (s.channels < N) return any<N / 2>(s, x, values, out);
    if (what == Pool::gradient && s.overlaps())
      sweep<T, what, N, AnyWindow<T, what, N, what == Pool::gradient>>(s, x, values, out);
    else
      sweep<T, what, N, AnyWindow<T, what, N, false>>(s, x, values, out);
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const PoolSizes* s, const T* x, const T* values, T* out) {
    using Sides = std::array<Size, 2>;
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    if constexpr (what != Pool::pick) {
      if (s->tiles() && s->channels >= N && s->size == Sides{2, 2})
        return sweep<T, what, N, KnownWindow<T, what, N, 2, 2>>(*s, x, values, out);
      if (s->tiles() && s->channels >= N && s->size == Sides{3, 3})
        return sweep<T, what, N, KnownWindow<T, what, N, 3, 3>>(*s, x, values, out);
    }
    any<N>(*s, x, values, out);
  }
};

template <Pool what>
void pool_images(const KernelArgs& k) {
  if (k.out.numel() == 0) return;  // of any number of images without channels
  const Shape& y = what == Pool::gradient ? k.in[1].shape() : k.out.shape();
  const PoolSizes s = sizes_of(k.in[0].shape(), y, k.attributes<Pool2DAttributes>());
  dispatch_float(k.out.dtype(), [&]<class T>() {
    const Size image = s.rows * s.columns * s.channels, small = s.out_rows * s.out_columns * s.channels;
    const auto grain = std::max<Size>(1, 16384 / image);
    parallel_ranges(s.batch, grain, [&](Size first, Size end) {
      for (Size b = first; b < end; ++b) {
        const T* x = k.in[0].as<T>() + b * image;
        const T* values = what == Pool::forward    ? x
                          : what == Pool::gradient ? k.in[1].as<T>() + b * small
                                                   : k.in[1].as<T>() + b * image;
        T* out = k.out.as<T>() + b * (what == Pool::gradient ? image : small);
        if (what == Pool::gradient && !s.tiles()) std::fill_n(out, image, T{});
        in_vectors<PoolImage<T, what>>(&s, x, values, out);
      }
    });
  });
}

}  // namespace

void pool2d_forward(const KernelArgs& k) { pool_images<Pool::forward>(k); }
void pool2d_gradient(const KernelArgs& k) { pool_images<Pool::gradient>(k); }
void pool2d_pick(const KernelArgs& k) { pool_images<Pool::pick>(k); }

}  // namespace opgrad
