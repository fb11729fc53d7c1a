// Measures the standard works: each for some seconds once its plan is cached, the machine's rate for matrix
// products before and after.
#include "bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../../core/buffer.h"
#include "../../core/gemm.h"
#include "../../core/isa.h"
#include "../../core/parallel.h"
#include "../../graph/run.h"
#include "../../graph/version.h"
#include "../plan_facts.h"

namespace opgrad {
namespace {

struct Options {
  std::vector<std::string> names;
  double seconds = 2;
  int repetitions = 0;  // 0: each work's own
  int threads = 0;
  bool json = false, profile = false, passes = false;
};

struct Measured {
  const Work& work;
  double min_ms, median_ms;
  int n;
  std::size_t bytes;        // held at once by a step, beyond what was held before it
  std::uint64_t requests;   // for memory of tensors, by a step
  std::uint64_t requested;  // the sum of their bytes
  PlanStats plans;          // of the timed steps
};

Measured measure(const Work& work, const Options& options) {
  const Step step = work.start(work.size);
  warm_up(step);

  reset_peak_bytes();
  const MemoryStats before = memory_stats();
  step();
  const MemoryStats after = memory_stats();

  reset_plan_stats();
  const int least = options.repetitions > 0 ? options.repetitions : work.repetitions;
  std::vector<double> times;
  for (double sum = 0; std::ssize(times) < least || sum < 1e3 * options.seconds; sum += times.back())
    times.push_back(milliseconds(step));
  std::ranges::sort(times);
  const std::size_t n = times.size();
  return {work,
          times.front(),
          (times[(n - 1) / 2] + times[n / 2]) / 2,
          static_cast<int>(n),
          after.peak_bytes - before.live_bytes,
          after.requests - before.requests,
          after.requested_bytes - before.requested_bytes,
          plan_stats()};
}

std::vector<const Work*> chosen(const std::vector<std::string>& names) {
  std::vector<const Work*> found;
  for (const std::string& name : names) found.push_back(&work_called(name));
  if (names.empty())
    for (const Work& work : works()) found.push_back(&work);
  return found;
}

std::string json_line(const Measured& m) {
  return nlohmann::ordered_json{{"work", m.work.name},
                                {"threads", threads()},
                                {"min_ms", m.min_ms},
                                {"median_ms", m.median_ms},
                                {"n", m.n}}
      .dump();
}

std::string plans_text(const PlanStats& plans) {
  if (plans.plans == 0) return "cached";
  return fmt::format("{} of {} made anew: {}", plans.plans, plans.plans + plans.hits, plans.last_miss);
}

std::string row(const Measured& m, double peak) {
  const double flops = m.work.flops(m.work.size), rate = flops / m.min_ms / 1e6;
  const std::string speed = flops > 0 ? fmt::format("{:.1f}", rate) : "-";
  const std::string share = flops > 0 ? fmt::format("{:.0f} %", 100 * rate / peak) : "-";
  return fmt::format("{:<10} {:>6} {:>10.3f} {:>10.3f} {:>8} {:>7} {:>10} {:>9} {:>10}  {}\n", m.work.name,
                     m.n, m.min_ms, m.median_ms, speed, share, bytes_text(static_cast<double>(m.bytes)),
                     m.requests, bytes_text(static_cast<double>(m.requested)), plans_text(m.plans));
}

void check(const Options& options) {
  if (options.json && (options.profile || options.passes))
    throw UsageError(fmt::format("--json is for whole works; {} prints a table",
                                 options.profile ? "--profile" : "--passes"));
  if (options.profile && options.passes) throw UsageError("give either --profile or --passes");
  if ((options.profile || options.passes) && options.names.empty())
    throw UsageError(fmt::format("name the works for {}: seed_b128, for example",
                                 options.profile ? "--profile" : "--passes"));
}

int run(const Options& options) {
  check(options);
  const std::vector<const Work*> list = chosen(options.names);
  set_up(options.threads);
  if (options.json) {
    for (const Work* work : list) {
      fmt::print("{}\n", json_line(measure(*work, options)));
      std::fflush(stdout);
    }
    return 0;
  }

  fmt::print("{}\n", machine_text());
  std::fflush(stdout);
  if (options.profile || options.passes) {
    for (const Work* work : list)
      (options.profile ? profile : compare_passes)(*work, options.repetitions, options.seconds);
    return 0;
  }
  std::vector<Measured> rows;
  std::vector<double> rates{measured_gemm_rate()};
  const bool terminal = isatty(STDERR_FILENO) == 1;
  for (const Work* work : list) {
    if (terminal) fmt::print(stderr, "\r{} ...\x1b[K", work->name);
    rows.push_back(measure(*work, options));
    rates.push_back(measured_gemm_rate());
  }
  if (terminal) fmt::print(stderr, "\r\x1b[K");
  const auto [lowest, peak] = std::ranges::minmax(rates);
  fmt::print(
      "matrix product {:.0f} to {:.0f} GFLOP/s, before and after each work; shares are of the greater\n\n",
      lowest, peak);
  fmt::print("{:<10} {:>6} {:>10} {:>10} {:>8} {:>7} {:>10} {:>9} {:>10}  {}\n", "work", "n", "min ms",
             "median ms", "GFLOP/s", "of peak", "memory", "requests", "asked for", "plans");
  for (const Measured& m : rows) fmt::print("{}", row(m, peak));
  return 0;
}

}  // namespace

const Work& work_called(const std::string& name) {
  if (const Work* const work = find_work(name)) return *work;
  std::vector<std::string> all;
  for (const Work& work : works()) all.emplace_back(work.name);
  const std::vector<std::string> near = near_works(name);
  throw UsageError(fmt::format("there is no work \"{}\"{}{}; all works: {}", name,
                               near.empty() ? "" : "; near: ", fmt::join(near, ", "), fmt::join(all, ", ")));
}

double milliseconds(const Step& step) {
  const auto begin = std::chrono::steady_clock::now();
  step();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

void warm_up(const Step& step) {
  std::uint64_t before = 0;
  for (int i = 0; i < 10 && (i < 3 || plan_stats().plans != before); ++i) {
    before = plan_stats().plans;
    step();
  }
}

// Whoever shares the machine spoils the figures, so they come with its load.
std::string machine_text() {
  double load = 0;
  return fmt::format("opgrad {}, {}, OpenBLAS {}, {} thread{}{}", library_version, name_of(isa()),
                     blas_kernels().in_use, threads(), threads() == 1 ? "" : "s",
                     getloadavg(&load, 1) == 1 ? fmt::format(", load {:.1f}", load) : "");
}

Command add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure how long the standard works take");
  const auto options = std::make_shared<Options>();
  std::string list = "Works, in this order if none is named:";
  for (const Work& work : works()) list += fmt::format("\n  {:<10} {}", work.name, work.about);
  bench->footer(list);
  bench->add_option("WORK", options->names, "Only these works (default: all)");
  bench->add_option("--seconds", options->seconds, "Repeat each work for so long")
      ->capture_default_str()
      ->check(number("a number from 0 to 3600", [](double x) { return x >= 0 && x <= 3600; }));
  bench
      ->add_option("--repetitions", options->repetitions,
                   "Repeat each work at least so often (default: 50, epoch 3, deep1m 5)")
      ->check(number("a whole number from 1", [](double x) { return x >= 1 && x <= 1e9; }));
  add_threads(*bench, options->threads);
  bench->add_flag("--json", options->json, "One line of JSON for each work, for programs");
  bench->add_flag("--profile", options->profile,
                  "Where the time of these works goes: each step of their plans");
  bench->add_flag("--passes", options->passes, "What each pass gives to these works, by switching it off");
  return {bench, [options] { return run(*options); }};
}

}  // namespace opgrad
