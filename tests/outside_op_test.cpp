// An operation from a user's file (tests/examples/operation.cpp) is treated by the engine as a built-in one.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "../core/parallel.h"
#include "../graph/passes.h"
#include "../graph/plan.h"
#include "../graph/registry.h"
#include "../graph/run.h"
#include "../models/opgrad.h"
#include "errors.h"

using namespace opgrad;
using test::contains;
using test::message;

Tensor softsign(const Operand& x);  // tests/examples/operation.cpp

namespace {

Tensor numbers(std::int64_t n) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < n; ++i) x.push_back(static_cast<float>(i % 17) / 8 - 1);
  return tensor(x, {n});
}

// The plan of one tensor, as the engine makes it.
Plan plan_of(const Tensor& y) {
  const Wish wish{y.node()};
  std::uint64_t missed = 0;
  Capture c = capture({&wish, 1}, false, missed);
  return make_plan(c, std::vector<bool>(c.numbers.size(), true), PassSet::all());
}

std::size_t steps_with(Tensor (*middle)(const Operand&)) {
  const Tensor x = numbers(4000);
  const Plan plan = plan_of(exp(middle(x * 2.0 + 1.0)) - 1.0);
  return plan.steps.size();
}

}  // namespace

TEST_CASE("outside: an operation is fused with its neighbours by its traits, as tanh is") {
  CHECK(steps_with(tanh) == 1);
  CHECK(steps_with(softsign) == 1);
}

TEST_CASE(
    "outside: values and both gradients have the same bits with passes on and off, and for 1 and 3 threads") {
  const auto digest = [] {
    const Tensor x = variable(numbers(100000));
    const Tensor y = sum(square(softsign(x * 3.0)));
    const Tensor g = grad(y, x);
    return std::pair(g.to_vector<float>(), grad(sum(square(g)), x).to_vector<float>());
  };
  const auto fused = digest();
  set_passes(PassSet::none());
  const auto naive = digest();
  set_passes(PassSet::all());
  CHECK(fused == naive);
  const int before = threads();
  set_threads(1);
  const auto alone = digest();
  set_threads(3);
  const auto three = digest();
  set_threads(before);
  CHECK(fused == alone);
  CHECK(fused == three);
}

TEST_CASE("outside: a graph built again finds its plan") {
  const Tensor x = numbers(64);
  const auto run = [&](double factor) { return sum(softsign(x * factor)).item(); };
  run(1.5);
  const PlanStats before = plan_stats();
  run(1.5);
  CHECK(plan_stats().plans == before.plans);
  CHECK(plan_stats().hits == before.hits + 1);
}

TEST_CASE("outside: errors name the operation, the user's line and, where a plan misses, its name") {
  const int line = __LINE__ + 1;
  const std::string said = message([] { softsign(tensor({1, 2})); });
  CHECK_MESSAGE(contains(said, "mine.softsign: needs f32 or f64 and was given i32[2]"), said);
  CHECK_MESSAGE(contains(said, "outside_op_test.cpp:" + std::to_string(line)), said);
  const Tensor x = numbers(64);
  sum(tanh(x)).item();
  sum(softsign(x)).item();
  clear_plan_cache();
  sum(tanh(x)).item();
  sum(softsign(x)).item();
  CHECK_MESSAGE(contains(plan_stats().last_miss, "mine.softsign"), plan_stats().last_miss);
}

TEST_CASE("outside: a NaN that it makes is reported by its name and line") {
  SGD sgd;
  const Parameter w("w", tensor<float>({-1.0F}));
  const auto step = [&] { return sgd.step(sum(softsign(log(w.value())))); };
  const std::string said = message(step);
  CHECK_MESSAGE(contains(said, "log"), said);
  CHECK_MESSAGE(contains(said, "outside_op_test.cpp"), said);
}
