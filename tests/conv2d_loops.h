// Convolutions to compute, and the loops that the kernels are compared with, which share no code with them.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "../core/isa.h"
#include "../ops/conv2d_kernels.h"

namespace opgrad::test {

using Size = std::int64_t;

struct Taps {
  Size rows, columns;
  std::array<Size, 2> strides{1, 1}, dilations{1, 1};
  std::array<Size, 4> pads{};
};

// No rows or columns where the kernel does not fit.
inline ConvSizes sizes(Size batch, Size rows, Size columns, Size in, Size out, const Taps& t) {
  const auto fit = [&](std::size_t axis, Size size, Size taps) {
    const Size left = size + t.pads[2 * axis] + t.pads[2 * axis + 1] - (taps - 1) * t.dilations[axis] - 1;
    return left < 0 ? 0 : left / t.strides[axis] + 1;
  };
  return {batch,
          rows,
          columns,
          in,
          t.rows,
          t.columns,
          out,
          fit(0, rows, t.rows),
          fit(1, columns, t.columns),
          t.strides,
          t.dilations,
          t.pads[0],
          t.pads[2]};
}

inline Size x_size(const ConvSizes& s) { return s.batch * s.rows * s.columns * s.in; }
inline Size y_size(const ConvSizes& s) { return s.pixels() * s.out; }

inline std::string text(const ConvSizes& s) {
  std::string t = name_of(isa());
  for (const Size n : {s.batch, s.rows, s.columns, s.in, s.kernel_rows, s.kernel_columns, s.out, s.strides[0],
                       s.strides[1], s.dilations[0], s.dilations[1], s.top, s.left})
    t += ' ' + std::to_string(n);
  return t;
}

// The three results, from the kernels or from the loops.
template <class T>
struct Trio {
  std::vector<T> y, w, x;
  bool operator==(const Trio&) const = default;
};

template <class T, class F>
std::vector<T> draw(Size n, F next) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = static_cast<T>(next());
  return v;
}
template <class T>
struct Inputs {
  std::vector<T> x, w, d;
  template <class F>
  Inputs(const ConvSizes& s, F next)
      : x(draw<T>(x_size(s), next)), w(draw<T>(s.kernel_size(), next)), d(draw<T>(y_size(s), next)) {}
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

template <class R, class T>
Trio<R> loops(const ConvSizes& s, const Inputs<T>& in) {
  const auto at = [](Size i) { return static_cast<std::size_t>(i); };
  Trio<R> r{std::vector<R>(in.d.size()), std::vector<R>(in.w.size()), std::vector<R>(in.x.size())};
  for (Size b = 0; b < s.batch; ++b)
    for (Size i = 0; i < s.out_rows; ++i)
      for (Size j = 0; j < s.out_columns; ++j)
        for (Size m = 0; m < s.kernel_rows; ++m)
          for (Size n = 0; n < s.kernel_columns; ++n) {
            const Size row = i * s.strides[0] + m * s.dilations[0] - s.top;
            const Size column = j * s.strides[1] + n * s.dilations[1] - s.left;
            if (row < 0 || row >= s.rows || column < 0 || column >= s.columns) continue;
            for (Size c = 0; c < s.in; ++c)
              for (Size o = 0; o < s.out; ++o) {
                const std::size_t x = at(((b * s.rows + row) * s.columns + column) * s.in + c);
                const std::size_t w = at(((m * s.kernel_columns + n) * s.in + c) * s.out + o);
                const std::size_t y = at(((b * s.out_rows + i) * s.out_columns + j) * s.out + o);
                r.y[y] += R(in.x[x]) * R(in.w[w]);
                r.w[w] += R(in.x[x]) * R(in.d[y]);
                r.x[x] += R(in.w[w]) * R(in.d[y]);
              }
          }
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
Trio<T> as_integers(const Trio<T>& t) {
  return {as_integers(t.y), as_integers(t.w), as_integers(t.x)};
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
