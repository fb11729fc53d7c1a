// Plans as text and as drawings, and the figures that reports give of them: counted by hand.
#include "../models/plan_text.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../graph/grad.h"
#include "../graph/program_dot.h"
#include "../graph/run.h"
#include "../models/flops.h"
#include "../models/opgrad.h"
#include "../models/plan_facts.h"
#include "lines.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

// What the program behind y computes, summed over its items.
double flops_behind(const Tensor& y) {
  eval(y);
  const Program& p = last_plan()->program;
  double sum = 0;
  for (std::uint32_t i = 0; i < p.items.size(); ++i) sum += flops_of(p, i);
  return sum;
}

Tensor data(const Shape& shape) {
  return tensor(std::vector<float>(static_cast<std::size_t>(shape.numel()), 0.5F), shape);
}

}  // namespace

TEST_CASE("plan text: dot quotes what an operation's note says, and marks what runs together") {
  const Tensor x = data({8}), y = relu(x * 2 + 1);
  eval(y);
  const std::string dot =
      to_dot(last_plan()->program, [](std::uint32_t) { return std::string("a \"b\"\n\\c"); });
  CHECK(balanced(dot));
  CHECK(contains(dot, "\\na \\\"b\\\"\\n\\\\c\""));
  CHECK(contains(dot, "label=\"tile by tile\""));
  CHECK(count(dot, "peripheries=2") == 1);
}

TEST_CASE("plan text: blocks of rows are shown with their parts, in text and in dot") {
  const Tensor x = data({32, 24, 24, 4}), w = data({3, 3, 4, 4});
  eval(conv2d(relu(conv2d(x, w)), w));
  const std::shared_ptr<const Plan> plan = last_plan();
  REQUIRE(std::ranges::any_of(plan->steps, [](const PlanStep& s) { return s.rows > 0; }));
  const std::string text = plan_text(*plan), dot = plan_dot(*plan);
  CHECK(contains(text, "step 1   32 rows in 16 blocks of 2, each through 2 parts before the next\n part 1"));
  CHECK(lines_with(text, " part 2").size() == 1);
  CHECK(lines_with(text, "= conv2d(").size() == 2);
  CHECK(balanced(dot));
  CHECK(contains(dot, "subgraph cluster_rows0 {\n    label=\"blocks of 2 rows\""));
}

TEST_CASE("plan text: the algorithms of kernels that have several are named") {
  const Tensor x = data({2, 14, 14, 32}), w = data({3, 3, 32, 32}), y = data({5, 32 * 12 * 12});
  eval(matmul(reshape(conv2d(x, w), {2, 32 * 12 * 12}), transpose(y)));
  const std::shared_ptr<const Plan> plan = last_plan();
  const bool before = winograd();
  set_winograd(true);
  CHECK(contains(plan_text(*plan), "  [winograd "));
  CHECK(contains(plan_text(*plan), "  [B transposed in "));
  set_winograd(false);
  CHECK(contains(plan_text(*plan), "  [direct] strides="));
  set_winograd(before);
}

TEST_CASE("plan text: the algorithm of a product that reports its pieces is the one that runs") {
  const Tensor x = data({512, 1024}), w = data({1024, 10});
  eval(relu(matmul(x, w) + 1.0));
  CHECK(name_of(*last_plan(), last_plan()->steps[0]) == "matmul [B in place] + add, relu");
  eval(matmul(x, w));
  CHECK(name_of(*last_plan(), last_plan()->steps[0]) == "matmul [B in strips]");
}

TEST_CASE("plan text: a copy that the planner puts in is shown") {
  const Tensor x = data({4, 5});
  eval(reshape(transpose(x), {20}));
  CHECK(contains(plan_text(*last_plan()), "a dense copy of %"));
}

TEST_CASE(
    "plan text: a step's bytes are each value read or written once, nothing for tiles and repeated "
    "elements") {
  const Tensor x = data({64, 16}), bias = data({16});
  eval(relu(x * x + bias));
  const Plan& plan = *last_plan();
  REQUIRE(plan.steps.size() == 1);
  CHECK(name_of(plan, plan.steps[0]) == "multiply, add, relu");
  CHECK(bytes_of(plan, plan.steps[0]) == 4.0 * (64 * 16 + 16 + 64 * 16));
  CHECK(flops_of(plan, plan.steps[0]) == 0);
  eval(relu(matmul(x, data({16, 8})) + 1));
  const Plan& product = *last_plan();
  REQUIRE(product.steps.size() == 1);
  CHECK(name_of(product, product.steps[0]) == "matmul [B in strips] + add, relu");
  CHECK(flops_of(product, product.steps[0]) == 2.0 * 64 * 16 * 8);
  // The product is written where the result will stand, and read while it is in cache.
  CHECK(bytes_of(product, product.steps[0]) == 4.0 * (64 * 16 + 16 * 8 + 64 * 8));
}

TEST_CASE("plan text: figures are written in powers of 1000, counts with commas") {
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(999) == "999 B");
  CHECK(bytes_text(173'056) == "173.1 kB");
  CHECK(bytes_text(6'553'600) == "6.6 MB");
  CHECK(flops_text(0).empty());
  CHECK(flops_text(2.5e9) == "2.5 GFLOP");
  CHECK(with_commas(7) == "7");
  CHECK(with_commas(1'668'490) == "1,668,490");
}

TEST_CASE("plan text: arithmetic is 2 per multiply-add of products, convolutions and their gradients") {
  CHECK(flops_behind(matmul(data({3, 5}), data({5, 7}))) == 2.0 * 3 * 5 * 7);
  CHECK(flops_behind(matmul(data({4, 3, 5}), data({4, 5, 7}))) == 4 * 2.0 * 3 * 5 * 7);
  CHECK(flops_behind(matmul(data({3, 0}), data({0, 7}))) == 0);
  CHECK(flops_behind(relu(data({3, 5}) + 1)) == 0);
  const double window = 2.0 * 2 * (7 * 6 * 4) * (3 * 3 * 5);  // two images, 7 x 6 results in 4 channels
  const Tensor x = variable(data({2, 9, 8, 5})), w = variable(data({3, 3, 5, 4}));
  const Tensor y = conv2d(x, w);
  CHECK(flops_behind(y) == window);
  const Tensor loss = sum(square(y));
  CHECK(flops_behind(grad(loss, w)) == window);
  CHECK(flops_behind(grad(loss, x)) == window);
}
