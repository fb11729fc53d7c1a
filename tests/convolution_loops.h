// Convolutions to compute, and the loops that the kernels are compared with, which share no code with them.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "../core/isa.h"
#include "../ops/conv2d_kernels.h"
#include "../ops/depthwise_kernels.h"

namespace opgrad::test {

using Size = std::int64_t;

struct Taps {
  Size rows, columns;
  std::array<Size, 2> strides{1, 1}, dilations{1, 1};
  std::array<Size, 4> pads{};
};

// No rows or columns of the result where the kernel does not fit.
template <class Sizes>
Sizes window_over(Size rows, Size columns, const Taps& t) {
  const auto fit = [&](std::size_t axis, Size size, Size taps) {
    const Size left = size + t.pads[2 * axis] + t.pads[2 * axis + 1] - (taps - 1) * t.dilations[axis] - 1;
    return left < 0 ? 0 : left / t.strides[axis] + 1;
  };
  Sizes s{};
  s.rows = rows, s.columns = columns;
  s.kernel_rows = t.rows, s.kernel_columns = t.columns;
  s.out_rows = fit(0, rows, t.rows), s.out_columns = fit(1, columns, t.columns);
  s.strides = t.strides, s.dilations = t.dilations;
  s.top = t.pads[0], s.left = t.pads[2];
  return s;
}
inline ConvSizes sizes(Size batch, Size rows, Size columns, Size in, Size out, const Taps& t) {
  auto s = window_over<ConvSizes>(rows, columns, t);
  s.batch = batch, s.in = in, s.out = out;
  return s;
}
// Each of `kernels` serves as many images.
inline DepthwiseSizes depthwise_sizes(Size batch, Size rows, Size columns, Size channels, Size multiplier,
                                      const Taps& t, Size kernels = 1) {
  auto s = window_over<DepthwiseSizes>(rows, columns, t);
  s.batch = batch, s.images = batch / kernels, s.channels = channels, s.multiplier = multiplier;
  return s;
}

inline Size x_size(const ConvSizes& s) { return s.batch * s.rows * s.columns * s.in; }
inline Size w_size(const ConvSizes& s) { return s.kernel_size(); }
inline Size y_size(const ConvSizes& s) { return s.pixels() * s.out; }
inline Size x_size(const DepthwiseSizes& s) { return s.batch * s.rows * s.columns * s.channels; }
inline Size w_size(const DepthwiseSizes& s) { return s.batch / s.images * s.kernel_size(); }
inline Size y_size(const DepthwiseSizes& s) { return s.batch * s.out_rows * s.out_columns * s.out(); }

inline std::string text(std::initializer_list<Size> numbers) {
  std::string t = name_of(isa());
  for (const Size n : numbers) t += ' ' + std::to_string(n);
  return t;
}
inline std::string text(const ConvSizes& s) {
  return text({s.batch, s.rows, s.columns, s.in, s.kernel_rows, s.kernel_columns, s.out, s.strides[0],
               s.strides[1], s.dilations[0], s.dilations[1], s.top, s.left});
}
inline std::string text(const DepthwiseSizes& s) {
  return text({s.batch, s.images, s.rows, s.columns, s.channels, s.kernel_rows, s.kernel_columns,
               s.multiplier, s.strides[0], s.strides[1], s.dilations[0], s.dilations[1], s.top, s.left});
}

template <class T, class F>
std::vector<T> draw(Size n, F next) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = static_cast<T>(next());
  return v;
}
template <class T>
struct Inputs {
  std::vector<T> x, w, d;
  template <class Sizes, class F>
  Inputs(const Sizes& s, F next)
      : x(draw<T>(x_size(s), next)), w(draw<T>(w_size(s), next)), d(draw<T>(y_size(s), next)) {}
};

struct SmallIntegers {
  std::mt19937 g{7};
  int operator()() { return static_cast<int>(g() % 7) - 3; }
};
struct Normal {
  std::mt19937 g{7};
  std::normal_distribution<double> d;
  double operator()() { return d(g); }
};

// The three results, from the kernels or from the loops; of the sizes of `in`.
template <class T>
struct Trio {
  std::vector<T> y, w, x;
  template <class From>
  Trio(const Inputs<From>& in, T value)
      : y(in.d.size(), value), w(in.w.size(), value), x(in.x.size(), value) {}
  bool operator==(const Trio&) const = default;
};

// Calls f(image, pixel of x, tap, pixel of y) for every tap of every pixel that lies in the image.
template <class Sizes, class F>
void for_taps(const Sizes& s, F f) {
  for (Size b = 0; b < s.batch; ++b)
    for (Size i = 0; i < s.out_rows; ++i)
      for (Size j = 0; j < s.out_columns; ++j)
        for (Size m = 0; m < s.kernel_rows; ++m)
          for (Size n = 0; n < s.kernel_columns; ++n) {
            const Size row = i * s.strides[0] + m * s.dilations[0] - s.top;
            const Size column = j * s.strides[1] + n * s.dilations[1] - s.left;
            if (row < 0 || row >= s.rows || column < 0 || column >= s.columns) continue;
            f(b, (b * s.rows + row) * s.columns + column, m * s.kernel_columns + n,
              (b * s.out_rows + i) * s.out_columns + j);
          }
}
// Calls f(index in x, index in w, index in y) for every product of the sum.
template <class F>
void for_products(const ConvSizes& s, F f) {
  for_taps(s, [&](Size, Size from, Size tap, Size to) {
    for (Size c = 0; c < s.in; ++c)
      for (Size o = 0; o < s.out; ++o) f(from * s.in + c, (tap * s.in + c) * s.out + o, to * s.out + o);
  });
}
template <class F>
void for_products(const DepthwiseSizes& s, F f) {
  for_taps(s, [&](Size b, Size from, Size tap, Size to) {
    for (Size o = 0; o < s.out(); ++o)
      f(from * s.channels + o / s.multiplier, (b / s.images * s.taps() + tap) * s.out() + o,
        to * s.out() + o);
  });
}

template <class R, class T, class Sizes>
Trio<R> loops(const Sizes& s, const Inputs<T>& in) {
  Trio<R> r(in, 0);
  for_products(s, [&](Size x_at, Size w_at, Size y_at) {
    const auto x = static_cast<std::size_t>(x_at), w = static_cast<std::size_t>(w_at),
               y = static_cast<std::size_t>(y_at);
    r.y[y] += R(in.x[x]) * R(in.w[w]);
    r.w[w] += R(in.x[x]) * R(in.d[y]);
    r.x[x] += R(in.w[w]) * R(in.d[y]);
  });
  return r;
}

// Winograd's tiles of 4x4 outputs are computed with roots, so that f32 sums of integers are whole only
// nearly: those within 1/64 of a whole number as that number.
inline std::vector<float> as_integers(std::vector<float> v) {
  for (float& x : v)
    if (std::abs(x - std::nearbyint(x)) < 1.0f / 64) x = std::nearbyint(x);
  return v;
}
inline std::vector<double> as_integers(std::vector<double> v) { return v; }
template <class T>
Trio<T> as_integers(Trio<T> t) {
  for (std::vector<T>* v : {&t.y, &t.w, &t.x}) *v = as_integers(std::move(*v));
  return t;
}

// The largest error of f32 relative to the largest number of the f64 result.
inline double error_of(const std::vector<float>& got, const std::vector<double>& right) {
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(got[i] - right[i]));
    size = std::max(size, std::abs(right[i]));
  }
  return worst / size;
}

}  // namespace opgrad::test
