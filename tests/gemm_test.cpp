// Matrix products against plain loops, and the choice of OpenBLAS's kernels.
#include "../core/gemm.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../core/parallel.h"
#include "skipped.h"

using namespace opgrad;

extern "C" {
[[gnu::weak]] void gotoblas_dynamic_quit(void);
[[gnu::weak]] void gotoblas_dynamic_init(void);
}

namespace {

std::uint32_t state = 1;
template <class T>
T small_integer() {
  state = state * 1664525 + 1013904223;
  return static_cast<T>(static_cast<int>(state >> 24) % 9 - 4);
}

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

template <class T>
struct Case {
  std::int64_t m, n, k;
  bool ta, tb, accumulate;
  std::int64_t gap;  // how much the leading dimensions exceed the rows
  std::vector<T> a, b, before;
  std::int64_t lda = 0, ldb = 0, ldc = 0;

  Case(std::int64_t rows, std::int64_t cols, std::int64_t inner, bool transpose_a, bool transpose_b, bool add,
       std::int64_t extra)
      : m(rows), n(cols), k(inner), ta(transpose_a), tb(transpose_b), accumulate(add), gap(extra) {
    lda = (ta ? m : k) + gap;
    ldb = (tb ? k : n) + gap;
    ldc = n + gap;
    a.resize(size(lda * (ta ? k : m) + 1));
    b.resize(size(ldb * (tb ? n : k) + 1));
    before.resize(size(ldc * m + 1));
    for (T& x : a) x = small_integer<T>();
    for (T& x : b) x = small_integer<T>();
    // What is not added to must not matter, and gaps must stay.
    for (T& x : before) x = accumulate ? small_integer<T>() : std::numeric_limits<T>::quiet_NaN();
  }

  Matrix<T> left() const { return {a.data(), lda, ta}; }
  Matrix<T> right() const { return {b.data(), ldb, tb}; }

  template <class F>
  std::vector<T> run(F product) const {
    std::vector<T> c = before;
    product(m, n, k, left(), right(), c.data(), ldc, accumulate);
    return c;
  }

  std::vector<T> expected() const {
    std::vector<T> c = before;
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        T sum = accumulate ? c[size(i * ldc + j)] : T(0);
        for (std::int64_t l = 0; l < k; ++l)
          sum += a[size(ta ? l * lda + i : i * lda + l)] * b[size(tb ? j * ldb + l : l * ldb + j)];
        c[size(i * ldc + j)] = sum;
      }
    return c;
  }
};

template <class T>
bool same(const std::vector<T>& x, const std::vector<T>& y) {
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!(x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])))) return false;
  return x.size() == y.size();
}

template <class T>
void check(std::int64_t m, std::int64_t n, std::int64_t k) {
  for (int variant = 0; variant < 16; ++variant) {
    const Case<T> c(m, n, k, variant & 1, variant & 2, variant & 4, variant & 8 ? 3 : 0);
    INFO(sizeof(T) * 8 << "-bit " << m << " x " << n << " x " << k << ", variant " << variant);
    const auto expected = c.expected();
    CHECK(same(c.run(gemm<T>), expected));
    CHECK(same(c.run(gemm_tile<T>), expected));
  }
}

struct Threads {
  explicit Threads(int n) : before(threads()) { set_threads(n); }
  ~Threads() { set_threads(before); }
  int before;
};

struct CoreType {
  explicit CoreType(const char* value) {
    if (const char* old = std::getenv("OPENBLAS_CORETYPE")) before = old;
    set(value);
  }
  ~CoreType() { set(before ? before->c_str() : nullptr); }
  static void set(const char* value) {
    if (value)
      setenv("OPENBLAS_CORETYPE", value, 1);
    else
      unsetenv("OPENBLAS_CORETYPE");
  }
  std::optional<std::string> before;
};

// Runs OpenBLAS on the kernels named while it lives.
struct Kernels {
  explicit Kernels(const char* name) : before(blas_kernels().in_use) { load(name); }
  ~Kernels() { load(before.c_str()); }
  static void load(const char* name) {
    const CoreType set(name);
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
  }
  std::string before;
};

// Prescott's kernels are there and older than this processor.
bool can_fall_back() {
#if defined(__x86_64__)
  return gotoblas_dynamic_quit && gotoblas_dynamic_init && __builtin_cpu_supports("avx2") &&
         __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

}  // namespace

TEST_CASE("gemm: small products equal plain loops exactly") {
  for (const std::int64_t m : {1, 2, 3, 5, 16, 17})
    for (const std::int64_t n : {1, 2, 4, 7, 16, 33})
      for (const std::int64_t k : {1, 2, 3, 8, 19}) {
        check<float>(m, n, k);
        check<double>(m, n, k);
      }
}

TEST_CASE("gemm: products that are cut into tiles equal plain loops exactly") {
  const std::int64_t shapes[][3] = {{70, 130, 90}, {1, 700, 500}, {700, 1, 500},  {128, 10, 300},
                                    {500, 96, 41}, {8, 600, 200}, {400, 530, 70}, {513, 300, 33}};
  for (const auto& [m, n, k] : shapes) {
    check<float>(m, n, k);
    check<double>(m, n, k);
  }
}

TEST_CASE("gemm: a size of 0 gives nothing, or zeros where only the inner size is 0") {
  for (const std::int64_t m : {0, 1, 3})
    for (const std::int64_t n : {0, 1, 4})
      for (const std::int64_t k : {0, 2})
        if (m * n * k == 0) {
          check<float>(m, n, k);
          check<double>(m, n, k);
        }
}

TEST_CASE("gemm: leading dimensions of 0 are accepted where they do not matter") {
  const float a[] = {2}, b[] = {3};
  float c[] = {0};
  gemm<float>(1, 1, 1, {a, 0}, {b, 0, true}, c, 0, false);
  CHECK(c[0] == 6);
}

TEST_CASE("gemm: NaN and infinity in an operand reach the result") {
  for (const std::int64_t n : {1, 3, 40}) {
    Case<float> c(40, n, 50, false, false, false, 0);
    c.a[size(7 * c.lda + 3)] = std::numeric_limits<float>::quiet_NaN();
    c.a[size(9 * c.lda + 3)] = std::numeric_limits<float>::infinity();
    for (std::int64_t j = 0; j < n; ++j) c.b[size(3 * c.ldb + j)] = 0;
    const auto out = c.run(gemm<float>);
    CHECK(std::isnan(out[size(7 * c.ldc)]));
    CHECK(std::isnan(out[size(9 * c.ldc)]));
    CHECK_FALSE(std::isnan(out[size(8 * c.ldc)]));
  }
}

TEST_CASE("gemm: the bits do not depend on the number of threads") {
  const std::int64_t shapes[][3] = {
      {128, 300, 700}, {600, 40, 500}, {1, 900, 400}, {300, 700, 128}, {16, 800, 333}};
  for (const auto& [m, n, k] : shapes)
    for (int variant = 0; variant < 4; ++variant) {
      Case<float> c(m, n, k, variant & 1, variant & 2, false, 0);
      for (float& x : c.a) x = std::sin(static_cast<float>(&x - c.a.data()));
      for (float& x : c.b) x = std::cos(static_cast<float>(&x - c.b.data()));
      std::vector<float> first;
      for (const int t : {1, 2, 3, 4}) {
        const Threads set(t);
        std::vector<float> out = c.run(gemm<float>);
        out.pop_back();  // never written
        if (first.empty()) first = out;
        CHECK(std::memcmp(out.data(), first.data(), out.size() * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("gemm: tiles may run in many threads at once") {
  const Case<float> c(60, 70, 80, false, true, false, 0);
  const auto expected = c.expected();
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 8; ++t)
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) wrong += !same(c.run(gemm_tile<float>), expected);
    });
  for (std::thread& t : callers) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("gemm: no processor with AVX2 or AVX-512 runs older kernels") {
  const BlasKernels k = blas_kernels();
  INFO("in use ", k.in_use, ", best ", k.best, ", OpenBLAS ", k.config, " ", k.warning);
  CHECK_FALSE(k.outdated);
  CHECK(k.warning == "");
}

TEST_CASE("gemm: kernels older than the processor are replaced, and products stay right") {
  if (!can_fall_back()) {
    skipped("gemm: kernels older than the processor are replaced, and products stay right",
            "needs AVX2 and an OpenBLAS for several processors");
    return;
  }
  const Threads none(1);  // ends the workers
  const Kernels old("Prescott");
  const CoreType unset(nullptr);
  REQUIRE(blas_kernels().outdated);
  detail::prepare_blas();
  const BlasKernels k = blas_kernels();
  CHECK(k.in_use == k.best);
  CHECK_FALSE(k.outdated);
  CHECK(k.warning == "");
  CHECK(std::getenv("OPENBLAS_CORETYPE") == nullptr);
  check<float>(150, 160, 170);
}

TEST_CASE("gemm: older kernels that the user asked for stay, and are called outdated") {
  if (!can_fall_back()) {
    skipped("gemm: older kernels that the user asked for stay, and are called outdated",
            "needs AVX2 and an OpenBLAS for several processors");
    return;
  }
  const Threads none(1);
  const Kernels old("Prescott");
  const CoreType wish("Prescott");
  detail::prepare_blas();
  const BlasKernels k = blas_kernels();
  CHECK(k.in_use == "Prescott");
  CHECK(k.outdated);
  CHECK(k.warning.find("OPENBLAS_CORETYPE asks for them") != std::string::npos);
}

TEST_CASE("gemm: beside other threads the kernels stay, with a warning that names the way out") {
  if (!can_fall_back()) {
    skipped("gemm: beside other threads the kernels stay, with a warning that names the way out",
            "needs AVX2 and an OpenBLAS for several processors");
    return;
  }
  const Threads none(1);
  const Kernels old("Prescott");
  const CoreType unset(nullptr);
  std::atomic<bool> done{false};
  std::vector<std::thread> others;
  // More threads than OpenBLAS itself can have started here.
  for (unsigned i = 0; i <= std::thread::hardware_concurrency(); ++i)
    others.emplace_back([&] {
      while (!done) std::this_thread::yield();
    });
  detail::prepare_blas();
  done = true;
  for (std::thread& t : others) t.join();
  const BlasKernels k = blas_kernels();
  CHECK(k.in_use == "Prescott");
  CHECK(k.warning.find("set OPENBLAS_CORETYPE=" + k.best) != std::string::npos);
}

TEST_CASE("gemm: the measured rate is a positive number") { CHECK(measured_gemm_rate() > 0); }
