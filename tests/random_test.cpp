// Random bits: the published vectors, and draws that depend on key and index alone.
#include "../core/random.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <set>
#include <string>
#include <vector>

#include "../core/parallel.h"

using namespace opgrad;

namespace {

template <class T>
using Fill = void (*)(Key, std::int64_t, std::int64_t, T*);

template <class T>
std::vector<T> draw(Fill<T> fill, Key key, std::int64_t first, std::int64_t n) {
  std::vector<T> out(static_cast<std::size_t>(n));
  fill(key, first, n, out.data());
  return out;
}

template <class T>
bool same_bits(const T* a, const T* b, std::int64_t n) {
  return std::memcmp(a, b, static_cast<std::size_t>(n) * sizeof(T)) == 0;
}

template <class T>
void check_pieces(Fill<T> fill) {
  const Key key{42, 7};
  const auto whole = draw<T>(fill, key, 0, 203);
  for (std::int64_t first = 0; first < 12; ++first)
    for (std::int64_t n = 0; n < 30; ++n) {
      std::vector<T> piece(static_cast<std::size_t>(n) + 2, T(-9));
      fill(key, first, n, piece.data() + 1);
      REQUIRE(same_bits(piece.data() + 1, whole.data() + first, n));
      REQUIRE(piece.front() == T(-9));
      REQUIRE(piece.back() == T(-9));
    }
  // Far from the start, where the index needs more than 32 bits of blocks.
  const std::int64_t far = (std::int64_t{1} << 40) + 3;
  const auto there = draw<T>(fill, key, far, 50);
  CHECK(same_bits(draw<T>(fill, key, far + 13, 9).data(), there.data() + 13, 9));
  CHECK_FALSE(same_bits(there.data(), whole.data() + 3, 50));
}

template <class T>
void check_threads(Fill<T> fill) {
  const int before = threads();
  set_threads(1);
  const auto one = draw<T>(fill, {3, 1}, 5, 200'001);
  set_threads(3);
  const auto three = draw<T>(fill, {3, 1}, 5, 200'001);
  set_threads(before);
  CHECK(same_bits(one.data(), three.data(), 200'001));
}

struct Moments {
  double mean, variance, skewness, kurtosis, neighbours;
};
template <class T>
Moments moments(const std::vector<T>& v) {
  const double n = static_cast<double>(v.size());
  double sum = 0;
  for (const T x : v) sum += static_cast<double>(x);
  Moments m{sum / n, 0, 0, 0, 0};
  double last = 0;
  for (const T x : v) {
    const double d = static_cast<double>(x) - m.mean;
    m.variance += d * d / n;
    m.skewness += d * d * d / n;
    m.kurtosis += d * d * d * d / n;
    m.neighbours += d * last / n;
    last = d;
  }
  return m;
}

constexpr std::int64_t many = 1 << 20;

// Bounds are five standard deviations of each estimate from 2^20 values.
template <class T>
void check_uniform_moments() {
  const double n = static_cast<double>(many);
  const auto v = draw<T>(fill_uniform<T>, {1234, 5}, 0, many);
  const Moments m = moments(v);
  CHECK(std::abs(m.mean - 0.5) < 5 * std::sqrt(1. / 12 / n));
  CHECK(std::abs(m.variance - 1. / 12) < 5 * std::sqrt(1. / 180 / n));
  CHECK(std::abs(m.neighbours) < 5 * (1. / 12) / std::sqrt(n));
  CHECK(*std::min_element(v.begin(), v.end()) >= 0);
  CHECK(*std::max_element(v.begin(), v.end()) < 1);
  // 64 equal boxes: chi squared has 63 degrees of freedom, deviation sqrt(126).
  std::vector<double> boxes(64);
  for (const T x : v) ++boxes[static_cast<std::size_t>(x * 64)];
  double chi = 0;
  for (const double b : boxes) chi += (b - n / 64) * (b - n / 64) / (n / 64);
  CHECK(chi > 63 - 5 * std::sqrt(126.));
  CHECK(chi < 63 + 5 * std::sqrt(126.));
}

template <class T>
void check_normal_moments() {
  const double n = static_cast<double>(many);
  const auto v = draw<T>(fill_normal<T>, {99, 2}, 0, many);
  const Moments m = moments(v);
  CHECK(std::abs(m.mean) < 5 / std::sqrt(n));
  CHECK(std::abs(m.variance - 1) < 5 * std::sqrt(2 / n));
  CHECK(std::abs(m.skewness) < 5 * std::sqrt(15 / n));
  CHECK(std::abs(m.kurtosis - 3) < 5 * std::sqrt(96 / n));
  CHECK(std::abs(m.neighbours) < 5 / std::sqrt(n));
  // The share beyond one, two and three deviations.
  for (const double limit : {1., 2., 3.}) {
    const double expected = std::erfc(limit / std::numbers::sqrt2);
    const auto beyond =
        std::count_if(v.begin(), v.end(), [&](T x) { return std::abs(static_cast<double>(x)) > limit; });
    CHECK(std::abs(static_cast<double>(beyond) / n - expected) < 5 * std::sqrt(expected / n));
  }
}

}  // namespace

// kat_vectors of Random123.
TEST_CASE("random: Philox4x32-10 gives the published vectors") {
  using Words = std::array<std::uint32_t, 4>;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(philox({ones, ones, ones, ones}, {ones, ones}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random: elements are made of the documented blocks") {
  const Key key{0x0123456789abcdef, 0xfedcba9876543210};
  const auto words = philox({2, 0, 0x76543210, 0xfedcba98}, {0x89abcdef, 0x01234567});
  const auto f = draw<float>(fill_uniform<float>, key, 8, 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(f[i] == static_cast<float>(words[i] >> 8) / 16777216.0f);
  const auto d = draw<double>(fill_uniform<double>, key, 4, 2);
  for (std::size_t i = 0; i < 2; ++i)
    CHECK(d[i] ==
          std::ldexp(static_cast<double>(words[2 * i] >> 11 | std::uint64_t{words[2 * i + 1]} << 21), -53));
}

TEST_CASE("random: any piece of a draw has the bits of the whole") {
  check_pieces<float>(fill_uniform<float>);
  check_pieces<double>(fill_uniform<double>);
  check_pieces<float>(fill_normal<float>);
  check_pieces<double>(fill_normal<double>);
}

TEST_CASE("random: the bits do not depend on the number of threads") {
  check_threads<float>(fill_uniform<float>);
  check_threads<double>(fill_normal<double>);
}

TEST_CASE("random: uniform draws are even, within bounds derived from their number") {
  check_uniform_moments<float>();
  check_uniform_moments<double>();
}

TEST_CASE("random: normal draws have the normal distribution's moments and tails") {
  check_normal_moments<float>();
  check_normal_moments<double>();
}

TEST_CASE("random: draws with different streams or steps are uncorrelated") {
  const auto base = draw<float>(fill_normal<float>, {7, 0}, 0, many);
  for (const Key other :
       {Key{8, 0}, Key{7, 1}, Key{std::uint64_t{7} << 32, 0}, Key{7, std::uint64_t{1} << 32}}) {
    const auto v = draw<float>(fill_normal<float>, other, 0, many);
    double product = 0;
    for (std::size_t i = 0; i < v.size(); ++i)
      product += static_cast<double>(base[i]) * static_cast<double>(v[i]);
    CHECK(std::abs(product) < 5 * std::sqrt(static_cast<double>(many)));
  }
}

TEST_CASE("random: fold_in tells numbers, names and their order apart") {
  std::set<std::uint64_t> seen;
  std::size_t made = 0;
  const auto add = [&](std::uint64_t s) {
    seen.insert(s);
    ++made;
  };
  for (std::uint64_t i = 0; i < 1000; ++i) {
    add(fold_in(0, i));
    add(fold_in(i + 1, std::uint64_t{0}));
    add(fold_in(0, "layer" + std::to_string(i)));
  }
  add(fold_in(0, ""));
  add(fold_in(0, std::string_view("\0", 1)));
  add(fold_in(0, std::string_view("\0\0", 2)));
  add(fold_in(0, "a name longer than a word"));
  add(fold_in(0, "a name longer than a wore"));
  add(fold_in(fold_in(0, "a"), "b"));
  add(fold_in(fold_in(0, "b"), "a"));
  add(fold_in(0, "ab"));
  CHECK(seen.size() == made);
}

TEST_CASE("random: streams keep their values from release to release") {
  CHECK(fold_in(1, std::uint64_t{2}) == 8319666217107024683u);
  CHECK(fold_in(1, "conv1") == 12129641288315543860u);
}
