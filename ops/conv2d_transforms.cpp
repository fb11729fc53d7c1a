// The five transforms, one vector of channels at a time.
#include "conv2d_transforms.h"

#include <algorithm>

#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

// One direction of a transform: columns of the matrix, each from elements `apart` from one another.
template <class P>
[[gnu::always_inline]] inline void apply_b(P& a, P& b, P& c, P& d) {
  const P one = b + c, two = c - b, three = b - d;
  a = a - c;
  b = one;
  c = two;
  d = three;
}
template <class P>
[[gnu::always_inline]] inline void apply_a(const P& a, const P& b, const P& c, const P& d, P& y, P& z) {
  y = (a + b) + c;
  z = (b - c) - d;
}

// p, of which the compiler knows nothing: else it computes all sixteen addresses of a tile beforehand, for
// which it has no registers.
template <class T>
[[gnu::always_inline]] inline T* hidden(T* p) {
  asm("" : "+r"(p));
  return p;
}

struct PatchInBody {
  template <int N, class Load>
  [[gnu::always_inline]] static void transform(Load load, float* to, Size apart) {
    using P = Pack<float, N>;
    P d[4][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      load(j, d[0][j], d[1][j], d[2][j], d[3][j]);
      apply_b(d[0][j], d[1][j], d[2][j], d[3][j]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      float* row = hidden(to + 4 * i * apart);
      apply_b(d[i][0], d[i][1], d[i][2], d[i][3]);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) d[i][j].store(row + j * apart);
    }
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const PatchIn* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    alignas(bytes) static constexpr float zeros[N]{};
    const PatchIn a = *given;
    for (Size t = 0; t < a.count; ++t) {
      const Patch p = a.tiles[t];
      const bool inside = p.top == 0 && p.bottom == 4 && p.left == 0 && p.right == 4;
      for (Size k = 0; k < a.channels; k += N) {
        const Size at = std::min(k, a.channels - N);
        float* to = a.to + t * a.step + at;
        if (inside) {
          const float* d = a.x + p.in + at;
          transform<N>(
              [&](int j, P& d0, P& d1, P& d2, P& d3) __attribute__((always_inline)) {
                const float* from = hidden(d + j * a.pixel);
                d0 = P::load(from);
                d1 = P::load(from + a.line);
                d2 = P::load(from + 2 * a.line);
                d3 = P::load(from + 3 * a.line);
              },
              to, a.apart);
        } else {
          transform<N>(
              [&](int j, P& d0, P& d1, P& d2, P& d3) __attribute__((always_inline)) {
                const Size from = p.in + at + j * a.pixel;
                const bool column = j >= p.left && j < p.right;
                const auto load = [&](int i) __attribute__((always_inline)) {
                  return P::load(column && i >= p.top && i < p.bottom ? a.x + (from + i * a.line) : zeros);
                };
                d0 = load(0);
                d1 = load(1);
                d2 = load(2);
                d3 = load(3);
              },
              to, a.apart);
        }
      }
    }
  }
};

struct PatchOutBody {
  // y += A' m for the i-th of the products' lines, or, across, elements.
  template <int i, class P>
  [[gnu::always_inline]] static void add(const P& m, P& y, P& z) {
    if constexpr (i == 0) y = m;
    if constexpr (i == 1) z = m;
    if constexpr (i == 1 || i == 2) y = y + m;
    if constexpr (i >= 2) z = z - m;
  }
  template <int N, int down, int across>
  [[gnu::always_inline]] static void all(const PatchOut& a) {
    using P = Pack<float, N>;
    for (Size t = 0; t < a.count; ++t)
      for (Size v = 0; v < a.vectors; ++v) {
        const float* from = a.m + t * a.step + v * N;
        P rows[2][4], y[2][2];
        const auto line = [&]<int i>(std::integral_constant<int, i>) __attribute__((always_inline)) {
          if constexpr (i < down) {
            const float* m = hidden(from + 4 * i * a.apart);
#pragma GCC unroll 4
            for (int j = 0; j < across; ++j) add<i>(P::load(m + j * a.apart), rows[0][j], rows[1][j]);
          }
        };
        line(std::integral_constant<int, 0>());
        line(std::integral_constant<int, 1>());
        line(std::integral_constant<int, 2>());
        line(std::integral_constant<int, 3>());
#pragma GCC unroll 2
        for (int i = 0; i < (down == 4 ? 2 : 1); ++i) {
          add<0>(rows[i][0], y[i][0], y[i][1]);
          if constexpr (across > 1) add<1>(rows[i][1], y[i][0], y[i][1]);
          if constexpr (across > 1) add<2>(rows[i][2], y[i][0], y[i][1]);
          if constexpr (across > 3) add<3>(rows[i][3], y[i][0], y[i][1]);
        }
        float* to = a.y + (a.tiles[t].out + (v == a.vectors - 1 ? a.last : v * N));
        y[0][0].store(to);
        if constexpr (across == 4) y[0][1].store(to + a.pixel);
        if constexpr (down == 4) y[1][0].store(to + a.line);
        if constexpr (down == 4 && across == 4) y[1][1].store(to + a.line + a.pixel);
      }
  }
  template <int N, int down>
  [[gnu::always_inline]] static void any_across(const PatchOut& a) {
    if (a.products_across == 4) return all<N, down, 4>(a);
    if (a.products_across == 3) return all<N, down, 3>(a);
    all<N, down, 1>(a);
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const PatchOut* given) {
    constexpr int N = bytes / 4;
    const PatchOut a = *given;
    if (a.products_down == 4) return any_across<N, 4>(a);
    if (a.products_down == 3) return any_across<N, 3>(a);
    any_across<N, 1>(a);
  }
};

struct DeltaInBody {
  template <int N, bool two_rows, bool two_columns>
  [[gnu::always_inline]] static void all(const DeltaIn& a) {
    using P = Pack<float, N>;
    for (Size t = 0; t < a.count; ++t)
      for (Size k = 0; k < a.channels; k += N) {
        const float* from = a.dy + (a.tiles[t].out + std::min(k, a.channels - N));
        const P zero{typename P::V{}};
        P d[4][2];
        d[0][0] = P::load(from);
        d[0][1] = d[3][0] = d[3][1] = zero;
        if constexpr (two_columns) d[0][1] = P::load(from + a.pixel);
        if constexpr (two_rows) d[3][0] = P::load(from + a.line);
        if constexpr (two_rows && two_columns) d[3][1] = P::load(from + a.line + a.pixel);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          d[1][j] = d[0][j] + d[3][j];
          d[2][j] = d[0][j] - d[3][j];
          d[3][j] = zero - d[3][j];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          float* to = hidden(a.to + (t * a.step + k + 4 * i * a.apart));
          d[i][0].store(to);
          (d[i][0] + d[i][1]).store(to + a.apart);
          (d[i][0] - d[i][1]).store(to + 2 * a.apart);
          (zero - d[i][1]).store(to + 3 * a.apart);
        }
      }
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const DeltaIn* given) {
    constexpr int N = bytes / 4;
    const DeltaIn a = *given;
    if (a.rows == 2 && a.columns == 2) return all<N, true, true>(a);
    if (a.rows == 2) return all<N, true, false>(a);
    if (a.columns == 2) return all<N, false, true>(a);
    all<N, false, false>(a);
  }
};

struct KernelInBody {
  template <int bytes>
  [[gnu::always_inline]] static void run(const KernelIn* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    const KernelIn a = *given;
    const P half = 0.5f;
    for (Size v = 0; v < a.vectors; ++v) {
      P g[4][3];
#pragma GCC unroll 3
      for (int n = 0; n < 3; ++n) {
        const P x = P::load(a.g + n * a.tap + v * N), y = P::load(a.g + (3 + n) * a.tap + v * N),
                z = P::load(a.g + (6 + n) * a.tap + v * N);
        g[0][n] = x;
        g[1][n] = half * ((x + z) + y);
        g[2][n] = half * ((x + z) - y);
        g[3][n] = z;
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        float* to = a.to + 4 * i * a.apart + v * N;
        const P x = g[i][0], y = g[i][1], z = g[i][2];
        x.store(to);
        (half * ((x + z) + y)).store(to + a.apart);
        (half * ((x + z) - y)).store(to + 2 * a.apart);
        z.store(to + 3 * a.apart);
      }
    }
  }
};

struct KernelOutBody {
  template <int bytes>
  [[gnu::always_inline]] static void run(const KernelOut* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    const KernelOut a = *given;
    const P half = 0.5f;
    for (Size k = 0; k < a.channels; k += N) {
      P m[4][4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const float* from = a.m + (4 * i + j) * a.apart + k;
          P sum = P::load(from);
          for (Size g = 1; g < a.groups; ++g) sum = sum + P::load(from + g * a.group);
          m[i][j] = sum;
        }
      float* to = a.g + std::min(k, a.channels - N);
      P g[3][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const P sum = half * (m[1][j] + m[2][j]);
        g[0][j] = m[0][j] + sum;
        g[1][j] = half * (m[1][j] - m[2][j]);
        g[2][j] = sum + m[3][j];
      }
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        const P sum = half * (g[i][1] + g[i][2]);
        (g[i][0] + sum).store(to + 3 * i * a.tap);
        (half * (g[i][1] - g[i][2])).store(to + (3 * i + 1) * a.tap);
        (sum + g[i][3]).store(to + (3 * i + 2) * a.tap);
      }
    }
  }
};

}  // namespace

template <>
void (*transform())(const PatchIn*) {
  return vector_function<PatchInBody, const PatchIn*>();
}
template <>
void (*transform())(const PatchOut*) {
  return vector_function<PatchOutBody, const PatchOut*>();
}
template <>
void (*transform())(const DeltaIn*) {
  return vector_function<DeltaInBody, const DeltaIn*>();
}
template <>
void (*transform())(const KernelIn*) {
  return vector_function<KernelInBody, const KernelIn*>();
}
template <>
void (*transform())(const KernelOut*) {
  return vector_function<KernelOutBody, const KernelOut*>();
}

}  // namespace opgrad
