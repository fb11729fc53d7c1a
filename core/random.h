// Counter-based random bits: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). Element i of a draw depends on the key and i alone, never on threads or on earlier
// draws.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace opgrad {

// 128 random bits for a 128-bit counter and a 64-bit key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// A key names a draw: a 64-bit stream (seed, module path and call number, mixed by fold_in) and the training
// step.
struct Key {
  std::uint64_t stream = 0;
  std::uint64_t step = 0;
};

// A new stream from an old one and a number or a name; distinct inputs give distinct-looking streams.
std::uint64_t fold_in(std::uint64_t stream, std::uint64_t number);
std::uint64_t fold_in(std::uint64_t stream, std::string_view name);

// out[i] for i in [0, n) is element first + i of the draw `key`. Uniform on [0, 1): the top 24 (53) bits
// times 2^-24 (2^-53). Normal: mean 0, deviation 1, by Box and Muller from two uniforms. T is float or
// double. Floats come four to a block, doubles two: element i is made of philox({i / 4 (i / 2), step},
// stream), so draws that are to be independent need different keys, whatever their kind.
template <class T>
void fill_uniform(Key key, std::int64_t first, std::int64_t n, T* out);
template <class T>
void fill_normal(Key key, std::int64_t first, std::int64_t n, T* out);

}  // namespace opgrad
