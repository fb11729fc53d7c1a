// Dual numbers: a kernel's values and slopes, its conventions at ties, and the views it takes.
#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "loops.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

using kernel::Dual;

// The value and derivative of a kernel's dual side at x.
Dual dual_of(const Kernel& k, double x) {
  Dual in(x, 1), out;
  const View v[] = {dense_view(&in, {DType::f64, Shape{}})};
  KernelArgs a;
  a.in = v;
  a.out = dense_view(&out, {DType::f64, Shape{}});
  k.dual(a);
  return out;
}

}  // namespace

TEST_CASE("every function of dual numbers has its pack's value and the slope of that value") {
  struct One {
    const char* name;
    Kernel k;
    double low, high;
  };
  const One all[] = {
      {"+", map1<[](auto x) { return x + 2 + x; }>, -3, 3},
      {"-", map1<[](auto x) { return 1 - x - x * 3; }>, -3, 3},
      {"neg", map1<[](auto x) { return -x; }>, -3, 3},
      {"*", map1<[](auto x) { return x * x * 0.5; }>, -3, 3},
      {"/", map1<[](auto x) { return (x + 1) / (x * x + 2); }>, -3, 3},
      {"max", map1<[](auto x) { return max(x, 0.3) + max(0, x * x); }>, -2, 2},
      {"min", map1<[](auto x) { return min(x, 0.3) + min(1, x * x); }>, -2, 2},
      {"abs", map1<[](auto x) { return abs(x); }>, -2, 2},
      {"copysign", map1<[](auto x) { return copysign(x * x, -x); }>, -2, 2},
      {"select", map1<[](auto x) { return select(x > 0.1, x * x, 0.5 * x); }>, -2, 2},
      {"floor", map1<[](auto x) { return floor(x) * x + ceil(x) + round(x); }>, -2, 2},
      {"sqrt", map1<[](auto x) { return sqrt(x); }>, 0.1, 4},
      {"exp", map1<[](auto x) { return exp(x); }>, -3, 3},
      {"expm1", map1<[](auto x) { return expm1(x); }>, -3, 3},
      {"log", map1<[](auto x) { return log(x); }>, 0.1, 5},
      {"log1p", map1<[](auto x) { return log1p(x); }>, -0.9, 5},
      {"sin", map1<[](auto x) { return sin(x); }>, -5, 5},
      {"cos", map1<[](auto x) { return cos(x); }>, -5, 5},
      {"tanh", map1<[](auto x) { return tanh(x); }>, -4, 4},
      {"sigmoid", map1<[](auto x) { return sigmoid(x); }>, -6, 6},
      {"erf", map1<[](auto x) { return erf(x); }>, -3, 3},
      {"pow", map1<[](auto x) { return pow(x, 2.5) + pow(1.5, x) + pow(x, x); }>, 0.2, 3},
      {"square", map1<[](auto x) { return pow(x, 2) + pow(x, 3); }>, -3, 3},
  };
  for (const One& f : all)
    for (int i = 0; i < 50; ++i) {
      const double x = f.low + (f.high - f.low) * (i + 0.37) / 50, h = 1e-5;
      const Dual y = dual_of(f.k, x);
      std::vector<double> points = {x, x - h, x + h, x - 2 * h, x + 2 * h}, v(5);
      run(f.k, {dense(points, {5})}, dense(v, {5}));
      INFO(std::string(f.name) << " at " << x);
      CHECK(y.v == doctest::Approx(v[0]).epsilon(1e-14));
      CHECK(y.d == doctest::Approx((8 * (v[2] - v[1]) - (v[4] - v[3])) / (12 * h)).epsilon(1e-8));
    }
}

TEST_CASE("dual numbers at ties and at zero keep to their conventions") {
  CHECK(dual_of(map1<[](auto x) { return max(x, x * 2); }>, 0).d == 1);
  CHECK(dual_of(map1<[](auto x) { return min(x * 2, x); }>, 0).d == 2);
  CHECK(dual_of(map1<[](auto x) { return abs(x); }>, 0).d == 0);
  CHECK(dual_of(map1<[](auto x) { return pow(x, 2); }>, 0).d == 0);
  CHECK(dual_of(map1<[](auto x) { return pow(x, 1); }>, 0).d == 1);
  CHECK(dual_of(map1<[](auto x) { return pow(x, 0); }>, 0).d == 0);
  CHECK(std::isnan(dual_of(map1<[](auto x) { return max(1, x); }>, NAN).v));
}

TEST_CASE("the dual side takes bool inputs as bool, gives bool results, and walks any strides") {
  constexpr Kernel where =
      map3<[](auto m, auto a, auto b) { return select(m, a * a, b); }, Types::floats | Types::mask_first>;
  constexpr Kernel less = map2<[](auto a, auto b) { return a < b; }>;
  bool m[] = {true, false, true};
  Dual a[] = {{1, 1}, {2, 1}, {3, 1}}, b[] = {{7, 5}, {8, 5}, {9, 5}}, y[3];
  View flipped = dense_view(a + 2, {DType::f64, Shape{3}});
  flipped.strides[0] = -1;
  const View in[] = {dense_view(m, {DType::bool_, Shape{3}}), flipped, dense_view(b, {DType::f64, Shape{3}})};
  KernelArgs k;
  k.in = in;
  k.out = dense_view(y, {DType::f64, Shape{3}});
  where.dual(k);
  CHECK(y[0].v == 9);
  CHECK(y[0].d == 6);
  CHECK(y[1].v == 8);
  CHECK(y[1].d == 5);
  CHECK(y[2].d == 2);
  k.in = std::span(in).subspan(1);
  k.out = dense_view(m, {DType::bool_, Shape{3}});
  less.dual(k);
  CHECK(m[0]);
}
