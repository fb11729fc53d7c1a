// OpenBLAS looks the processor up in a table when it is loaded and falls back to old kernels for a processor
// that is younger than the table. Here its choice is compared with what the processor can do, and corrected
// before main.
#include <dirent.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "gemm.h"
#include "parallel.h"

// OpenBLAS beyond the BLAS interface. gotoblas_init is its own constructor, which does nothing the second
// time; the other two are exported where it was built for several processors (DYNAMIC_ARCH), and null
// elsewhere.
extern "C" {
char* openblas_get_corename(void);
char* openblas_get_config(void);
int openblas_get_num_threads(void);
void openblas_set_num_threads(int);
int openblas_get_parallel(void);
[[gnu::weak]] void gotoblas_init(void);
[[gnu::weak]] void gotoblas_dynamic_quit(void);
[[gnu::weak]] void gotoblas_dynamic_init(void);
}

namespace opgrad {
namespace {

enum class Level { older, avx2, avx512 };

Level processor_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd"))
    return Level::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Level::avx2;
#endif
  return Level::older;
}

// GFLOP/s on one core of an AVX-512 machine, 1024^3 in float: SkylakeX 228, Cooperlake 230, Zen 125, Haswell
// 124, Sandybridge 116, Prescott 46.
Level kernel_level(const char* name) {
  for (const char* known : {"SkylakeX", "Cooperlake", "SapphireRapids"})
    if (strcasecmp(name, known) == 0) return Level::avx512;
  for (const char* known : {"Haswell", "Zen", "Excavator"})
    if (strcasecmp(name, known) == 0) return Level::avx2;
  return Level::older;
}

const char* best_kernels() {
#if defined(__x86_64__)
  switch (processor_level()) {
    case Level::avx512:
      return "SkylakeX";
    case Level::avx2:
      return __builtin_cpu_is("amd") ? "Zen" : "Haswell";
    case Level::older:
      break;
  }
#endif
  return openblas_get_corename();
}

bool outdated() { return kernel_level(openblas_get_corename()) < processor_level(); }

// Whether threads run that may be computing: more than this one and the workers that OpenBLAS starts when
// loaded.
bool other_threads_run() {
  // Asked before the number is first set to one, which lets its workers live.
  static const int openblas_threads = std::max(1, openblas_get_num_threads());
  int expected = openblas_threads;
#if defined(__SANITIZE_THREAD__)
  ++expected;  // ThreadSanitizer's own
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
  ++expected;
#endif
#endif
  DIR* const tasks = opendir("/proc/self/task");
  if (!tasks) return true;
  int running = -2;  // "." and ".."
  while (readdir(tasks)) ++running;
  closedir(tasks);
  return running > expected;
}

enum class Obstacle { none, users_choice, threads, no_choice };
constinit Obstacle obstacle = Obstacle::none;

Obstacle correct_kernels(bool alone) {
  if (getenv("OPENBLAS_CORETYPE")) return Obstacle::users_choice;
  if (!gotoblas_dynamic_quit || !gotoblas_dynamic_init) return Obstacle::no_choice;
  // Kernels changed under a running product make it crash.
  if (!alone) return Obstacle::threads;
  setenv("OPENBLAS_CORETYPE", best_kernels(), 1);
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
  unsetenv("OPENBLAS_CORETYPE");
  return outdated() ? Obstacle::no_choice : Obstacle::none;
}

}  // namespace

void detail::prepare_blas() {
  if (gotoblas_init) gotoblas_init();  // a statically linked OpenBLAS may have its turn after ours
  const bool alone = !other_threads_run();
  if (outdated()) obstacle = correct_kernels(alone);
  openblas_set_num_threads(1);
}

BlasKernels blas_kernels() {
  BlasKernels k{openblas_get_corename(), openblas_get_corename(), openblas_get_config(), outdated(), ""};
  constexpr int openmp = 2;
  if (k.outdated) {
    k.best = best_kernels();
    const std::string slow =
        fmt::format("OpenBLAS runs its {} kernels although this processor deserves {}: ", k.in_use, k.best);
    switch (obstacle) {
      case Obstacle::users_choice:
        k.warning = slow + "OPENBLAS_CORETYPE asks for them; unset it";
        break;
      case Obstacle::threads:
        k.warning = slow + fmt::format(
                               "other threads ran already when opgrad was loaded; set OPENBLAS_CORETYPE={} "
                               "before the program starts, or load opgrad first",
                               k.best);
        break;
      case Obstacle::no_choice:
      case Obstacle::none:
        k.warning = slow + "this build of OpenBLAS has none better";
        break;
    }
  } else if (openblas_get_parallel() == openmp) {
    k.warning =
        "this OpenBLAS is the OpenMP build, which does not keep to one thread per call; install the pthread "
        "build";
  }
  return k;
}

double measured_gemm_rate() {
  constexpr std::int64_t n = 1024;
  constexpr int runs = 5;
  const std::vector<float> a(n * n, 1.0f), b(n * n, 1.0f);
  std::vector<float> c(n * n);
  double best = 0;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    gemm<float>(n, n, n, {a.data(), n}, {b.data(), n}, c.data(), n, false);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2e-9 * n * n * n / seconds.count());
  }
  return best;
}

}  // namespace opgrad
