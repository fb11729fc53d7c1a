// Vector maths: claimed errors, special values, and equal bits on every instruction set.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../core/loops.h"
#include "../core/parallel.h"

namespace {

using namespace opgrad;

struct RestoreIsa {
  Isa before = isa();
  ~RestoreIsa() { set_isa(before); }
};

// One function: its kernel, its value in double and in long double, and the error it claims.
struct Function {
  const char* name;
  Kernel kernel;
  double (*wide)(double);
  long double (*wider)(long double);
  double ulp_f32, ulp_f64;
};

template <class W>
W true_sigmoid(W x) {
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

const Function functions[] = {
    {"sqrt", map1<[](auto x) { return sqrt(x); }>, std::sqrt, std::sqrt, 0.5, 0.5},
    {"exp", map1<[](auto x) { return exp(x); }>, std::exp, std::exp, 1, 1},
    {"expm1", map1<[](auto x) { return expm1(x); }>, std::expm1, std::expm1, 1, 1},
    {"log", map1<[](auto x) { return log(x); }>, std::log, std::log, 1, 1},
    {"log1p", map1<[](auto x) { return log1p(x); }>, std::log1p, std::log1p, 1, 1},
    {"sin", map1<[](auto x) { return sin(x); }>, std::sin, std::sin, 1, 1},
    {"cos", map1<[](auto x) { return cos(x); }>, std::cos, std::cos, 1, 1},
    {"erf", map1<[](auto x) { return erf(x); }>, std::erf, std::erf, 1, 1},
    {"tanh", map1<[](auto x) { return tanh(x); }>, std::tanh, std::tanh, 1.5, 1},
    {"sigmoid", map1<[](auto x) { return sigmoid(x); }>, true_sigmoid<double>, true_sigmoid<long double>, 3,
     3},
};

template <class T>
void run(const Kernel& k, const T* x, T* y, std::int64_t n) {
  const Type type{dtype_of<T>, Shape{n}};
  const View in[] = {dense_view(const_cast<T*>(x), type)};
  KernelArgs a;
  a.in = in;
  a.out = dense_view(y, type);
  k.run(a);
}

template <class T>
bool same(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

// How far y is from the true value, in units of the last place of the true value; huge where a NaN, an
// infinity or the sign of a zero is wrong. W is wider than T.
template <class T, class W>
double ulps(T y, W truth) {
  constexpr double wrong = 1e30;
  if (same(y, static_cast<T>(truth))) return 0.5;  // most results by far, and so without the costly rest
  using Limits = std::numeric_limits<T>;
  if (std::isnan(truth) || std::isnan(y) || truth == 0) return wrong;
  const W size = std::fabs(truth);
  if (std::isinf(y) || std::isinf(truth))
    return std::signbit(y) == std::signbit(truth) && std::isinf(y) && size >= static_cast<W>(Limits::max())
               ? 0
               : wrong;
  const int exponent = std::max(std::ilogb(truth), Limits::min_exponent - 1);
  return static_cast<double>(std::fabs(static_cast<W>(y) - truth) /
                             std::ldexp(W{1}, exponent - Limits::digits + 1));
}

std::uint64_t scramble(std::uint64_t i) {  // splitmix64
  i = (i + 1) * 0x9e3779b97f4a7c15u;
  i = (i ^ (i >> 30)) * 0xbf58476d1ce4e5b9u;
  i = (i ^ (i >> 27)) * 0x94d049bb133111ebu;
  return i ^ (i >> 31);
}

constexpr std::int64_t batch = 1 << 18, part = 1 << 12;

struct Findings {
  double ulp = 0, at = 0;      // the worst error, and where
  std::int64_t differing = 0;  // results whose bits differ between instruction sets
};

// Runs f on one batch of x on every instruction set this machine has.
template <class T, class W>
void examine(const Function& f, W (*truth)(W), const std::vector<T>& x, Findings& all) {
  const RestoreIsa restore;
  std::vector<std::vector<T>> y;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    set_isa(static_cast<Isa>(i));
    y.emplace_back(x.size());
    run(f.kernel, x.data(), y.back().data(), static_cast<std::int64_t>(x.size()));
  }
  std::vector<Findings> found(x.size() / part);
  parallel_for(static_cast<std::int64_t>(found.size()), [&](std::int64_t p) {
    Findings& own = found[static_cast<std::size_t>(p)];
    for (auto k = static_cast<std::size_t>(p * part); k < static_cast<std::size_t>((p + 1) * part); ++k) {
      for (const auto& other : y) own.differing += !same(other[k], y[0][k]);
      const double e = ulps(y[0][k], truth(static_cast<W>(x[k])));
      if (e > own.ulp) {
        own.ulp = e;
        own.at = static_cast<double>(x[k]);
      }
    }
  });
  for (const Findings& own : found) {
    all.differing += own.differing;
    if (own.ulp > all.ulp) {
      all.ulp = own.ulp;
      all.at = own.at;
    }
  }
}

// The claims hold on `batches` batches of the numbers number(0), number(1), ...
template <class T, class W, class Number>
void check(const Function& f, W (*truth)(W), double claimed, std::int64_t batches, Number number) {
  Findings all;
  std::vector<T> x(batch);
  for (std::int64_t b = 0; b < batches; ++b) {
    for (std::int64_t k = 0; k < batch; ++k)
      x[static_cast<std::size_t>(k)] = number(static_cast<std::uint64_t>(b * batch + k));
    examine<T, W>(f, truth, x, all);
  }
  INFO(std::string(f.name) << " is off by " << all.ulp << " ULP at " << all.at);
  CHECK(all.ulp <= claimed);
  CHECK(all.differing == 0);
}

}  // namespace

TEST_CASE("float functions keep their claimed error, with equal bits on every instruction set") {
  for (const Function& f : functions)
    check<float, double>(f, f.wide, f.ulp_f32, 4, [](std::uint64_t i) {
      return std::bit_cast<float>(static_cast<std::uint32_t>(scramble(i)));
    });
}

TEST_CASE("float functions keep their claimed error where networks use them") {
  for (const Function& f : functions)
    check<float, double>(f, f.wide, f.ulp_f32, 2, [](std::uint64_t i) {
      return static_cast<float>(std::ldexp(static_cast<double>(scramble(i) >> 11), -48)) - 16;
    });
}

TEST_CASE("all 2^32 floats [long]" * doctest::skip()) {
  for (const Function& f : functions)
    check<float, double>(f, f.wide, f.ulp_f32, (std::int64_t{1} << 32) / batch,
                         [](std::uint64_t i) { return std::bit_cast<float>(static_cast<std::uint32_t>(i)); });
}

TEST_CASE("double functions keep their claimed error, with equal bits on every instruction set") {
  for (const Function& f : functions) {
    check<double, long double>(f, f.wider, f.ulp_f64, 1,
                               [](std::uint64_t i) { return std::bit_cast<double>(scramble(i)); });
    check<double, long double>(f, f.wider, f.ulp_f64, 1, [](std::uint64_t i) {
      return std::ldexp(static_cast<double>(scramble(i) >> 11), -48) - 16;
    });
  }
}

TEST_CASE_TEMPLATE("special values are right in every function and on every instruction set", T, float,
                   double) {
  using L = std::numeric_limits<T>;
  const RestoreIsa restore;
  const std::vector<T> x = {T{0},
                            -T{0},
                            L::infinity(),
                            -L::infinity(),
                            L::quiet_NaN(),
                            L::max(),
                            L::lowest(),
                            L::min(),
                            -L::min(),
                            L::denorm_min(),
                            -L::denorm_min(),
                            T{1},
                            T{-1},
                            T{2},
                            T{-0.5},
                            std::nextafter(T{-1}, T{0}),
                            std::nextafter(T{1}, T{0}),
                            std::nextafter(T{-1}, T{-2})};
  for (const Function& f : functions)
    for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
      set_isa(static_cast<Isa>(i));
      std::vector<T> y(x.size());
      run(f.kernel, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
      for (std::size_t k = 0; k < x.size(); ++k) {
        INFO(std::string(f.name) << "(" << x[k] << ") = " << y[k]);
        CHECK(ulps(y[k], f.wider(static_cast<long double>(x[k]))) <= std::max(f.ulp_f32, f.ulp_f64));
      }
    }
}

TEST_CASE_TEMPLATE("elements of the last, partial pack have the bits they have inside a long array", T, float,
                   double) {
  const RestoreIsa restore;
  constexpr std::int64_t most = 2 * 64 / sizeof(T) + 1;
  std::vector<T> x(most), all(most), some(most + 1);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<T>(0.37) * static_cast<T>(k) - 3;
  for (const Function& f : functions)
    for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
      set_isa(static_cast<Isa>(i));
      run(f.kernel, x.data(), all.data(), most);
      for (std::int64_t n = 0; n <= most; ++n) {
        std::fill(some.begin(), some.end(), T{77});
        run(f.kernel, x.data(), some.data(), n);
        std::int64_t wrong = 0;
        for (std::int64_t k = 0; k <= most; ++k) {
          const auto at = static_cast<std::size_t>(k);
          wrong += k < n ? !same(some[at], all[at]) : some[at] != T{77};
        }
        INFO(std::string(f.name) << ", n = " << n);
        CHECK(wrong == 0);
      }
    }
}

TEST_CASE_TEMPLATE("pow keeps its claimed error and C's special values, with equal bits everywhere", T, float,
                   double) {
  using L = std::numeric_limits<T>;
  const RestoreIsa restore;
  std::vector<T> x, y;
  const T special[] = {T{0},
                       -T{0},
                       T{1},
                       T{-1},
                       T{2},
                       T{-2},
                       T{3},
                       T{-3},
                       T{0.5},
                       T{-0.5},
                       T{1} / 3,
                       L::infinity(),
                       -L::infinity(),
                       L::quiet_NaN(),
                       L::max(),
                       L::min(),
                       L::denorm_min(),
                       static_cast<T>(1e-20),
                       static_cast<T>(-1e20)};
  for (T a : special)
    for (T b : special) {
      x.push_back(a);
      y.push_back(b);
    }
  for (std::uint64_t i = 0; i < (1 << 18); ++i) {
    x.push_back(static_cast<T>(std::exp2(static_cast<double>(scramble(2 * i) >> 11) * 0x1p-53 * 60 - 30)));
    y.push_back(static_cast<T>(static_cast<double>(scramble(2 * i + 1) >> 11) * 0x1p-53 * 8 - 4));
  }
  const auto n = static_cast<std::int64_t>(x.size());
  const Type type{dtype_of<T>, Shape{n}};
  const View in[] = {dense_view(x.data(), type), dense_view(y.data(), type)};
  KernelArgs a;
  a.in = in;
  std::vector<std::vector<T>> z;
  constexpr Kernel power = map2<[](auto base, auto exponent) { return pow(base, exponent); }>;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    set_isa(static_cast<Isa>(i));
    a.out = dense_view(z.emplace_back(x.size()).data(), type);
    power.run(a);
  }
  double worst = 0;
  std::int64_t differing = 0;
  for (std::size_t k = 0; k < x.size(); ++k) {
    for (const auto& other : z) differing += !same(other[k], z[0][k]);
    const double e = ulps(z[0][k], std::pow(static_cast<long double>(x[k]), static_cast<long double>(y[k])));
    if (e > 1) {
      INFO("pow(" << x[k] << ", " << y[k] << ") = " << z[0][k]);
      CHECK(e <= 1);
    }
    worst = std::max(worst, e);
  }
  CHECK(differing == 0);
  CHECK(worst > 0.5);  // the comparison is not vacuous
}

TEST_CASE("plain numbers mix with pow on either side") {
  const float x[] = {0.5f, 3};
  float y[2];
  run(map1<[](auto a) { return pow(a, 2) + pow(2, a); }>, x, y, 2);
  CHECK(y[0] == doctest::Approx(0.25 + std::sqrt(2.0)));
  CHECK(y[1] == doctest::Approx(17));
}
