// The register tiles, compiled for every height and number of vectors.
#include "conv2d_tiles.h"

#include <array>
#include <utility>

#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

// By number of vectors. 32 registers of AVX-512 hold 28 sums, the vectors and a factor; 16 of the others 12.
constexpr std::array<int, 5> tall{0, 14, 14, 8, 6}, low{0, 6, 6, 0, 0};
constexpr int most_packs = 4;

template <int bytes>
constexpr int height_of(int packs) {
  return bytes == 64 ? tall[static_cast<std::size_t>(packs)] : low[static_cast<std::size_t>(packs)];
}

template <class T, int height, int packs>
struct Forward {
  template <int bytes>
  [[gnu::always_inline]] static void run(const ForwardTiles<T>* given) {
    if constexpr (height <= height_of<bytes>(packs)) {
      constexpr int N = bytes / static_cast<int>(sizeof(T));
      const ForwardTiles<T> a = *given;
      const T* first = a.x;
      T* y = a.y;
      for (Size tile = 0; tile < a.tiles;
           ++tile, first += height * a.step + a.x_gap, y += height * a.y_step + a.y_gap) {
        Pack<T, N> sum[height][packs];
#pragma GCC unroll 16
        for (int p = 0; p < height; ++p)
#pragma GCC unroll 4
          for (int v = 0; v < packs; ++v) sum[p][v] = Pack<T, N>(T{});
        const T* w = a.w + tile * a.w_tile;
        for (Size g = 0; g < a.segments; ++g) {
          const T* x = first + a.offsets[g];
          for (const T* end = x + a.length; x != end; ++x, w += a.width) {
            Pack<T, N> weight[packs];
#pragma GCC unroll 4
            for (int v = 0; v < packs; ++v) weight[v] = Pack<T, N>::load(w + v * N);
#pragma GCC unroll 16
            for (int p = 0; p < height; ++p) {
              const Pack<T, N> value = x[p * a.step];
#pragma GCC unroll 4
              for (int v = 0; v < packs; ++v) sum[p][v] = multiply_add(value, weight[v], sum[p][v]);
            }
          }
        }
        if (a.lanes == N) {
#pragma GCC unroll 16
          for (int p = 0; p < height; ++p) {
#pragma GCC unroll 4
            for (int v = 0; v < packs - 1; ++v) sum[p][v].store(y + p * a.y_step + v * N);
            sum[p][packs - 1].store(y + p * a.y_step + a.last);
          }
        } else {
          T all[height][N];
#pragma GCC unroll 16
          for (int p = 0; p < height; ++p) sum[p][0].store(all[p]);
          for (int p = 0; p < height; ++p)
            for (Size i = 0; i < a.lanes; ++i) y[p * a.y_step + i] = all[p][i];
        }
      }
    }
  }
};

template <class T, int height, int packs, bool scattered>
struct Gradient {
  template <int bytes>
  [[gnu::always_inline]] static void run(const GradientTile<T>* given) {
    if constexpr (height <= height_of<bytes>(packs)) {
      constexpr int N = bytes / static_cast<int>(sizeof(T));
      const GradientTile<T> a = *given;
      Pack<T, N> sum[height][packs];
#pragma GCC unroll 16
      for (int k = 0; k < height; ++k)
#pragma GCC unroll 4
        for (int v = 0; v < packs; ++v)
          sum[k][v] = a.fresh ? Pack<T, N>(T{}) : Pack<T, N>::load(a.sum + k * a.width + v * N);
      Size offset[height];
#pragma GCC unroll 16
      for (int k = 0; k < height; ++k) offset[k] = scattered ? a.offsets[k] : k;
      for (Size line = 0; line < a.lines; ++line) {
        const T *x = a.x + line * a.x_line, *d = a.d + line * a.d_line;
        for (Size p = 0; p < a.pixels; ++p, x += a.x_step, d += a.d_step) {
          Pack<T, N> delta[packs];
#pragma GCC unroll 4
          for (int v = 0; v < packs - 1; ++v) delta[v] = Pack<T, N>::load(d + v * N);
          delta[packs - 1] = Pack<T, N>::load(d + a.last);
#pragma GCC unroll 16
          for (int k = 0; k < height; ++k) {
            const Pack<T, N> value = x[scattered ? offset[k] : k];
#pragma GCC unroll 4
            for (int v = 0; v < packs; ++v) sum[k][v] = multiply_add(value, delta[v], sum[k][v]);
          }
        }
      }
#pragma GCC unroll 16
      for (int k = 0; k < height; ++k)
#pragma GCC unroll 4
        for (int v = 0; v < packs; ++v) sum[k][v].store(a.sum + k * a.width + v * N);
    }
  }
};

// The function for a height known at run time, out of those of every height.
template <template <int> class Body, class Tiles, int... h>
auto choose(int height, std::integer_sequence<int, h...>) {
  using Function = void (*)(const Tiles*);
  static constexpr std::array<Function (*)(), sizeof...(h)> all{
      vector_function<Body<h + 1>, const Tiles*>...};
  return all[static_cast<std::size_t>(height - 1)]();
}
template <template <int> class Body, class Tiles, int packs>
auto choose(int height) {
  return choose<Body, Tiles>(height, std::make_integer_sequence<int, tall[packs]>{});
}

template <class T, int packs>
struct ForPacks {
  template <int height>
  using ForwardBody = Forward<T, height, packs>;
  template <int height>
  using InPlace = Gradient<T, height, packs, false>;
  template <int height>
  using Scattered = Gradient<T, height, packs, true>;
};

template <class T, int packs>
ForwardFunction<T> forward_of(int height) {
  return choose<ForPacks<T, packs>::template ForwardBody, ForwardTiles<T>, packs>(height);
}
template <class T, int packs>
GradientFunction<T> gradient_of(int height, bool offsets) {
  if (offsets) return choose<ForPacks<T, packs>::template Scattered, GradientTile<T>, packs>(height);
  return choose<ForPacks<T, packs>::template InPlace, GradientTile<T>, packs>(height);
}

}  // namespace

int tile_packs() { return isa() == Isa::avx512 ? most_packs : 2; }
int tile_height(int packs) { return (isa() == Isa::avx512 ? tall : low)[static_cast<std::size_t>(packs)]; }
int tile_lanes(std::size_t element_bytes) { return vector_bytes(isa()) / static_cast<int>(element_bytes); }

template <class T>
ForwardFunction<T> forward_tile(int packs, int height) {
  switch (packs) {
    case 1:
      return forward_of<T, 1>(height);
    case 2:
      return forward_of<T, 2>(height);
    case 3:
      return forward_of<T, 3>(height);
    default:
      return forward_of<T, most_packs>(height);
  }
}
template <class T>
GradientFunction<T> gradient_tile(int packs, int height, bool offsets) {
  switch (packs) {
    case 1:
      return gradient_of<T, 1>(height, offsets);
    case 2:
      return gradient_of<T, 2>(height, offsets);
    case 3:
      return gradient_of<T, 3>(height, offsets);
    default:
      return gradient_of<T, most_packs>(height, offsets);
  }
}

template ForwardFunction<float> forward_tile(int, int);
template ForwardFunction<double> forward_tile(int, int);
template GradientFunction<float> gradient_tile(int, int, bool);
template GradientFunction<double> gradient_tile(int, int, bool);

}  // namespace opgrad
