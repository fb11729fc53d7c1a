// A plan that is replayed takes its memory before the first step: from there to the last no kernel asks for
// any, and no shape rule runs. One thread; of several each keeps scratch memory of its own, which grows when
// the thread first needs it.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "../../graph/plan.h"
#include "../../graph/registry.h"
#include "../../models/opgrad.h"
#include "../../models/works.h"
#include "../../ops/define.h"
#include "../../ops/gradtest/checks.h"
#include "../kept_scratch.h"
#include "../skipped.h"
#include "replaced_new.h"

using namespace opgrad;
using namespace opgrad::gradtests;

namespace {

struct Threads {
  int before = threads();
  explicit Threads(int n) { set_threads(n); }
  ~Threads() { set_threads(before); }
};

std::uint64_t requests() { return test::requests_of_new() + memory_stats().requests; }

// Counts the requests between the steps of plans, and the plans.
class Watching {
 public:
  Watching() { watch_steps(&watcher_); }
  ~Watching() { watch_steps(nullptr); }
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;
  std::uint64_t taken = 0;
  std::vector<std::size_t> steps;  // of the last plan, that took any
  int plans = 0;

 private:
  void begin(std::size_t step) {
    const std::uint64_t now = requests();
    if (step == 0) {
      steps.clear();
      ++plans;
    } else if (now > before_) {
      taken += now - before_;
      steps.push_back(step - 1);
    }
    before_ = requests();
  }
  std::uint64_t before_ = 0;
  std::function<void(std::size_t)> begins_ = [this](std::size_t step) { begin(step); };
  StepWatcher watcher_ = begins_;
};

std::string steps_of_last_plan(const std::vector<std::size_t>& steps) {
  std::string text;
  const Plan& plan = *last_plan();
  for (const std::size_t s : steps) {
    const Op* const op = plan.calls[plan.steps[s].first_call(plan.parts)].op;
    text += fmt::format(" {}", op ? op->name : "copy");
  }
  return text;
}

// What the third run takes, when plans are known and scratch memory has been used. Returns the number of
// plans.
template <class Run>
int check_replay(const std::string& what, Run run) {
  for (int i = 0; i < 2; ++i) run();
  Watching watching;
  run();
  CHECK_MESSAGE(watching.taken == 0, what << ":" << steps_of_last_plan(watching.steps));
  return watching.plans;
}

int rules_run = 0;

constinit const Op counted_op{
    .name = "replay.counted",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "-x; counts how often its shape rule runs",
    .shape = [](const Call& call) -> Result {
      ++rules_run;
      return {call.dtype(0), call.shape_id(0)};
    },
    .forward =
        [](const KernelArgs& k) {
          for (std::int64_t i = 0; i < k.out.numel(); ++i) k.out.as<float>()[i] = -k.in[0].as<float>()[i];
        },
    .backward = [](const Tensor&, const Tensor& dy, Wanted) -> Grads { return {-dy}; }};

}  // namespace

TEST_CASE("replay: no step of a work takes memory") {
  if (!test::keeps_scratch()) return skipped("replay: no step of a work takes memory", test::no_scratch_kept);
  const Threads one(1);
  for (const Work& work : works()) {
    const std::string name = work.name;
    const Step step = work.start(name == "deep1m"  ? 40000
                                 : name == "epoch" ? 256
                                                   : std::min<std::int64_t>(work.size, 40));
    CHECK(check_replay(name, step) > 0);
  }
}

TEST_CASE("replay: no kernel takes memory, in its examples or their gradients") {
  if (!test::keeps_scratch())
    return skipped("replay: no kernel takes memory, in its examples or their gradients",
                   test::no_scratch_kept);
  const Threads one(1);
  int plans = 0;
  for (const Op* op : all_ops()) {
    if (!op->examples) continue;
    const Examples examples = op->examples();
    for (std::size_t i = 0; i < examples.size(); ++i)
      for (const DType dtype : {DType::f32, DType::f64}) {
        std::vector<Tensor> xs;
        for (const Input& in : draw(examples[i].inputs, 1))
          xs.push_back(leaf_of(in.values, in.shape, in.active() ? dtype : in.dtype));
        plans += check_replay(fmt::format("{}, example {}, {}", op->name, i, name_of(dtype)), [&] {
          std::vector<Tensor> inputs, active;
          for (const Tensor& x : xs) {
            inputs.push_back(is_float(x.dtype()) ? variable(x) : x);
            if (is_float(x.dtype())) active.push_back(inputs.back());
          }
          const Tensor y = examples[i].call(inputs);
          std::vector<Tensor> all{y};
          if (is_float(y.dtype()) && op->backward && !active.empty()) {
            const std::vector<double> halves(static_cast<std::size_t>(y.numel()), 0.5);
            const std::vector<Tensor> gradients = vjp(y, leaf_of(halves, y.shape(), y.dtype()), active);
            all.insert(all.end(), gradients.begin(), gradients.end());
          }
          eval(all);
        });
      }
  }
  CHECK(plans > 200);
}

TEST_CASE("replay: no kernel takes memory for gradients by example") {
  if (!test::keeps_scratch())
    return skipped("replay: no kernel takes memory for gradients by example", test::no_scratch_kept);
  const Threads one(1);
  Sequential net{Conv2D(16, 3, relu), DepthwiseConv2D(3), MaxPool2D(2), Flatten(), Dense(4)};
  net.initialize(1);
  const Tensor x = random_uniform(random_key({3, 0}), {10, 12, 12, 3}),
               labels = tensor({0, 1, 2, 3, 0, 1, 2, 3, 0, 1});
  eval(x);
  check_replay("gradients by example", [&] {
    eval(per_example_gradients(cross_entropy_from_logits(net(x), labels, Reduction::none)).gradients);
  });
}

TEST_CASE("replay: the shape rule runs when a node is made, not while a plan runs") {
  const Tensor x = tensor({1.F, 2.F, 3.F});
  int before = 0, in_plans = 0;
  const auto count = [&](std::size_t step) {
    if (step > 0) in_plans += rules_run - before;
    before = rules_run;
  };
  const StepWatcher watcher = count;
  watch_steps(&watcher);
  for (int i = 0; i < 3; ++i) {
    rules_run = before = 0;
    const Tensor y = unary(counted_op, unary(counted_op, x)) * 2;
    CHECK(rules_run == 2);
    CHECK(y.to_vector<float>() == std::vector<float>{2, 4, 6});
  }
  watch_steps(nullptr);
  CHECK(in_plans == 0);
}
