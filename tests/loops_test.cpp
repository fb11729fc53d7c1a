// Elementwise loops, packs, dual numbers and reductions: right results, and the same bits whatever the
// instruction set, the number of threads and the strides.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "../core/error.h"
#include "../core/loops.h"
#include "../core/parallel.h"

// A user's namespace, with names of its own that must not get in the way.
namespace user {
struct Wave {};
inline Wave exp(Wave w) { return w; }
constexpr opgrad::Kernel swish = opgrad::map1<[](auto x) { return x / (1 + exp(-x)) + tanh(x) * 0.5; }>;
}  // namespace user

namespace {

using namespace opgrad;

// Sets instructions and threads back at the end of a test.
struct Restore {
  Isa before = isa();
  int threads_before = threads();
  ~Restore() {
    set_isa(before);
    set_threads(threads_before);
  }
};

// Calls f on every instruction set this machine has.
template <class F>
void on_each_isa(F f) {
  const Restore restore;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    set_isa(static_cast<Isa>(i));
    INFO("on " << std::string(name_of(isa())));
    f();
  }
}

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t seed = 1) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (auto& x : v) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    x = static_cast<T>(static_cast<std::int64_t>(seed >> 40) % 2001 - 1000) /
        static_cast<T>(std::is_floating_point_v<T> ? 128 : 1);
  }
  return v;
}

template <class T>
View dense(std::vector<T>& v, const Shape& s) {
  return dense_view(v.data(), {dtype_of<T>, s});
}
// bool arrays: std::vector<bool> has no memory of its own to look at.
View dense_bool(std::vector<std::uint8_t>& v, const Shape& s) {
  return dense_view(v.data(), {DType::bool_, s});
}

void run(const Kernel& k, std::vector<View> in, const View& out) {
  KernelArgs a;
  a.in = in;
  a.out = out;
  k.run(a);
}

// Memory and strides of a view.
struct Layout {
  Shape shape;
  std::vector<std::int64_t> strides;
  std::int64_t origin, memory;
};
const Layout layouts[] = {
    {{}, {}, 0, 1},
    {{7}, {1}, 0, 7},
    {{7}, {0}, 3, 7},
    {{1000}, {-1}, 999, 1000},
    {{1000}, {2}, 0, 2000},
    {{3, 5}, {1, 3}, 0, 15},
    {{3, 5}, {-5, 1}, 10, 15},
    {{4, 1, 6}, {6, 99, -1}, 5, 24},
    {{9, 31}, {0, 1}, 0, 31},
    {{9, 31}, {1, 0}, 0, 9},
    {{2, 3, 4, 5}, {0, 20, 0, 1}, 0, 60},
    {{2, 3, 4, 5}, {1, 8, 2, 24}, 0, 120},
    {{300, 200}, {1, 300}, 0, 60000},
    {{300, 200}, {0, -1}, 199, 200},
    {{200, 300}, {400, 1}, 0, 80000},
    {{0, 4}, {4, 1}, 0, 1},
};
template <class T>
View view_of(std::vector<T>& memory, const Layout& l) {
  View v{memory.data() + l.origin, {dtype_of<T>, l.shape}, {}};
  std::copy(l.strides.begin(), l.strides.end(), v.strides.begin());
  return v;
}
template <class T>
std::vector<T> dense_copy(const View& v) {
  std::vector<T> d(static_cast<std::size_t>(v.numel()) + 1);
  copy(v, dense_view(d.data(), v.type));
  return d;
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class E, class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the instruction set is the lower of the machine's best and OPGRAD_ISA") {
  const Restore restore;
  const char* old = std::getenv("OPGRAD_ISA");
  const std::string kept = old ? old : "";
  for (int i = 0; i < isa_count; ++i) {
    setenv("OPGRAD_ISA", name_of(static_cast<Isa>(i)), 1);
    detail::chosen_isa = -1;
    CHECK(isa() == std::min(static_cast<Isa>(i), best_isa()));
  }
  setenv("OPGRAD_ISA", "sse9", 1);
  detail::chosen_isa = -1;
  CHECK(message_of<UserError>([] { isa(); }).find("'sse9'") != std::string::npos);
  if (old)
    setenv("OPGRAD_ISA", kept.c_str(), 1);
  else
    unsetenv("OPGRAD_ISA");
}

TEST_CASE("an instruction set the machine lacks is refused") {
  const Restore restore;
  set_isa(Isa::baseline);
  CHECK(isa() == Isa::baseline);
  set_isa(best_isa());
  CHECK(isa() == best_isa());
  if (best_isa() < Isa::avx512) CHECK_THROWS_AS(set_isa(Isa::avx512), UserError);
}

TEST_CASE_TEMPLATE(
    "a user's lambda has the value of the formula, with the same bits on every instruction set", T, float,
    double) {
  auto x = numbers<T>(1003);
  std::vector<T> first;
  on_each_isa([&] {
    std::vector<T> y(x.size());
    run(user::swish, {dense(x, {1003})}, dense(y, {1003}));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = static_cast<double>(x[i]), want = v / (1 + std::exp(-v)) + std::tanh(v) * 0.5;
      CHECK(static_cast<double>(y[i]) == doctest::Approx(want).epsilon(sizeof(T) == 4 ? 1e-6 : 1e-14));
    }
    if (first.empty()) first = y;
    CHECK(same_bits(y, first));
  });
}

TEST_CASE_TEMPLATE("strided, flipped, broadcast, empty and rank 0 inputs give the bits of their dense copies",
                   T, float, double, std::int32_t, std::uint8_t) {
  constexpr Kernel formula = map2<[](auto a, auto b) { return a * b + max(a, b) - 3; }, Types::numbers>;
  for (const Layout& l : layouts) {
    CAPTURE(to_string(l.shape));
    auto memory = numbers<T>(l.memory);
    auto other = numbers<T>(l.shape.numel(), 9);
    const View v = view_of(memory, l);
    auto copied = dense_copy<T>(v);
    on_each_isa([&] {
      std::vector<T> want(static_cast<std::size_t>(l.shape.numel())), got(want.size());
      run(formula, {dense(copied, l.shape), dense(other, l.shape)}, dense(want, l.shape));
      run(formula, {v, dense(other, l.shape)}, dense(got, l.shape));
      CHECK(same_bits(got, want));
      run(formula, {dense(other, l.shape), v}, dense(want, l.shape));
      run(formula, {dense(copied, l.shape), dense(other, l.shape)}, dense(got, l.shape));
      if (std::is_integral_v<T>) CHECK(same_bits(got, want));
    });
  }
}

TEST_CASE("a strided result has the elements of the dense one and nothing else is written") {
  constexpr Kernel twice = map1<[](auto a) { return a * 2; }>;
  for (const Layout& l : layouts) {
    if (std::find(l.strides.begin(), l.strides.end(), std::int64_t{0}) != l.strides.end()) continue;
    CAPTURE(to_string(l.shape));
    auto x = numbers<float>(l.shape.numel());
    std::vector<float> memory(static_cast<std::size_t>(l.memory), 12345.0f), want(x.size());
    run(twice, {dense(x, l.shape)}, dense(want, l.shape));
    const View out = view_of(memory, l);
    run(twice, {dense(x, l.shape)}, out);
    auto got = dense_copy<float>(out);
    got.resize(want.size());
    CHECK(same_bits(got, want));
    CHECK(std::count(memory.begin(), memory.end(), 12345.0f) == l.memory - l.shape.numel());
  }
}

TEST_CASE("every length gives the same bits as inside a long array, and writes nothing beyond its end") {
  constexpr Kernel sum = map3<[](auto a, auto b, auto c) { return a * b + c; }>;
  auto x = numbers<float>(130), y = numbers<float>(130, 2), z = numbers<float>(130, 3);
  on_each_isa([&] {
    std::vector<float> all(130);
    run(sum, {dense(x, {130}), dense(y, {130}), dense(z, {130})}, dense(all, {130}));
    for (std::int64_t n = 0; n < 130; ++n) {
      std::vector<float> some(130, -7.0f);
      const View splat{y.data(), {DType::f32, Shape{n}}, {0}};
      run(sum, {dense(x, {n}), dense(y, {n}), dense(z, {n})}, dense(some, {n}));
      CHECK(std::equal(some.begin(), some.begin() + n, all.begin()));
      CHECK(std::all_of(some.begin() + n, some.end(), [](float v) { return v == -7; }));
      run(sum, {dense(x, {n}), splat, dense(z, {n})}, dense(some, {n}));
      for (std::size_t k = 0; k < static_cast<std::size_t>(n); ++k) CHECK(some[k] == x[k] * y[0] + z[k]);
    }
  });
}

TEST_CASE("large arrays have the same bits on any number of threads") {
  const Restore restore;
  auto x = numbers<float>(300000);
  const Shape s{500, 600};
  const View crossed{x.data(), {DType::f32, s}, {1, 500}};
  for (const View& in : {dense(x, s), crossed}) {
    std::vector<float> one(x.size()), many(x.size());
    set_threads(1);
    run(user::swish, {in}, dense(one, s));
    set_threads(3);
    run(user::swish, {in}, dense(many, s));
    CHECK(same_bits(one, many));
  }
}

TEST_CASE("the result may overwrite a dense input") {
  auto x = numbers<float>(1001);
  std::vector<float> y(x.size());
  run(user::swish, {dense(x, {1001})}, dense(y, {1001}));
  run(user::swish, {dense(x, {1001})}, dense(x, {1001}));
  CHECK(same_bits(x, y));
}

TEST_CASE_TEMPLATE("comparisons give bool, and a bool input selects, for every type of number", T, float,
                   double, std::int32_t, std::int64_t, std::uint8_t) {
  constexpr Kernel less =
      map2<[](auto a, auto b) { return (a < b && !(a == 3)) || (a > 90); }, Types::numbers>;
  constexpr Kernel where =
      map3<[](auto m, auto a, auto b) { return select(m, a, b); }, Types::numbers | Types::mask_first>;
  constexpr Kernel gate =
      map2<[](auto m, auto a) { return select(!m, 0, a); }, Types::numbers | Types::mask_first>;
  for (std::int64_t n : {1, 5, 100, 133}) {
    const Shape s{n};
    std::vector<T> a(static_cast<std::size_t>(n)), b(a.size()), chosen(a.size()), gated(a.size());
    for (std::size_t k = 0; k < a.size(); ++k) {
      a[k] = static_cast<T>(k % 97);
      b[k] = static_cast<T>(k * 7 % 89);
    }
    on_each_isa([&] {
      std::vector<std::uint8_t> m(a.size(), 9);
      run(less, {dense(a, s), dense(b, s)}, dense_bool(m, s));
      run(where, {dense_bool(m, s), dense(a, s), dense(b, s)}, dense(chosen, s));
      run(gate, {dense_bool(m, s), dense(a, s)}, dense(gated, s));
      for (std::size_t k = 0; k < a.size(); ++k) {
        CHECK(m[k] == ((a[k] < b[k] && !(a[k] == T{3})) || a[k] > T{90}));
        CHECK(chosen[k] == (m[k] ? a[k] : b[k]));
        CHECK(gated[k] == (m[k] ? a[k] : T{0}));
      }
      const View always{m.data(), {DType::bool_, s}, {0}};
      run(where, {always, dense(a, s), dense(b, s)}, dense(chosen, s));
      CHECK(same_bits(chosen, m[0] ? a : b));
    });
  }
}

TEST_CASE("bool arrays combine by logic") {
  constexpr Kernel logic =
      map3<[](auto a, auto b, auto c) { return ((a && b) || !c) ^ (a == b); }, Types::bools>;
  constexpr Kernel where =
      map3<[](auto a, auto b, auto c) { return select(a, b, c); }, Types::all | Types::mask_first>;
  const std::int64_t n = 200;
  std::vector<std::uint8_t> a(n), b(n), c(n), y(n);
  for (std::size_t k = 0; k < n; ++k) {
    a[k] = k & 1;
    b[k] = k >> 1 & 1;
    c[k] = k >> 2 & 1;
  }
  on_each_isa([&] {
    run(logic, {dense_bool(a, {n}), dense_bool(b, {n}), dense_bool(c, {n})}, dense_bool(y, {n}));
    for (std::size_t k = 0; k < n; ++k) CHECK(y[k] == (((a[k] && b[k]) || !c[k]) != (a[k] == b[k])));
    run(where, {dense_bool(a, {n}), dense_bool(b, {n}), dense_bool(c, {n})}, dense_bool(y, {n}));
    for (std::size_t k = 0; k < n; ++k) CHECK(y[k] == (a[k] ? b[k] : c[k]));
  });
}

TEST_CASE("a kernel refuses dtypes, shapes and numbers of inputs it was not made for") {
  constexpr Kernel floats = map2<[](auto a, auto b) { return a + b; }>;
  constexpr Kernel where =
      map2<[](auto m, auto a) { return select(m, a, 0); }, Types::floats | Types::mask_first>;
  auto f = numbers<float>(4);
  auto d = numbers<double>(4);
  auto i = numbers<std::int32_t>(4);
  const Shape s{4};
  CHECK(message_of<InternalError>([&] {
          run(floats, {dense(i, s), dense(i, s)}, dense(i, s));
        }).find("i32") != std::string::npos);
  CHECK_THROWS_AS(run(floats, {dense(f, s), dense(d, s)}, dense(f, s)), InternalError);
  CHECK_THROWS_AS(run(floats, {dense(f, s), dense(f, s)}, dense(d, s)), InternalError);
  CHECK_THROWS_AS(run(where, {dense(f, s), dense(f, s)}, dense(f, s)), InternalError);
  CHECK_THROWS_AS(run(floats, {dense(f, s)}, dense(f, s)), InternalError);
  CHECK_THROWS_AS(run(floats, {dense(f, s), dense(f, {2, 2})}, dense(f, s)), InternalError);
  const bool has_dual = map1<[](auto a) { return !a; }, Types::bools>.dual != nullptr;
  CHECK(!has_dual);
}

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

namespace {

// The slow way: every element of `in` into its place of `out`.
template <class T, class F>
std::vector<T> naive_fold(const View& in, const Shape& out, T start, F f) {
  auto values = dense_copy<T>(in);
  std::vector<T> result(static_cast<std::size_t>(out.numel()), start);
  for (std::int64_t k = 0; k < in.numel(); ++k) {
    std::int64_t rest = k, to = 0, step = 1;
    for (int i = in.shape().rank() - 1; i >= 0; --i) {
      if (out[i] != 1) to += rest % in.shape()[i] * step;
      step *= out[i];
      rest /= in.shape()[i];
    }
    auto& r = result[static_cast<std::size_t>(to)];
    r = f(r, values[static_cast<std::size_t>(k)]);
  }
  return result;
}

struct Reduction {
  Shape in, out;
};
const Reduction reductions[] = {
    {{}, {}},
    {{1, 1}, {1, 1}},
    {{7}, {1}},
    {{7}, {7}},
    {{31}, {1}},
    {{33}, {1}},
    {{5000}, {1}},
    {{40000}, {1}},
    {{3, 40000}, {3, 1}},
    {{64, 10}, {64, 1}},
    {{64, 10}, {1, 10}},
    {{64, 10}, {1, 1}},
    {{300, 3}, {1, 3}},
    {{1000, 1}, {1, 1}},
    {{700, 17}, {1, 17}},
    {{700, 64}, {1, 64}},
    {{20, 300}, {1, 300}},
    {{600, 150}, {1, 150}},
    {{4, 6, 6, 5}, {1, 1, 1, 5}},
    {{4, 6, 6, 5}, {4, 1, 1, 5}},
    {{4, 6, 6, 5}, {1, 6, 1, 5}},
    {{4, 6, 6, 5}, {1, 6, 1, 1}},
    {{4, 6, 6, 5}, {1, 6, 6, 1}},
    {{4, 6, 1, 5}, {4, 1, 1, 1}},
    {{2, 3, 2, 3, 2, 3}, {1, 3, 1, 3, 1, 3}},
    {{2, 3, 2, 3, 2, 3}, {2, 1, 2, 1, 2, 1}},
    {{2, 600, 3, 40}, {2, 1, 3, 1}},
    {{0, 3}, {1, 3}},
    {{3, 0}, {3, 1}},
    {{0, 3}, {0, 1}},
};

}  // namespace

TEST_CASE_TEMPLATE("sums and maxima of whole numbers are exact over any axes", T, float, double, std::int32_t,
                   std::int64_t, std::uint8_t) {
  for (const Reduction& r : reductions) {
    std::vector<T> x(static_cast<std::size_t>(r.in.numel()) + 1);
    for (std::size_t k = 0; k < x.size(); ++k)
      x[k] = static_cast<T>(k * 2654435761u % 23) - static_cast<T>(std::is_signed_v<T> ? 11 : 0);
    const View in = dense(x, r.in);
    INFO(to_string(r.in) << " -> " << to_string(r.out));
    const T least =
        std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
    const auto sum = naive_fold<T>(in, r.out, T{0}, [](T a, T b) { return static_cast<T>(a + b); });
    const auto max = naive_fold<T>(in, r.out, least, [](T a, T b) { return std::max(a, b); });
    on_each_isa([&] {
      std::vector<T> y(sum.size(), T{99});
      reduce_sum(in, dense(y, r.out));
      CHECK(y == sum);
      reduce_max(in, dense(y, r.out));
      CHECK(y == max);
    });
  }
}

TEST_CASE_TEMPLATE("a sum has the same bits for any strides, instructions and threads", T, float, double) {
  const Restore restore;
  struct Case {
    Layout layout;
    Shape out;
  };
  const Case cases[] = {
      {{{300, 200}, {1, 300}, 0, 60000}, {300, 1}},
      {{{300, 200}, {1, 300}, 0, 60000}, {1, 200}},
      {{{300, 200}, {1, 300}, 0, 60000}, {1, 1}},
      {{{40000}, {-1}, 39999, 40000}, {1}},
      {{{40000}, {3}, 0, 120000}, {1}},
      {{{500, 40}, {0, 1}, 0, 40}, {1, 40}},
      {{{500, 40}, {1, 0}, 0, 500}, {500, 1}},
      {{{6, 50, 70}, {70, 420, 1}, 0, 21000}, {6, 1, 70}},
      {{{6, 50, 70}, {70, 420, 1}, 0, 21000}, {1, 50, 1}},
      {{{2, 20000, 3}, {3, 6, 1}, 0, 120000}, {2, 1, 3}},
      {{{900, 300}, {1, 900}, 0, 270000}, {1, 300}},
  };
  for (const Case& c : cases) {
    INFO(to_string(c.layout.shape) << " -> " << to_string(c.out));
    auto memory = numbers<T>(c.layout.memory);
    for (auto& x : memory) x = x / T{3} + x * x;
    const View strided = view_of(memory, c.layout);
    auto copied = dense_copy<T>(strided);
    std::vector<T> first(static_cast<std::size_t>(c.out.numel()));
    set_isa(Isa::baseline);
    set_threads(1);
    reduce_sum(dense(copied, c.layout.shape), dense(first, c.out));
    for (int n : {1, 3}) {
      set_threads(n);
      for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
        set_isa(static_cast<Isa>(i));
        std::vector<T> y(first.size()), spread(first.size() * 2);
        reduce_sum(dense(copied, c.layout.shape), dense(y, c.out));
        CHECK(same_bits(y, first));
        reduce_sum(strided, dense(y, c.out));
        CHECK(same_bits(y, first));
        View gaps = dense(spread, c.out);
        for (auto& s : gaps.strides) s *= 2;
        reduce_sum(strided, gaps);
        for (std::size_t k = 0; k < y.size(); ++k) CHECK(spread[2 * k] == first[k]);
      }
    }
  }
}

TEST_CASE("the error of a long float sum is that of a pairwise sum") {
  const std::int64_t n = 1 << 20;
  std::vector<float> x(n), rows(1), columns(4);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = 1 + static_cast<float>(k * 2654435761u % 1000) / 1000;
  double exact = 0;
  for (float v : x) exact += static_cast<double>(v);
  reduce_sum(dense(x, {n}), dense(rows, {1}));
  CHECK(std::fabs(static_cast<double>(rows[0]) - exact) / exact < 5e-7);
  reduce_sum(dense(x, {n / 4, 4}), dense(columns, {1, 4}));
  CHECK(std::fabs(static_cast<double>(columns[0] + columns[1] + columns[2] + columns[3]) - exact) / exact <
        5e-7);
}

TEST_CASE("a lone minus zero stays one in a sum; the sum of nothing is plus zero") {
  for (std::int64_t n : {1, 3, 40}) {
    std::vector<float> x(static_cast<std::size_t>(n), -0.0f), y = {5};
    reduce_sum(dense(x, {n, 1}), dense(y, {1, 1}));
    CHECK(y[0] == 0);
    CHECK(std::signbit(y[0]));
  }
  std::vector<float> none, y = {5};
  reduce_sum(dense(none, {0}), dense(y, {1}));
  CHECK(y[0] == 0);
  CHECK(!std::signbit(y[0]));
}

TEST_CASE("a maximum is NaN if any element is") {
  on_each_isa([] {
    for (std::size_t at = 0; at < 100; ++at) {
      std::vector<float> x(100, 3), y(1), columns(10);
      x[at] = NAN;
      reduce_max(dense(x, {100}), dense(y, {1}));
      CHECK(std::isnan(y[0]));
      reduce_max(dense(x, {10, 10}), dense(columns, {1, 10}));
      for (std::size_t c = 0; c < 10; ++c) CHECK(std::isnan(columns[c]) == (c == at % 10));
    }
  });
}

namespace {
struct Product {
  static constexpr double identity = 1, empty = 1;
  template <class X>
  X operator()(const X& a, const X& b) const {
    return a * b;
  }
};
}  // namespace

TEST_CASE("a user's fold runs on packs and on dual numbers") {
  constexpr Kernel product = fold<Product, Types::floats>;
  std::vector<double> x = {2, 3, 4, 5, 6, 7}, y(2);
  run(product, {dense(x, {2, 3})}, dense(y, {2, 1}));
  CHECK(y[0] == 24);
  CHECK(y[1] == 210);
  Dual in[] = {{2, 1}, 3, 4, 5, {6, 1}, 7}, out[2];
  const View v[] = {dense_view(in, {DType::f64, Shape{2, 3}})};
  KernelArgs a;
  a.in = v;
  a.out = dense_view(out, {DType::f64, Shape{2, 1}});
  product.dual(a);
  CHECK(out[0].v == 24);
  CHECK(out[0].d == 12);
  CHECK(out[1].d == 35);
}

TEST_CASE("a fold to a shape it cannot have, or of a dtype it was not made for, is an internal error") {
  std::vector<float> x(6), y(6);
  std::vector<double> d(6);
  CHECK_THROWS_AS(reduce_sum(dense(x, {2, 3}), dense(y, {2, 2})), InternalError);
  CHECK_THROWS_AS(reduce_sum(dense(x, {2, 3}), dense(y, {2})), InternalError);
  CHECK_THROWS_AS(reduce_sum(dense(x, {2, 3}), dense(d, {2, 1})), InternalError);
  std::vector<std::int32_t> i(6);
  CHECK_THROWS_AS(run(fold<Product, Types::floats>, {dense(i, {6})}, dense(i, {1})), InternalError);
}

TEST_CASE_TEMPLATE("argmax is the first of the greatest along any axis", T, float, double, std::int32_t,
                   std::uint8_t) {
  std::vector<T> x(4 * 50 * 3);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<T>(k * 2654435761u % 11);
  View in = dense(x, {4, 50, 3});
  for (int axis = 0; axis < 3; ++axis) {
    std::vector<std::int64_t> dims(in.shape().begin(), in.shape().end());
    dims[static_cast<std::size_t>(axis)] = 1;
    const Shape out_shape{std::span<const std::int64_t>(dims)};
    std::vector<std::int64_t> y(static_cast<std::size_t>(out_shape.numel()));
    reduce_argmax(in, axis, dense(y, out_shape));
    const std::int64_t stride = in.strides[static_cast<std::size_t>(axis)], n = in.shape()[axis];
    for (std::size_t k = 0; k < y.size(); ++k) {
      const T* head = x.data() + static_cast<std::int64_t>(k) / stride * stride * n +
                      static_cast<std::int64_t>(k) % stride;
      std::int64_t best = 0;
      for (std::int64_t i = 0; i < n; ++i)
        if (head[i * stride] > head[best * stride]) best = i;
      CHECK(y[k] == best);
    }
  }
}

TEST_CASE("argmax counts NaN as the greatest, the first one wins, and walks backwards, too") {
  std::vector<float> x = {1, 5, NAN, 9, NAN, 2};
  std::vector<std::int64_t> y(1);
  reduce_argmax(dense(x, {6}), 0, dense(y, {1}));
  CHECK(y[0] == 2);
  View flipped = dense_view(x.data() + 5, {DType::f32, Shape{6}});
  flipped.strides[0] = -1;
  reduce_argmax(flipped, 0, dense(y, {1}));
  CHECK(y[0] == 1);
  x[0] = NAN;
  reduce_argmax(dense(x, {6}), 0, dense(y, {1}));
  CHECK(y[0] == 0);
  std::vector<float> none;
  CHECK_THROWS_AS(reduce_argmax(dense(none, {0}), 0, dense(y, {1})), InternalError);
  CHECK_THROWS_AS(reduce_argmax(dense(x, {6}), 1, dense(y, {1})), InternalError);
}
