// The gradient tester: what is right passes, and each way of being wrong is told by the check made for it.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "../core/loops.h"
#include "../core/parallel.h"
#include "../graph/override.h"
#include "../graph/registry.h"
#include "../models/opgrad.h"
#include "../ops/define.h"
#include "../ops/gradtest/gradtest.h"

using namespace opgrad;

namespace {

GradtestOptions quick(std::vector<DType> dtypes = {DType::f64}) {
  GradtestOptions o;
  o.dtypes = std::move(dtypes);
  o.threads = {};
  o.explain = false;
  return o;
}

// Every check that complained.
std::set<std::string> complaints(const GradtestReport& r) {
  std::set<std::string> checks;
  for (const GradtestRow& row : r.rows)
    for (const GradtestFailure& f : row.failures) checks.insert(f.check);
  return checks;
}

// A record with one float input of shape [2, 3]; the parts under test are put in.
template <const Op& op>
Tensor call_one(std::span<const Tensor> x) {
  return make(op, {x[0].node()}, {});
}
template <const Op& op>
Examples one_example() {
  return {{{sample({2, 3})}, call_one<op>}};
}
// Matrices that may be transposed.
template <const Op& op>
Examples square_example() {
  return {{{sample({3, 3})}, call_one<op>}};
}

constexpr Kernel cube_kernel = map1<[](auto x) { return x * x * x; }>;
Tensor cube_rule(const Tensor& y, const Tensor& dy) { return dy * 3 * square(y.input(0)); }

constexpr Op cube(const char* name, Backward backward, Examples (*examples)()) {
  return {.name = name,
          .arity = 1,
          .about = "x^3",
          .shape = same_float,
          .forward = cube_kernel,
          .backward = backward,
          .examples = examples};
}

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
  CHECK(r.rows.size() >= 4 * 53);
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

// ------------------------------------------------------------------------------------------------ kinks

namespace {

constexpr Op hinge(const char* name, Backward backward, Examples (*examples)(), Kinks (*kinks)()) {
  return {.name = name,
          .arity = 1,
          .about = "max(0, x)",
          .shape = same_float,
          .forward = map1<[](auto x) { return max(0, x); }>,
          .backward = backward,
          .examples = examples,
          .kinks = kinks};
}
template <const Op& op, int at_0>
Kinks at_zero() {
  return {{"at 0", {{{2}, {0, 1}, {at_0, 1}}}, call_one<op>}};
}
Grads hinge_rule(const Tensor& y, const Tensor& dy, double at_0) {
  const Tensor x = y.input(0);
  return {where(x > 0, dy, where(x < 0, 0, dy * at_0))};
}

extern const Op outside_op, unstated_op, misstated_op, half_op;
constinit const Op outside_op = hinge(
    "test.outside", [](const Tensor& y, const Tensor& dy, Wanted) { return hinge_rule(y, dy, 2); },
    one_example<outside_op>, at_zero<outside_op, 2>);
constinit const Op unstated_op = hinge(
    "test.unstated", [](const Tensor& y, const Tensor& dy, Wanted) { return hinge_rule(y, dy, 0); },
    one_example<unstated_op>, nullptr);
constinit const Op misstated_op = hinge(
    "test.misstated", [](const Tensor& y, const Tensor& dy, Wanted) { return hinge_rule(y, dy, 0); },
    one_example<misstated_op>, at_zero<misstated_op, 1>);
constinit const Op half_op = hinge(
    "test.half", [](const Tensor& y, const Tensor& dy, Wanted) { return hinge_rule(y, dy, 0.5); },
    one_example<half_op>,
    [] {
      return Kinks{{"the mean of both slopes", {{{2}, {0, 1}, {0.5, 1}}}, call_one<half_op>}};
    });

}  // namespace

TEST_CASE("gradtest: at a kink any value between the slopes passes if the record states it") {
  const GradtestReport r = gradtest(half_op, quick());
  CHECK(r.passed());
  CHECK(r.rows[0].kinks > 0);
}

TEST_CASE("gradtest: at a kink a value outside the slopes is wrong, stated or not") {
  CHECK(complaints(gradtest(outside_op, quick())).contains("ties"));
  CHECK(complaints(gradtest(outside_op, quick())).contains("convention"));
}

TEST_CASE("gradtest: a kink without a stated convention, and one that is not kept, are wrong") {
  CHECK(complaints(gradtest(unstated_op, quick())) == std::set<std::string>{"convention"});
  CHECK(complaints(gradtest(misstated_op, quick())) == std::set<std::string>{"convention"});
}

// ------------------------------------------------------------------------------------------------ contracts

namespace {

int calls = 0;

void flat_cube(const KernelArgs& a) {  // knows dense inputs only; of others it makes zeros
  for (std::int64_t i = 0; i < a.out.numel(); ++i)
    dispatch_float(a.out.dtype(), [&]<class T>() {
      const T x = a.in[0].dense() ? a.in[0].as<T>()[i] : T(0);
      a.out.as<T>()[i] = x * x * x;
    });
}

extern const Op constant_op, counting_op, threaded_op, flat_op, biased_op, lying_op, twisted_op, silent_op,
    even_op;
constinit const Op counting_op = cube(
    "test.counting",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      return Grads{cube_rule(y, dy) * (1 + 0x1p-52 * (++calls % 5))};
    },
    one_example<counting_op>);
constinit const Op threaded_op = cube(
    "test.threaded",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      return Grads{cube_rule(y, dy) * (dy.dtype() == DType::f32 ? 1 + 1e-3 * (threads() - 1) : 1.0)};
    },
    one_example<threaded_op>);
constinit const Op biased_op = cube(
    "test.biased", [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy) + 1e-15}; },
    one_example<biased_op>);
constinit const Op flat_op{
    .name = "test.flat",
    .arity = 1,
    .about = "x^3, of dense inputs",
    .shape = same_float,
    .forward = flat_cube,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy)}; },
    .examples = one_example<flat_op>};
constinit const Op lying_op{
    .name = "test.lying",
    .arity = 1,
    .traits = Traits::linear,
    .about = "x^3, said to be linear",
    .shape = same_float,
    .forward = cube_kernel,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy)}; },
    .examples = one_example<lying_op>};
constinit const Op twisted_op{
    .name = "test.twisted",
    .arity = 1,
    .about = "x^3, whose dual numbers compute x^2",
    .shape = same_float,
    .forward = {cube_kernel.run, map1<[](auto x) { return x * x; }>.dual},
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy)}; },
    .examples = one_example<twisted_op>};
constinit const Op constant_op{
    .name = "test.constant",
    .arity = 1,
    .about = "0 x",
    .shape = same_float,
    .forward = map1<[](auto x) { return 0 * x; }>,
    .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{0 * dy}; },
    .examples = one_example<constant_op>};
constinit const Op silent_op{
    .name = "test.silent",
    .arity = 1,
    .about = "x^3 without examples",
    .shape = same_float,
    .forward = cube_kernel,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy)}; }};

}  // namespace

TEST_CASE("gradtest: a rule that changes from call to call is told") {
  CHECK(complaints(gradtest(counting_op, quick())).contains("repetition"));
}

TEST_CASE("gradtest: a rule whose bits depend on the number of threads is told") {
  GradtestOptions options = quick();
  CHECK(gradtest(threaded_op, options).passed());
  const int before = threads();
  options.threads = {1, 2};
  CHECK(complaints(gradtest(threaded_op, options)) == std::set<std::string>{"threads"});
  CHECK(threads() == before);
}

TEST_CASE("gradtest: a cotangent of zeros must give zeros") {
  CHECK(complaints(gradtest(biased_op, quick())).contains("zero cotangent"));
}

TEST_CASE("gradtest: a kernel that takes strided inputs for dense ones is told") {
  CHECK(complaints(gradtest(flat_op, quick())).contains("strided inputs"));
}

TEST_CASE("gradtest: traits and dual numbers that contradict the computed values are told") {
  CHECK(complaints(gradtest(lying_op, quick())).contains("forward kernel"));
  CHECK(complaints(gradtest(twisted_op, quick())).contains("forward kernel"));
}

TEST_CASE("gradtest: zero against zero is inconclusive, no examples are missing, and exit codes say so") {
  const GradtestReport vacuous = gradtest(constant_op, quick());
  CHECK(complaints(vacuous).contains("vacuous"));
  CHECK(vacuous.rows[0].verdict == Verdict::inconclusive);
  CHECK(vacuous.exit_code() == 2);
  const GradtestReport silent = gradtest(silent_op, quick());
  CHECK(silent.rows[0].verdict == Verdict::missing);
  CHECK(silent.exit_code() == 3);
}

TEST_CASE("gradtest: examples too symmetric for a control are inconclusive") {
  const GradtestReport r = gradtest(
      "total", [](std::span<const Tensor> x) { return sum(x[0]); }, {{Shape{3, 3}}}, quick());
  CHECK(r.passed());  // a function: only records owe an example for each control
  static constinit const Op total_op{
      .name = "test.total",
      .arity = 1,
      .about = "2 x, of a tensor whose elements are all equal",
      .shape = same_float,
      .forward = map1<[](auto x) { return 2 * x; }>,
      .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{2 * dy}; },
      .examples =
          [] {
            return Examples{{{sample({3, 3})}, [](std::span<const Tensor> x) {
                               return sum(make(total_op, {x[0].node()}, {}));
                             }}};
          }};
  const GradtestReport record = gradtest(total_op, quick());
  CHECK(record.rows[0].verdict == Verdict::inconclusive);
  CHECK(complaints(record).contains("control: rot180"));
  CHECK(complaints(record).contains("control: transposed"));
}

// ------------------------------------------------------------------------------------------------ functions

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
