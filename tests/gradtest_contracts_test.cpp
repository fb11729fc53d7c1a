// The gradient tester beyond wrong gradients: kinks, kernels, threads, repetition, examples that show
// nothing; each is told by the check made for it.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "../core/loops.h"
#include "../core/parallel.h"
#include "../models/opgrad.h"
#include "../ops/define.h"
#include "../ops/gradtest/gradtest.h"
#include "gradtest_cases.h"

using namespace opgrad;
using namespace opgrad::test;

// -------------------------------------------------------------------------------- kinks

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

// -------------------------------------------------------------------------------- contracts

namespace {

int calls = 0;

void flat_cube(const KernelArgs& a) {  // knows dense inputs only; of others it makes zeros
  for (std::int64_t i = 0; i < a.out.numel(); ++i)
    dispatch_float(a.out.dtype(), [&]<class T>() {
      const T x = a.in[0].dense() ? a.in[0].as<T>()[i] : T(0);
      a.out.as<T>()[i] = x * x * x;
    });
}

extern const Op constant_op, counting_op, threaded_op, flat_op, biased_op, lying_op, twisted_op, silent_op;
constinit const Op counting_op = cube(
    "test.counting",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      return Grads{cube_rule(y, dy) * (1 + 0x1p-52 * (++calls % 5))};
    },
    one_example<counting_op>);
constinit const Op threaded_op = cube(
    "test.threaded",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      return Grads{cube_rule(y, dy) * (dy.dtype() == DType::f32 ? 1 + 1e-6 * (threads() - 1) : 1.0)};
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

namespace {

extern const Op declared_op;
constinit const Op declared_op{
    .name = "test.declared",
    .arity = 1,
    .about = "0 x",
    .shape = same_float,
    .forward = map1<[](auto x) { return 0 * x; }>,
    .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{0 * dy}; },
    .examples = one_example<declared_op>,
    .exemptions =
        [] {
          return Exemptions{{"vacuous", "the gradient is 0 everywhere"}};
        }};

}  // namespace

TEST_CASE("gradtest: a gradient of zero passes where the record declares it, and the skip is said") {
  const GradtestReport r = gradtest(declared_op, quick());
  CHECK_MESSAGE(r.passed(), r.table());
  CHECK(r.table().find("vacuous: the gradient is 0 everywhere") != std::string::npos);
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

// ------------------------------------------------------------------------------------------------ cotangents

namespace {

Tensor product(std::span<const Tensor> x);
// a b, whose gradients are exchanged where only one is wanted.
constinit const Op partial_op{
    .name = "test.partial",
    .arity = 2,
    .traits = Traits::multilinear,
    .about = "a b",
    .shape = same_float,
    .forward = map2<[](auto a, auto b) { return a * b; }>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor a = y.input(0), b = y.input(1);
          if (wanted(0) && wanted(1)) return Grads{dy * b, dy * a};
          return Grads{wanted(0) ? dy * a : Tensor(), wanted(1) ? dy * b : Tensor()};
        },
    .examples =
        [] {
          return Examples{{{sample({2, 3}), sample({2, 3})}, product}};
        }};
Tensor product(std::span<const Tensor> x) { return make(partial_op, {x[0].node(), x[1].node()}, {}); }

extern const Op clipped_op, lazy_op, deep_op, half_blind_op;
constinit const Op clipped_op = cube(
    "test.clipped",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      return Grads{cube_rule(y, minimum(maximum(dy, -1.5), 1.5))};
    },
    one_example<clipped_op>);
constinit const Op lazy_op = cube(
    "test.lazy",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      return Grads{cube_rule(y, dy) * (dy.evaluated() ? 1 : 2)};
    },
    one_example<lazy_op>);
constinit const Op deep_op = cube(
    "test.nan", [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy)}; },
    [] {
      return Examples{{{sample({2, 3})}, [](std::span<const Tensor> x) {
                         return call_one<deep_op>({{log(-2 - square(x[0]))}});
                       }}};
    });
// Right on [-0.1, 1], where a lattice that stands still would put its one number.
constinit const Op half_blind_op = cube(
    "test.half_blind",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      const Tensor g = cube_rule(y, dy);
      return Grads{where(y.input(0) < -0.1, 2 * g, g)};
    },
    [] {
      return Examples{{{sample({})}, call_one<half_blind_op>}};
    });

}  // namespace

TEST_CASE("gradtest: a rule that depends on which gradients are wanted is told") {
  CHECK(complaints(gradtest(partial_op, quick())) == std::set<std::string>{"wanted"});
}

TEST_CASE("gradtest: a rule that is not linear in dy, or asks how dy is made, is told") {
  CHECK(complaints(gradtest(clipped_op, quick())).contains("linearity"));
  CHECK(complaints(gradtest(lazy_op, quick())).contains("cotangent"));
}

TEST_CASE("gradtest: a function that is not finite at its examples is inconclusive") {
  const GradtestReport r = gradtest(deep_op, quick());
  CHECK(complaints(r) == std::set<std::string>{"values"});
  CHECK(r.exit_code() == 2);
}

namespace {

// x^3 in f64, 5 x^3 in f32.
void narrow_cube(const KernelArgs& a) {
  dispatch_float(a.out.dtype(), [&]<class T>() {
    for (std::int64_t i = 0; i < a.out.numel(); ++i) {
      const T x = a.in[0].as<T>()[i];
      a.out.as<T>()[i] = (sizeof(T) == 4 ? T(5) : T(1)) * x * x * x;
    }
  });
}
extern const Op narrow_op, hole_op;
constinit const Op narrow_op{
    .name = "test.narrow",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "x^3",
    .shape = same_float,
    .forward = narrow_cube,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{cube_rule(y, dy)}; },
    .examples = one_example<narrow_op>};
// Right in the first order everywhere, but 0 / 0 in the second at 0.
constinit const Op hole_op = cube(
    "test.hole",
    [](const Tensor& y, const Tensor& dy, Wanted) {
      const Tensor x = y.input(0);
      return Grads{3 * dy * where(equal(x, 0), square(x), square(x) * x / x)};
    },
    one_example<hole_op>);

}  // namespace

TEST_CASE("gradtest: a kernel that computes something else in f32 is told") {
  CHECK(complaints(gradtest(narrow_op, quick())).empty());
  CHECK(complaints(gradtest(narrow_op, quick({DType::f32}))) == std::set<std::string>{"f32 kernel"});
}

TEST_CASE("gradtest: a second derivative that is NaN at ties is told") {
  CHECK(complaints(gradtest(hole_op, quick())) == std::set<std::string>{"ties"});
}

TEST_CASE("gradtest: a single number is drawn all over its domain") {
  CHECK(complaints(gradtest(half_blind_op, quick())).contains("gradient"));
}

TEST_CASE("gradtest: a function that gives other values when called again is told") {
  int count = 0;
  const GradtestReport r = gradtest(
      "restless", [&](std::span<const Tensor> x) { return x[0] * static_cast<double>(++count); },
      {sample({3})}, quick());
  CHECK(complaints(r) == std::set<std::string>{"repetition"});
}

TEST_CASE("gradtest: gradients that vanish for a mathematical reason are no false alarms") {
  GradtestOptions both = quick({DType::f32, DType::f64});
  const Sequential net{Flatten(), Dense(4), BatchNormalization(), Dense(3, softmax)};
  const Tensor images = random_uniform(random_key({5, 0}), {6, 3, 2, 1});
  const GradtestReport r =
      gradtest("bias before a normalisation",
               cross_entropy(net(images), tensor<std::int64_t>({0, 2, 1, 0, 1, 2})), both);
  CHECK_MESSAGE(r.passed(), r.table());
  const GradtestReport shifted = gradtest(
      "a bias of each row", [](std::span<const Tensor> x) { return softmax(x[0] + x[1]); },
      {sample({3, 4}), sample({3, 1})}, both);
  CHECK_MESSAGE(shifted.passed(), shifted.table());
}

TEST_CASE("gradtest: kinks at the very numbers of a network are no false alarms") {
  const Tensor p = variable(tensor({0.0, 1e-13, 0.5, -0.5}));
  const GradtestReport r = gradtest("l1", sum(abs(p)) + sum(relu(p)), std::vector<Tensor>{p}, quick());
  CHECK_MESSAGE(r.passed(), r.table());
}

TEST_CASE("gradtest: options and subjects that make no sense are refused") {
  GradtestOptions o = quick();
  o.orders = {3};
  CHECK_THROWS_WITH_AS(gradtest("tanh", o), "gradtest: order 3 was asked for; there are 1 and 2", UserError);
  o = quick();
  o.threads = {0, 1};
  CHECK_THROWS_WITH_AS(gradtest("tanh", o), "gradtest: 0 threads were asked for; there may be 1 to 1024",
                       UserError);
  const Tensor x = variable(tensor({1.0}));
  CHECK_THROWS_WITH_AS(gradtest("nothing", sum(x), std::vector<Tensor>{}, quick()),
                       "gradtest: \"nothing\" was given nothing to differentiate by", UserError);
}
