// Functions of packs and numbers where they are easily wrong: NaN, zeros and their signs, ties, halves,
// overflow.
#include "../core/pack.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "loops.h"

using namespace opgrad;
using namespace opgrad::test;

TEST_CASE_TEMPLATE("max and min are NaN if either side is; ties return the left", T, float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN(), inf = std::numeric_limits<T>::infinity();
  std::vector<T> a = {nan, 1, nan, T{0}, -T{0}, 2, inf, -inf, inf};
  std::vector<T> b = {1, nan, nan, -T{0}, T{0}, 3, -inf, nan, inf}, hi(a.size()), lo(a.size());
  const Shape s{static_cast<std::int64_t>(a.size())};
  on_each_isa([&] {
    run(map2<[](auto x, auto y) { return max(x, y); }>, {dense(a, s), dense(b, s)}, dense(hi, s));
    run(map2<[](auto x, auto y) { return min(x, y); }>, {dense(a, s), dense(b, s)}, dense(lo, s));
    for (std::size_t k = 0; k < a.size(); ++k) {
      if (std::isnan(a[k]) || std::isnan(b[k])) {
        CHECK(std::isnan(hi[k]));
        CHECK(std::isnan(lo[k]));
      } else {
        CHECK(hi[k] == std::max(a[k], b[k]));
        CHECK(lo[k] == std::min(a[k], b[k]));
      }
    }
    CHECK(!std::signbit(hi[3]));
    CHECK(std::signbit(hi[4]));
    CHECK(!std::signbit(lo[3]));
    CHECK(std::signbit(lo[4]));
  });
}

TEST_CASE_TEMPLATE("abs, copysign, floor, ceil and round have the bits of the C library's", T, float,
                   double) {
  using L = std::numeric_limits<T>;
  std::vector<T> x = numbers<T>(500);
  for (T v : {T{0}, T{0.5}, T{1.5}, T{2.5}, T{0.25}, L::min(), L::denorm_min(), L::max(), L::infinity(),
              T{1} / L::epsilon(), T{1} / L::epsilon() - T{0.5}, T{0.5} / L::epsilon() + T{0.5}})
    for (T sign : {T{1}, T{-1}}) x.push_back(sign * v);
  const Shape s{static_cast<std::int64_t>(x.size())};
  std::vector<T> y(x.size()), want(x.size());
  on_each_isa([&] {
    const auto check = [&](const Kernel& k, T (*truth)(T)) {
      run(k, {dense(x, s)}, dense(y, s));
      std::transform(x.begin(), x.end(), want.begin(), truth);
      CHECK(same_bits(y, want));
    };
    check(map1<[](auto v) { return abs(v); }>, [](T v) { return std::fabs(v); });
    check(map1<[](auto v) { return floor(v); }>, [](T v) { return std::floor(v); });
    check(map1<[](auto v) { return ceil(v); }>, [](T v) { return std::ceil(v); });
    check(map1<[](auto v) { return round(v); }>, [](T v) { return std::nearbyint(v); });
    check(map1<[](auto v) { return copysign(decltype(v)(3), v); }>,
          [](T v) { return std::copysign(T{3}, v); });
  });
  std::vector<T> nan = {L::quiet_NaN()};
  run(map1<[](auto v) { return floor(v) + ceil(v) + round(v) + abs(v); }>, {dense(nan, {1})},
      dense(nan, {1}));
  CHECK(std::isnan(nan[0]));
}

TEST_CASE("a plain number keeps the sign of its zero in a pack") {
  std::vector<float> x = {1}, y = {1};
  run(map1<[](auto v) { return v * 0 + -0.0 - v * 0; }>, {dense(x, {1})}, dense(y, {1}));
  CHECK(!std::signbit(y[0]));
  run(map1<[](auto) { return -0.0; }>, {dense(x, {1})}, dense(y, {1}));
  CHECK(std::signbit(y[0]));
}

TEST_CASE_TEMPLATE("integers wrap around, and division by zero is zero", T, std::int32_t, std::int64_t,
                   std::uint8_t) {
  using L = std::numeric_limits<T>;
  std::vector<T> a = {L::max(), L::min(), L::min(), 7, 7, 100}, b = {1, static_cast<T>(-1), 1, 0, 2, 7}, y(6);
  const Shape s{6};
  on_each_isa([&] {
    run(map2<[](auto x, auto z) { return x + z; }, Types::integers>, {dense(a, s), dense(b, s)}, dense(y, s));
    CHECK(y[0] == L::min());
    run(map2<[](auto x, auto z) { return x - z; }, Types::integers>, {dense(a, s), dense(b, s)}, dense(y, s));
    CHECK(y[2] == L::max());
    run(map2<[](auto x, auto z) { return x / z; }, Types::integers>, {dense(a, s), dense(b, s)}, dense(y, s));
    CHECK(y[1] == (std::is_signed_v<T> ? L::min() : T{0}));
    CHECK(y[3] == 0);
    CHECK(y[4] == 3);
    CHECK(y[5] == 14);
    run(map1<[](auto x) { return abs(-x * x); }, Types::integers>, {dense(a, s)}, dense(y, s));
    CHECK(y[3] == static_cast<T>(std::is_signed_v<T> ? 49 : 256 - 49));
  });
}
