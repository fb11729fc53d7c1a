// The choice of OpenBLAS's kernels.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../core/gemm.h"
#include "../core/parallel.h"
#include "skipped.h"

using namespace opgrad;

extern "C" {
[[gnu::weak]] void gotoblas_dynamic_quit(void);
[[gnu::weak]] void gotoblas_dynamic_init(void);
}

namespace {

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
  const std::vector<double> ones(150 * 170, 1.0), twos(170 * 160, 2.0);
  std::vector<double> c(150 * 160);
  gemm<double>(150, 160, 170, {ones.data(), 170}, {twos.data(), 160}, c.data(), 160, false);
  CHECK(c == std::vector<double>(150 * 160, 340.0));
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
