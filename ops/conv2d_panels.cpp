// Copies between images and panels, run by run.
#include "conv2d_panels.h"

#include <algorithm>

#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

template <int bytes, class T>
[[gnu::always_inline]] inline void copy_run(T* to, const T* from, Size n) {
  constexpr int N = bytes / static_cast<int>(sizeof(T));
  Size i = 0;
  for (; i + N <= n; i += N) Pack<T, N>::load(from + i).store(to + i);
  for (; i < n; ++i) to[i] = from[i];
}
template <int bytes, class T>
[[gnu::always_inline]] inline void add_run(T* to, const T* from, Size n) {
  constexpr int N = bytes / static_cast<int>(sizeof(T));
  Size i = 0;
  for (; i + N <= n; i += N) (Pack<T, N>::load(to + i) + Pack<T, N>::load(from + i)).store(to + i);
  for (; i < n; ++i) to[i] += from[i];
}
template <class T>
[[gnu::always_inline]] inline void clear_run(T* to, Size n) {
  for (Size i = 0; i < n; ++i) to[i] = T{};
}

// Walks a panel's runs in order. inside(at, offset, n): its n elements from `at` on are those of x from
// `offset` on; outside(at, n): they lie in the padding.
template <class Inside, class Outside>
[[gnu::always_inline]] inline void walk(const ConvSizes& s, const Panel& p, Inside inside, Outside outside) {
  Size j = p.first % s.out_columns, i = p.first / s.out_columns % s.out_rows, b = p.first / s.image_pixels();
  const Size line = s.kernel_columns * s.in;
  Size at = 0;
  for (Size pixel = p.first; pixel < p.end; ++pixel) {
    const Size column = j * s.strides[1] - s.left;
    for (Size m = p.first_tap_row; m < p.end_tap_row; ++m) {
      const Size row = i * s.strides[0] + m * s.dilations[0] - s.top;
      if (row < 0 || row >= s.rows) {
        outside(at, line);
        at += line;
        continue;
      }
      const Size begin = (b * s.rows + row) * s.columns;
      if (s.dilations[1] == 1) {
        const Size before = std::clamp<Size>(-column, 0, s.kernel_columns);
        const Size within = std::clamp<Size>(s.columns - column, before, s.kernel_columns) - before;
        const Size after = s.kernel_columns - before - within;
        if (before) outside(at, before * s.in);
        if (within) inside(at + before * s.in, (begin + column + before) * s.in, within * s.in);
        if (after) outside(at + (before + within) * s.in, after * s.in);
        at += line;
        continue;
      }
      for (Size n = 0; n < s.kernel_columns; ++n, at += s.in) {
        const Size c = column + n * s.dilations[1];
        if (c < 0 || c >= s.columns)
          outside(at, s.in);
        else
          inside(at, (begin + c) * s.in, s.in);
      }
    }
    if (++j == s.out_columns) {
      j = 0;
      if (++i == s.out_rows) i = 0, ++b;
    }
  }
}

template <class T>
struct Unfold {
  template <int bytes>
  [[gnu::always_inline]] static void run(const ConvSizes* s, const Panel* p, const T* x, T* panel) {
    walk(
        *s, *p,
        [=](Size at, Size offset, Size n)
            __attribute__((always_inline)) { copy_run<bytes>(panel + at, x + offset, n); },
        [=](Size at, Size n) __attribute__((always_inline)) { clear_run(panel + at, n); });
  }
};

template <class T>
struct Fold {
  template <int bytes>
  [[gnu::always_inline]] static void run(const ConvSizes* s, const Panel* p, const T* panel, T* x, Size begin,
                                         Size end) {
    walk(
        *s, *p,
        [=](Size at, Size offset, Size n) __attribute__((always_inline)) {
          if (offset >= begin && offset < end) add_run<bytes>(x + offset, panel + at, n);
        },
        [](Size, Size) __attribute__((always_inline)){});
  }
};

template <class T>
struct AddRun {
  template <int bytes>
  [[gnu::always_inline]] static void run(T* to, const T* from, Size n) {
    add_run<bytes>(to, from, n);
  }
};

}  // namespace

template <class T>
void unfold(const ConvSizes& s, const Panel& p, const T* x, T* panel) {
  in_vectors<Unfold<T>>(&s, &p, x, panel);
}

template <class T>
void fold_back(const ConvSizes& s, const Panel& p, const T* panel, T* x, Size begin, Size end) {
  in_vectors<Fold<T>>(&s, &p, panel, x, begin, end);
}

template <class T>
void add_to(T* to, const T* from, Size n) {
  in_vectors<AddRun<T>>(to, from, n);
}

template void unfold(const ConvSizes&, const Panel&, const float*, float*);
template void unfold(const ConvSizes&, const Panel&, const double*, double*);
template void fold_back(const ConvSizes&, const Panel&, const float*, float*, Size, Size);
template void fold_back(const ConvSizes&, const Panel&, const double*, double*, Size, Size);
template void add_to(float*, const float*, Size);
template void add_to(double*, const double*, Size);

}  // namespace opgrad
