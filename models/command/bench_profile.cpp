// opgrad bench --profile: time, arithmetic and bytes of each step of a work's plan.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "../../core/gemm.h"
#include "../../graph/plan.h"
#include "../../graph/run.h"
#include "../plan_facts.h"
#include "bench.h"

namespace opgrad {
namespace {

// A chain has thousands of steps, of which the slowest tell enough.
constexpr std::size_t most_rows = 40;

// While it lives, the steps of this thread's plans are timed.
class Timing {
 public:
  explicit Timing(std::size_t steps) : ms(steps) { watch_steps(&watcher_); }
  ~Timing() { watch_steps(nullptr); }
  Timing(const Timing&) = delete;
  Timing& operator=(const Timing&) = delete;
  std::vector<double> ms;  // of each step of the last run

 private:
  using Clock = std::chrono::steady_clock;
  void begin(std::size_t step) {
    const Clock::time_point now = Clock::now();
    // A work of several plans is refused when it has run.
    if (step > 0 && step <= ms.size())
      ms[step - 1] = std::chrono::duration<double, std::milli>(now - begun_).count();
    begun_ = now;
  }
  Clock::time_point begun_;
  std::function<void(std::size_t)> begins_ = [this](std::size_t step) { begin(step); };
  StepWatcher watcher_ = begins_;
};

struct Profile {
  std::shared_ptr<const Plan> plan;
  std::vector<double> ms;  // the least of each step
  double whole_ms = 0;     // the least of the whole work
  double rest_ms = 0;      // the least of what a run takes beside its steps
  int n = 0;
};

Profile measured(const Work& work, int repetitions, double seconds) {
  const Step step = work.start(work.size);
  warm_up(step);
  constexpr double never = std::numeric_limits<double>::infinity();
  Profile p{last_plan(), {}, never, never, 0};
  p.ms.assign(p.plan->steps.size(), never);
  const int least = repetitions > 0 ? repetitions : work.repetitions;
  Timing timing(p.ms.size());
  for (double sum = 0; p.n < least || sum < 1e3 * seconds; ++p.n) {
    reset_plan_stats();
    const double ms = milliseconds(step);
    const PlanStats stats = plan_stats();
    if (stats.plans != 0 || stats.hits != 1 || last_plan() != p.plan)
      throw UserError(
          fmt::format("bench: {} does not run one cached plan each time, so its steps cannot be told apart: "
                      "{} plans were made "
                      "and {} found",
                      work.name, stats.plans, stats.hits));
    sum += ms;
    p.whole_ms = std::min(p.whole_ms, ms);
    p.rest_ms = std::min(p.rest_ms, ms - std::accumulate(timing.ms.begin(), timing.ms.end(), 0.0));
    for (std::size_t s = 0; s < p.ms.size(); ++s) p.ms[s] = std::min(p.ms[s], timing.ms[s]);
  }
  return p;
}

std::string row(const Plan& plan, std::size_t s, double ms, double whole, double peak) {
  const PlanStep& step = plan.steps[s];
  const double flops = flops_of(plan, step), bytes = bytes_of(plan, step), rate = flops / ms / 1e6;
  const bool counted = flops > 0 && ms > 0;
  return fmt::format("{:>5} {:>9.3f} {:>6.1f} % {:>8} {:>7} {:>10} {:>7}  {:<32}  {}\n", s + 1, ms,
                     100 * ms / whole, counted ? fmt::format("{:.1f}", rate) : "-",
                     counted ? fmt::format("{:.0f} %", 100 * rate / peak) : "-", bytes_text(bytes),
                     ms > 0 ? fmt::format("{:.1f}", bytes / ms / 1e6) : "-", origin_text(plan, step),
                     name_of(plan, step));
}

}  // namespace

void profile(const Work& work, int repetitions, double seconds) {
  double peak = measured_gemm_rate();
  const Profile p = measured(work, repetitions, seconds);
  peak = std::max(peak, measured_gemm_rate());
  std::vector<std::size_t> order(p.ms.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::size_t s) { return p.ms[s]; });

  fmt::print("\n{}: {}; {} runs, {} steps, the least time of each; matrix product {:.0f} GFLOP/s\n\n",
             work.name, work.about, p.n, p.ms.size(), peak);
  fmt::print("{:>5} {:>9} {:>8} {:>8} {:>7} {:>10} {:>7}  {:<32}  {}\n", "step", "min ms", "of whole",
             "GFLOP/s", "of peak", "bytes", "GB/s", "line", "what");
  const double sum = std::accumulate(p.ms.begin(), p.ms.end(), 0.0);
  double shown = 0;
  for (std::size_t k = 0; k < std::min(order.size(), most_rows); ++k) {
    shown += p.ms[order[k]];
    fmt::print("{}", row(*p.plan, order[k], p.ms[order[k]], p.whole_ms, peak));
  }
  const auto total = [&](const char* what, double ms) {
    fmt::print("{:>5} {:>9.3f} {:>6.1f} %  {}\n", "", ms, 100 * ms / p.whole_ms, what);
  };
  if (order.size() > most_rows)
    total(fmt::format("{} more steps", order.size() - most_rows).c_str(), sum - shown);
  total("all steps", sum);
  total("the rest: building the graph, gradients, capture, memory, reading the result", p.rest_ms);
  total("the whole", p.whole_ms);
}

}  // namespace opgrad
