// Running: capture, passes, plan, execute. The user's graph is never edited; values arrive in its nodes.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../core/parallel.h"
#include "parameter.h"

namespace opgrad {

// Computes these tensors (and the pending values assigned to parameters they lead to) in one plan.
void eval(std::span<const Tensor> tensors);
inline void eval(std::initializer_list<Tensor> tensors) { eval({tensors.begin(), tensors.size()}); }
inline void eval(const Tensor& tensor) { eval({&tensor, 1}); }

// One parameter's next value, pending.
struct Update {
  Parameter parameter;
  Tensor value;
};
// One plan for everything: the loss, every node behind it that the user still holds, pending state, and the
// updates. Afterwards the parameters have their new values and the graph behind `loss` is consumed: its value
// stays, its gradient can no longer be asked. When anything throws, all parameters are as before and the
// graph is as before; so it is when the loss is NaN or infinite, which is a UserError naming the first
// operation that gave such a value.
void run_step(const Tensor& loss, std::span<const Update> updates);

// What the plan cache has done since the process began (or reset_plan_stats).
struct PlanStats {
  std::uint64_t plans = 0;  // made, i.e. misses
  std::uint64_t hits = 0;
  // Updates that needed a second buffer since somebody else held the first.
  std::uint64_t missed_donations = 0;
  std::string last_miss;         // why the newest plan had to be made, in words
  double last_milliseconds = 0;  // which making it took
};
PlanStats plan_stats();
void reset_plan_stats();
// Forgets all plans.
void clear_plan_cache();

// The plan that this thread ran last (graph/plan.h); null before the first.
struct Plan;
std::shared_ptr<const Plan> last_plan();
// While set, each run of this thread calls it before every step of its plan, with the step's number, and once
// behind the last. Null ends it. For measuring and tests; it must outlive its use and not throw.
using StepWatcher = FunctionRef<void(std::size_t step)>;
void watch_steps(const StepWatcher* watcher);

}  // namespace opgrad
