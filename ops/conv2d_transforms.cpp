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

struct PatchInBody {
  template <int bytes>
  [[gnu::always_inline]] static void run(const PatchIn* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    const PatchIn a = *given;
    for (Size k = 0; k < a.channels; k += N) {
      const Size at = std::min(k, a.channels - N);
      P d[4][4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) d[i][j] = P::load(a.d + i * a.line + j * a.pixel + at);
        apply_b(d[0][j], d[1][j], d[2][j], d[3][j]);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        apply_b(d[i][0], d[i][1], d[i][2], d[i][3]);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) d[i][j].store(a.to + (4 * i + j) * a.apart + at);
      }
    }
  }
};

struct PatchOutBody {
  template <int bytes>
  [[gnu::always_inline]] static void run(const PatchOut* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    const PatchOut a = *given;
    for (Size v = 0; v < a.vectors; ++v) {
      P half[2][4], y[2][2];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        P m[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) m[i] = P::load(a.m + (4 * i + j) * a.apart + v * N);
        apply_a(m[0], m[1], m[2], m[3], half[0][j], half[1][j]);
      }
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) apply_a(half[i][0], half[i][1], half[i][2], half[i][3], y[i][0], y[i][1]);
      float* to = a.y + (v == a.vectors - 1 ? a.last : v * N);
      y[0][0].store(to);
      if (a.columns == 2) y[0][1].store(to + a.pixel);
      if (a.rows == 2) {
        y[1][0].store(to + a.line);
        if (a.columns == 2) y[1][1].store(to + a.line + a.pixel);
      }
    }
  }
};

struct DeltaInBody {
  template <int bytes>
  [[gnu::always_inline]] static void run(const DeltaIn* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    const DeltaIn a = *given;
    for (Size k = 0; k < a.channels; k += N) {
      const float* from = a.dy + std::min(k, a.channels - N);
      const P zero = 0.0f;
      P d[4][2];
      d[0][0] = P::load(from);
      d[0][1] = a.columns == 2 ? P::load(from + a.pixel) : zero;
      d[3][0] = a.rows == 2 ? P::load(from + a.line) : zero;
      d[3][1] = a.rows == 2 && a.columns == 2 ? P::load(from + a.line + a.pixel) : zero;
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        d[1][j] = d[0][j] + d[3][j];
        d[2][j] = d[0][j] - d[3][j];
        d[3][j] = zero - d[3][j];
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        float* to = a.to + 4 * i * a.apart + k;
        d[i][0].store(to);
        (d[i][0] + d[i][1]).store(to + a.apart);
        (d[i][0] - d[i][1]).store(to + 2 * a.apart);
        (zero - d[i][1]).store(to + 3 * a.apart);
      }
    }
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
