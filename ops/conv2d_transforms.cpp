// The five transforms, one vector of channels at a time.
#include "conv2d_transforms.h"

#include <algorithm>

#include "conv2d_lines.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

// p, of which the compiler knows nothing: else it computes all addresses of a tile beforehand, for which it
// has no registers.
template <class T>
[[gnu::always_inline]] inline T* hidden(T* p) {
  asm("" : "+r"(p));
  return p;
}

template <int m>
struct PatchInBody {
  static constexpr int n = m + 2;
  template <int N, class Load>
  [[gnu::always_inline]] static void all(Load load, float* to, Size apart) {
    using P = Pack<float, N>;
    P d[n][n];
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) {
      P column[n];
      load(j, column);
      Line<m>::input(column);
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) d[i][j] = column[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) {
      float* row = hidden(to + n * i * apart);
      Line<m>::input(d[i]);
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) d[i][j].store(row + j * apart);
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
      const bool inside = p.top == 0 && p.bottom == n && p.left == 0 && p.right == n;
      for (Size k = 0; k < a.channels; k += N) {
        const Size at = std::min(k, a.channels - N);
        float* to = a.to + t * a.step + at;
        if (inside) {
          const float* d = a.x + p.in + at;
          all<N>(
              [&](int j, P(&column)[n]) __attribute__((always_inline)) {
                const float* from = hidden(d + j * a.pixel);
#pragma GCC unroll 6
                for (int i = 0; i < n; ++i) column[i] = P::load(from + i * a.line);
              },
              to, a.apart);
        } else {
          all<N>(
              [&](int j, P(&column)[n]) __attribute__((always_inline)) {
                const Size from = p.in + at + j * a.pixel;
                const bool there = j >= p.left && j < p.right;
#pragma GCC unroll 6
                for (int i = 0; i < n; ++i)
                  column[i] =
                      P::load(there && i >= p.top && i < p.bottom ? a.x + (from + i * a.line) : zeros);
              },
              to, a.apart);
        }
      }
    }
  }
};

template <int m>
struct PatchOutBody {
  static constexpr int n = m + 2;
  template <int N, int down, int across>
  [[gnu::always_inline]] static void all(const PatchOut& a) {
    using P = Pack<float, N>;
    for (Size t = 0; t < a.count; ++t)
      for (Size v = 0; v < a.vectors; ++v) {
        const float* from = a.m + t * a.step + v * N;
        P lines[m][n];
#pragma GCC unroll 6
        for (int i = 0; i < down; ++i) {
          const float* line = hidden(from + n * i * a.apart);
          P p[n], y[m];
#pragma GCC unroll 6
          for (int j = 0; j < across; ++j) p[j] = P::load(line + j * a.apart);
          Line<m>::template output<across>(p, y);
#pragma GCC unroll 4
          for (int j = 0; j < m; ++j) lines[j][i] = y[j];
        }
        float* to = a.y + (a.tiles[t].out + (v == a.vectors - 1 ? a.last : v * N));
#pragma GCC unroll 4
        for (int j = 0; j < m; ++j) {
          if (j < m - 1 + (across == n) && (across == n || j < a.columns)) {
            P y[m];
            Line<m>::template output<down>(lines[j], y);
#pragma GCC unroll 4
            for (int i = 0; i < m; ++i)
              if (i < m - 1 + (down == n) && (down == n || i < a.rows))
                y[i].store(to + i * a.line + j * a.pixel);
          }
        }
      }
  }
  template <int N, int down>
  [[gnu::always_inline]] static void any_across(const PatchOut& a) {
    if (a.products_across == n) return all<N, down, n>(a);
    if (a.products_across == n - 1) return all<N, down, n - 1>(a);
    all<N, down, 1>(a);
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const PatchOut* given) {
    constexpr int N = bytes / 4;
    const PatchOut a = *given;
    if (a.products_down == n) return any_across<N, n>(a);
    if (a.products_down == n - 1) return any_across<N, n - 1>(a);
    any_across<N, 1>(a);
  }
};

template <int m>
struct DeltaInBody {
  static constexpr int n = m + 2;
  template <int N, bool whole>
  [[gnu::always_inline]] static void all(const DeltaIn& a) {
    using P = Pack<float, N>;
    for (Size t = 0; t < a.count; ++t)
      for (Size k = 0; k < a.channels; k += N) {
        const float* from = a.dy + (a.tiles[t].out + std::min(k, a.channels - N));
        const float* next = a.dy + (a.tiles[std::min(t + 1, a.count - 1)].out + std::min(k, a.channels - N));
        P d[n][m];
#pragma GCC unroll 4
        for (int j = 0; j < m; ++j) {
          P y[m], p[n];
#pragma GCC unroll 4
          for (int i = 0; i < m; ++i) __builtin_prefetch(next + i * a.line + j * a.pixel);
#pragma GCC unroll 4
          for (int i = 0; i < m; ++i)
            y[i] = whole || (i < a.rows && j < a.columns) ? P::load(from + i * a.line + j * a.pixel) : P(0);
          Line<m>::delta(y, p);
#pragma GCC unroll 6
          for (int i = 0; i < n; ++i) d[i][j] = p[i];
        }
#pragma GCC unroll 6
        for (int i = 0; i < n; ++i) {
          float* to = hidden(a.to + (t * a.step + k + n * i * a.apart));
          P p[n];
          Line<m>::delta(d[i], p);
#pragma GCC unroll 6
          for (int j = 0; j < n; ++j) p[j].store(to + j * a.apart);
        }
      }
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const DeltaIn* given) {
    constexpr int N = bytes / 4;
    const DeltaIn a = *given;
    if (a.rows == m && a.columns == m) return all<N, true>(a);
    all<N, false>(a);
  }
};

template <int m>
struct KernelInBody {
  static constexpr int n = m + 2;
  template <int bytes>
  [[gnu::always_inline]] static void run(const KernelIn* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    const KernelIn a = *given;
    for (Size v = 0; v < a.vectors; ++v) {
      const float* from = a.g + (v == a.vectors - 1 ? a.last : v * N);
      P d[n][3];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        P g[3], p[n];
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) g[i] = P::load(from + (3 * i + j) * a.tap);
        Line<m>::kernel(g, p);
#pragma GCC unroll 6
        for (int i = 0; i < n; ++i) d[i][j] = p[i];
      }
#pragma GCC unroll 6
      for (int i = 0; i < n; ++i) {
        float* to = hidden(a.to + n * i * a.apart + v * N);
        P p[n];
        Line<m>::kernel(d[i], p);
#pragma GCC unroll 6
        for (int j = 0; j < n; ++j) p[j].store(to + j * a.apart);
      }
    }
  }
};

template <int m>
struct KernelOutBody {
  static constexpr int n = m + 2;
  template <int bytes>
  [[gnu::always_inline]] static void run(const KernelOut* given) {
    constexpr int N = bytes / 4;
    using P = Pack<float, N>;
    const KernelOut a = *given;
    for (Size k = 0; k < a.channels; k += N) {
      P d[3][n];
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) {
        P p[n], g[3];
#pragma GCC unroll 6
        for (int i = 0; i < n; ++i) {
          const float* from = a.m + (n * i + j) * a.apart + k;
          P sum = P::load(from);
          for (Size group = 1; group < a.groups; ++group) sum = sum + P::load(from + group * a.group);
          p[i] = sum;
        }
        Line<m>::kernel_gradient(p, g);
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) d[i][j] = g[i];
      }
      float* to = a.g + std::min(k, a.channels - N);
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        P g[3];
        Line<m>::kernel_gradient(d[i], g);
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) g[j].store(to + (3 * i + j) * a.tap);
      }
    }
  }
};

template <template <int> class Body, class Job>
auto of_side(int side) {
  return side == 4 ? vector_function<Body<4>, const Job*>() : vector_function<Body<2>, const Job*>();
}

}  // namespace

template <>
void (*transform(int side))(const PatchIn*) {
  return of_side<PatchInBody, PatchIn>(side);
}
template <>
void (*transform(int side))(const PatchOut*) {
  return of_side<PatchOutBody, PatchOut>(side);
}
template <>
void (*transform(int side))(const DeltaIn*) {
  return of_side<DeltaInBody, DeltaIn>(side);
}
template <>
void (*transform(int side))(const KernelIn*) {
  return of_side<KernelInBody, KernelIn>(side);
}
template <>
void (*transform(int side))(const KernelOut*) {
  return of_side<KernelOutBody, KernelOut>(side);
}

}  // namespace opgrad
