// Philox4x32-10 and the draws made of it.
#include "random.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "parallel.h"

namespace opgrad {
namespace {

using Block = std::array<std::uint32_t, 4>;

// Inlined into the loops below, where several blocks are under way at once.
[[gnu::always_inline]] inline Block philox_block(Block x, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * x[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<std::uint32_t>(p1 >> 32) ^ x[1] ^ key[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ x[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return x;
}

constexpr std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
constexpr std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

[[gnu::always_inline]] inline Block block_of(Key key, std::uint64_t index) {
  return philox_block({low(index), high(index), low(key.step), high(key.step)},
                      {low(key.stream), high(key.stream)});
}

constexpr std::uint64_t join(std::uint32_t lo, std::uint32_t hi) { return std::uint64_t{hi} << 32 | lo; }

// A block makes four floats or two doubles.
template <class T>
constexpr int per_block = std::is_same_v<T, float> ? 4 : 2;

struct Uniform {
  [[gnu::always_inline]] static void make(const Block& w, float* out) {
    for (std::size_t i = 0; i < 4; ++i)
      out[i] = static_cast<float>(static_cast<std::int32_t>(w[i] >> 8)) * 0x1p-24f;
  }
  [[gnu::always_inline]] static void make(const Block& w, double* out) {
    for (std::size_t i = 0; i < 2; ++i)
      out[i] = static_cast<double>(static_cast<std::int64_t>(join(w[2 * i], w[2 * i + 1]) >> 11)) * 0x1p-53;
  }
};

// sqrt(-2 ln u) (cos, sin)(2 pi v), with u in (0, 1].
template <class T>
void box_muller(T u, T v, T* out) {
  const T radius = std::sqrt(T(-2) * std::log(u));
  const T angle = T(6.283185307179586476925) * v;
  out[0] = radius * std::cos(angle);
  out[1] = radius * std::sin(angle);
}

struct Normal {
  // All 32 bits of u, so that the tails reach 6.6 deviations.
  static void make(const Block& w, float* out) {
    for (std::size_t i = 0; i < 2; ++i)
      box_muller((static_cast<float>(w[2 * i]) + 1.0f) * 0x1p-32f,
                 static_cast<float>(w[2 * i + 1] >> 8) * 0x1p-24f, out + 2 * i);
  }
  static void make(const Block& w, double* out) {
    box_muller(static_cast<double>((join(w[0], w[1]) >> 11) + 1) * 0x1p-53,
               static_cast<double>(join(w[2], w[3]) >> 11) * 0x1p-53, out);
  }
};

// Elements [first, end); out is where `first` goes. Blocks cut by an end of the range are made whole and
// copied from.
template <class Draw, class T>
void fill_range(Key key, std::uint64_t first, std::uint64_t end, T* out) {
  constexpr std::uint64_t per = per_block<T>;
  const auto part = [&](std::uint64_t stop) {
    T values[per];
    Draw::make(block_of(key, first / per), values);
    out = std::copy_n(values + first % per, stop - first, out);
    first = stop;
  };
  if (first % per != 0) part(std::min(end, (first / per + 1) * per));
  for (; end - first >= per; first += per, out += per) Draw::make(block_of(key, first / per), out);
  if (first < end) part(end);
}

template <class Draw, class T>
void fill(Key key, std::int64_t first, std::int64_t n, T* out) {
  if (n <= 0) return;
  parallel_ranges(n, std::int64_t{1} << 15, [&](std::int64_t begin, std::int64_t end) {
    fill_range<Draw>(key, static_cast<std::uint64_t>(first + begin), static_cast<std::uint64_t>(first + end),
                     out + begin);
  });
}

std::uint64_t fold(std::uint64_t stream, std::uint64_t number, std::uint32_t kind) {
  const Block x = philox_block({low(number), high(number), kind, 0x6f706772}, {low(stream), high(stream)});
  return join(x[0], x[1]);
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  return philox_block(counter, key);
}

std::uint64_t fold_in(std::uint64_t stream, std::uint64_t number) { return fold(stream, number, 0); }

std::uint64_t fold_in(std::uint64_t stream, std::string_view name) {
  stream = fold(stream, name.size(), 1);
  for (std::size_t i = 0; i < name.size(); i += 8) {
    std::uint64_t word = 0;
    for (const char c : name.substr(i, 8)) word = word << 8 | static_cast<unsigned char>(c);
    stream = fold(stream, word, 2);
  }
  return stream;
}

template <class T>
void fill_uniform(Key key, std::int64_t first, std::int64_t n, T* out) {
  fill<Uniform>(key, first, n, out);
}

template <class T>
void fill_normal(Key key, std::int64_t first, std::int64_t n, T* out) {
  fill<Normal>(key, first, n, out);
}

template void fill_uniform(Key, std::int64_t, std::int64_t, float*);
template void fill_uniform(Key, std::int64_t, std::int64_t, double*);
template void fill_normal(Key, std::int64_t, std::int64_t, float*);
template void fill_normal(Key, std::int64_t, std::int64_t, double*);

}  // namespace opgrad
