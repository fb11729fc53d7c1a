// opgrad bench --passes: what each pass gives to a work, seen by switching it off.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "../../core/buffer.h"
#include "../../graph/plan.h"
#include "../../graph/run.h"
#include "../plan_facts.h"
#include "bench.h"

namespace opgrad {
namespace {

struct Variant {
  std::string name;
  PassSet set;
  double ms = std::numeric_limits<double>::infinity();
  double all_ms = ms;  // of the runs with all passes that took turns with it: as many, so that minima compare
  std::size_t values = 0, steps = 0, arena = 0, peak = 0;
};

// The set that was in force is back when it ends.
struct PassesRestored {
  PassSet before = current_passes();
  PassesRestored() = default;
  ~PassesRestored() { set_passes(before); }
  PassesRestored(const PassesRestored&) = delete;
  PassesRestored& operator=(const PassesRestored&) = delete;
};

void prepare(Variant& v, const Step& step) {
  set_passes(v.set);
  warm_up(step);
  reset_peak_bytes();
  const std::size_t before = memory_stats().live_bytes;
  step();
  v.peak = memory_stats().peak_bytes - before;
  const std::shared_ptr<const Plan> plan = last_plan();
  v.values = plan->program.items.size();
  v.steps = plan->steps.size();
  v.arena = plan->arena_bytes;
}

double time_of(const Variant& v, const Step& step) {
  set_passes(v.set);
  return milliseconds(step);
}

}  // namespace

void compare_passes(const Work& work, int repetitions, double seconds) {
  const PassesRestored restored;
  const PassSet on = restored.before;
  Variant all{.name = "none", .set = on};
  std::vector<Variant> others;
  for (const Pass& pass : passes())
    if (on.has(pass.name)) others.push_back({.name = pass.name, .set = on.without(pass.name)});
  others.push_back({.name = "every pass", .set = PassSet::none()});

  const Step step = work.start(work.size);
  prepare(all, step);
  for (Variant& v : others) prepare(v, step);
  // With all, without one, with all, without the next, ...: what else the machine does meets them alike.
  const int least = repetitions > 0 ? repetitions : 10;
  int rounds = 0;
  for (double sum = 0; rounds < least || sum < 1e3 * seconds * static_cast<double>(others.size()); ++rounds)
    for (Variant& v : others) {
      const double with = time_of(all, step), without = time_of(v, step);
      v.all_ms = std::min(v.all_ms, with);
      v.ms = std::min(v.ms, without);
      sum += with + without;
    }

  fmt::print("\n{}: {}; {} rounds in turns, the least time of each\n\n", work.name, work.about, rounds);
  fmt::print("{:<12} {:>10} {:>10} {:>8} {:>9} {:>8} {:>10} {:>10}\n", "without", "min ms", "with all",
             "ratio", "values", "steps", "arena", "memory");
  const auto row = [](const Variant& v, const std::string& ms, const std::string& all_ms,
                      const std::string& ratio) {
    fmt::print("{:<12} {:>10} {:>10} {:>8} {:>9} {:>8} {:>10} {:>10}\n", v.name, ms, all_ms, ratio, v.values,
               v.steps, bytes_text(static_cast<double>(v.arena)), bytes_text(static_cast<double>(v.peak)));
  };
  row(all, "", "", "");
  for (const Variant& v : others)
    row(v, fmt::format("{:.3f}", v.ms), fmt::format("{:.3f}", v.all_ms),
        fmt::format("{:.2f}", v.ms / v.all_ms));
}

}  // namespace opgrad
