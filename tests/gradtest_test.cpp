// The gradient tester on every operation, on functions and networks; what is right passes, and wrong
// gradients are told.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "../graph/override.h"
#include "../graph/registry.h"
#include "../models/opgrad.h"
#include "../ops/define.h"
#include "../ops/gradtest/gradtest.h"
#include "gradtest_cases.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

extern const Op right_op, scaled_op, added_op, stale_op, no_path_op, turned_op, transposed_op, refusing_op;
constinit const Op right_op = cube(
    "test.right", [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy)}; },
    one_example<right_op>);
constinit const Op scaled_op = cube(
    "test.scaled",
    [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy) * 1.00001}; },
    one_example<scaled_op>);
constinit const Op added_op = cube(
    "test.added",
    [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy) + 1e-6 * dy}; },
    one_example<added_op>);
constinit const Op stale_op = cube(
    "test.stale",
    [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * 3 * square(detach(y.input(0)))}; },
    one_example<stale_op>);
constinit const Op no_path_op = cube(
    "test.no_path", [](const Tensor&, const Tensor&, Wanted) { return Grads{Tensor()}; },
    one_example<no_path_op>);
constinit const Op turned_op = cube(
    "test.turned", [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{rot180(cube_rule(y, dy))}; },
    square_example<turned_op>);
constinit const Op transposed_op = cube(
    "test.transposed",
    [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{transpose(cube_rule(y, dy))}; },
    square_example<transposed_op>);
constinit const Op refusing_op = cube(
    "test.refusing",
    [](const Tensor& y, const Tensor&, Wanted) {
      return Grads{y + zeros({7, 7}, y.dtype())};
    },
    one_example<refusing_op>);

}  // namespace

TEST_CASE(
    "gradtest: every operation passes in both dtypes and both orders, and each check could have failed") {
  GradtestOptions options;
  options.threads = {1, 2};
  const GradtestReport r = gradtest_matching("[a-z0-9_]+", options);
  std::set<std::string> skipped, without_rule;
  for (const GradtestRow& row : r.rows) {
    const std::string label =
        row.name + " " + std::string(name_of(row.dtype)) + " " + std::to_string(row.order);
    CAPTURE(label);
    for (const GradtestFailure& f : row.failures)
      FAIL_CHECK(f.check << ": " << f.message << " (" << f.example << ")");
    if (row.verdict == Verdict::skipped) {
      skipped.insert(row.name);
      continue;
    }
    CHECK(row.verdict == Verdict::pass);
    CHECK(row.cases > 0);
    CHECK(row.controls > 0);
    CHECK(row.power > 0);
    CHECK(row.power <= (row.dtype == DType::f32 ? 1e-3 : 1e-5));
  }
  for (const Op* op : all_ops())
    if (op->backward == no_gradient) without_rule.insert(op->name);
  for (const std::string& name : skipped) CHECK_MESSAGE(without_rule.contains(name), name);
  CHECK(r.rows.size() >= 4 * 58);
  CHECK(r.passed());
  CHECK(r.exit_code() == 0);
}

TEST_CASE("gradtest: a hundred seeds of every operation give no false alarm" * doctest::skip()) {
  GradtestOptions options;
  options.repeat = 100;
  options.seed = 1000;
  const GradtestReport r = gradtest_matching("[a-z0-9_]+", options);
  for (const GradtestRow& row : r.rows)
    for (const GradtestFailure& f : row.failures)
      FAIL_CHECK(row.name << ": " << f.check << ": " << f.message << " (" << f.example << ")");
  CHECK(r.passed());
}

TEST_CASE("gradtest: a right rule passes, and its report says with what power") {
  const GradtestReport r = gradtest(right_op, quick({DType::f32, DType::f64}));
  REQUIRE(r.rows.size() == 4);
  CHECK(r.passed());
  for (const GradtestRow& row : r.rows) {
    CHECK(row.controls >= 5);
    CHECK(row.max_error <= row.bound);
    CHECK(row.power < (row.dtype == DType::f32 ? 1e-4 : 1e-10));
  }
}

TEST_CASE("gradtest: a factor of 1.00001 and 1e-6 added are wrong gradients, with exit code 1") {
  CHECK(complaints(gradtest(scaled_op, quick())).contains("gradient"));
  CHECK(gradtest(scaled_op, quick()).exit_code() == 1);
  CHECK(complaints(gradtest(added_op, quick())).contains("gradient"));
}

TEST_CASE("gradtest: in f32 alone a factor of 1.001 is told, one of 1.00001 is not") {
  const auto with = [](double factor) {
    const BackwardOverride rule(right_op, [factor](const Tensor& y, const Tensor& dy, Wanted) {
      return Grads{cube_rule(y, dy) * factor};
    });
    return gradtest(right_op, quick({DType::f32}));
  };
  CHECK(with(1.001).exit_code() == 1);
  CHECK(with(1.0).exit_code() == 0);
  CHECK(with(1.0000001).exit_code() == 0);
}

TEST_CASE("gradtest: layouts, missing paths and rules that refuse are wrong") {
  CHECK(complaints(gradtest(turned_op, quick())).contains("gradient"));
  CHECK(complaints(gradtest(transposed_op, quick())).contains("gradient"));
  CHECK(complaints(gradtest(no_path_op, quick())).contains("gradient"));
  const GradtestReport refusing = gradtest(refusing_op, quick());
  CHECK(complaints(refusing) == std::set<std::string>{"error"});
  CHECK(refusing.rows[0].failures[0].message.find("do not broadcast") != std::string::npos);
  CHECK(refusing.exit_code() == 1);
}

TEST_CASE("gradtest: right in the first order and wrong in the second") {
  const GradtestReport r = gradtest(stale_op, quick());
  REQUIRE(r.rows.size() == 2);
  CHECK(r.rows[0].verdict == Verdict::pass);
  CHECK(r.rows[1].verdict == Verdict::wrong);
  CHECK(complaints(r).contains("gradient"));
}

// -------------------------------------------------------------------------------- functions

TEST_CASE("gradtest: a composite is tested as a function") {
  const GradtestReport r =
      gradtest("swish", [](std::span<const Tensor> x) { return x[0] * sigmoid(x[1] * x[0]); },
               {sample({3, 4}), sample({3, 4})});
  CHECK(r.passed());
  CHECK(r.rows.size() == 4);
}

TEST_CASE("gradtest: a network is tested by its loss, and a wrong rule inside it is told") {
  const Sequential net{Conv2D(2, 3, relu), MaxPool2D(2), Flatten(), Dense(4, tanh), Dense(3, softmax)};
  const Tensor images = random_uniform(random_key({5, 0}), {2, 8, 8, 1});
  const auto loss = [&] { return cross_entropy(net(images), tensor<std::int64_t>({0, 2})); };
  GradtestOptions options = quick({DType::f32, DType::f64});
  const GradtestReport r = gradtest("net", loss(), options);
  for (const GradtestRow& row : r.rows)
    for (const GradtestFailure& f : row.failures) FAIL_CHECK(f.check << ": " << f.message);
  CHECK(r.passed());
  const BackwardOverride rule(*find_op("tanh"), [](const Tensor& y, const Tensor& dy, Wanted) {
    return Grads{dy * (1 - square(y)) * 1.00001};
  });
  options.orders = {1};
  options.dtypes = {DType::f64};
  CHECK(gradtest("net", loss(), options).exit_code() == 1);
}

TEST_CASE("gradtest: an unknown name is an error with names that are near") {
  try {
    gradtest("tanhh");
    FAIL("no error");
  } catch (const UserError& e) {
    const std::string text = e.what();
    CHECK_MESSAGE(text.find("no operation \"tanhh\" is registered; near it: tanh") != text.npos, text);
  }
  CHECK_THROWS_AS(gradtest_matching("("), UserError);
  CHECK_THROWS_AS(gradtest_matching("nothing_like_it"), UserError);
}

TEST_CASE("gradtest: conv2d's identities hold, and the tempting false ones are rejected") {
  const GradtestReport r = gradtest("conv2d", quick());
  REQUIRE(r.passed());
  std::string all;
  for (const std::string& text : r.rows[0].identities) all += text + "\n";
  CAPTURE(all);
  CHECK(all.find("kernel gradient = the convolution of the input with rot180(delta): holds") != all.npos);
  CHECK(all.find("kernel gradient = the correlation of the input with delta: holds") != all.npos);
  CHECK(all.find("the correlation of the input with the flipped delta: rejected") != all.npos);
  CHECK(all.find("input gradient = the full convolution of delta with the kernel: holds") != all.npos);
  CHECK(all.find("input gradient = the full correlation of delta with the kernel: rejected") != all.npos);
  CHECK(r.rows[0].identities.size() == 5);
}
