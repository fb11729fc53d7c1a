// Reductions that read a group piece by piece, and operations along rows in row groups: what runs together,
// and the bits of both ways.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../core/parallel.h"
#include "../graph/passes.h"
#include "../graph/plan.h"
#include "../graph/run.h"
#include "../models/plan_facts.h"
#include "../ops/ops.h"
#include "errors.h"
#include "loops.h"

using namespace opgrad;
using test::contains;
using test::message;

namespace {

struct Passes {
  const PassSet before = current_passes();
  ~Passes() { set_passes(before); }
};

Tensor data(std::uint64_t key, const Shape& shape) {
  const Tensor x = random_uniform(random_key({11, key}), shape, -1, 1);
  eval(x);
  return x;
}

// The values with all passes and without these two, and the names of the steps with all.
template <class F>
void same_bits_either_way(F f, const std::string& step) {
  const Passes restore;
  set_passes(PassSet::all());
  const std::vector<float> together = f().template to_vector<float>();
  std::string steps;
  for (const PlanStep& s : last_plan()->steps) steps += name_of(*last_plan(), s) + "\n";
  CHECK_MESSAGE(contains(steps, step), steps);
  set_passes(PassSet::all().without("reductions").without("rows"));
  CHECK(test::same_bits(f().template to_vector<float>(), together));
  CHECK(name_of(*last_plan(), last_plan()->steps.back()).find("into") == std::string::npos);
}

}  // namespace

TEST_CASE("reductions: a group flows into its reduction along any axes") {
  const Tensor x = data(1, {300, 37, 64}), y = data(2, {300, 37, 64});
  same_bits_either_way([&] { return sum(square(x - y)); }, "subtract, square into sum");
  same_bits_either_way([&] { return sum(x * y, {0}); }, "multiply into sum");
  same_bits_either_way([&] { return sum(x * y, {0, 2}); }, "multiply into sum");
  same_bits_either_way([&] { return max(x * y, {1}); }, "multiply into max");
  same_bits_either_way([&] { return sum(exp(x), {-1}); }, "exp into sum");
}

TEST_CASE("reductions: on one thread and on four, the bits are the same") {
  const Tensor x = data(3, {1000, 777});
  const int before = threads();
  std::vector<std::vector<float>> answers;
  for (const int count : {1, 4, 3}) {
    set_threads(count);
    answers.push_back(sum(square(x) + x, {0}).to_vector<float>());
    answers.push_back(sum(square(x) + x).to_vector<float>());
  }
  set_threads(before);
  for (std::size_t i = 2; i < answers.size(); ++i) CHECK(test::same_bits(answers[i], answers[i - 2]));
}

TEST_CASE("reductions: what somebody else reads, too, is written") {
  const Tensor x = data(4, {400, 400});
  const Passes restore;
  set_passes(PassSet::all());
  const Tensor y = x * 2, total = sum(y);
  eval({y, total});
  for (const PlanStep& s : last_plan()->steps) CHECK(s.fold == no_index);
  CHECK(y.to_vector<float>()[7] == 2 * x.to_vector<float>()[7]);
}

TEST_CASE("reductions: softmax and what follows it go through cache in blocks of rows") {
  const Tensor x = data(5, {1024, 300});
  same_bits_either_way([&] { return sum(square(softmax(x * 3)), {-1}); }, "softmax; square into sum");
}

TEST_CASE("reductions: a label that a block of rows refuses is named by its row of the whole") {
  const Passes restore;
  set_passes(PassSet::all());
  const Tensor x = data(6, {2048, 64});
  std::vector<std::int64_t> classes(2048, 5);
  classes[1999] = 64;
  const Tensor labels = tensor(classes, {2048});
  const auto loss = [&] { return cross_entropy(softmax(x * 2), labels).item(); };
  CHECK(contains(message(loss), "label 64 at position [1999] is outside [0, 64)"));
  classes[1999] = 63;
  const Tensor good = tensor(classes, {2048});
  cross_entropy(softmax(x * 2), good, Reduction::none).to_vector<float>();
  CHECK(std::ranges::any_of(last_plan()->steps, [](const PlanStep& s) { return s.rows == 2048; }));
}
