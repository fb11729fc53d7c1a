// Optimizers against their published updates, by values computed by hand; the interface; schedules; clipping.
#include "../optim/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "../graph/run.h"
#include "../ops/ops.h"
#include "errors.h"

using namespace opgrad;
using test::contains;
using test::message;

namespace {

// One step along a loss whose gradient is exactly `gradient`.
double step(Optimizer& optimizer, const Parameter& w, double gradient) {
  optimizer.step(sum(w * gradient));
  return w.value().values<double>()[0];
}

Parameter one() { return Parameter("w", tensor({1.0})); }

}  // namespace

TEST_CASE("SGD without momentum: w - rate g") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = 0.1}};
  CHECK(step(sgd, w, 2) == doctest::Approx(0.8).epsilon(1e-14));
  CHECK(step(sgd, w, -1) == doctest::Approx(0.9).epsilon(1e-14));
}

// Sutskever et al. 2013, equations 1 and 2: v = 0.9 v - 0.1 g; w + v.
TEST_CASE("SGD with momentum: the classical update") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = 0.1, .momentum = 0.9}};
  CHECK(step(sgd, w, 2) == doctest::Approx(1 - 0.2).epsilon(1e-14));
  CHECK(step(sgd, w, 2) == doctest::Approx(0.8 - 0.38).epsilon(1e-14));
  CHECK(step(sgd, w, -1) == doctest::Approx(0.42 - 0.242).epsilon(1e-14));
  CHECK(sgd.slot(w, "momentum").item() == doctest::Approx(-0.242).epsilon(1e-14));
}

// Equations 3 and 4 in Keras's variables: v = 0.9 v - 0.1 g; w + 0.9 v - 0.1 g.
TEST_CASE("SGD with Nesterov's momentum") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = 0.1, .momentum = 0.9, .nesterov = true}};
  CHECK(step(sgd, w, 2) == doctest::Approx(1 - 0.18 - 0.2).epsilon(1e-14));
  CHECK(step(sgd, w, 2) == doctest::Approx(0.62 - 0.342 - 0.2).epsilon(1e-14));
}

TEST_CASE("SGD with weight decay: the gradient plus decay times w") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = 0.1, .weight_decay = 0.5}};
  CHECK(step(sgd, w, 2) == doctest::Approx(1 - 0.1 * 2.5).epsilon(1e-14));
  CHECK(step(sgd, w, 2) == doctest::Approx(0.75 - 0.1 * 2.375).epsilon(1e-14));
}

// Kingma and Ba 2015, algorithm 1: t=1: m = 0.2, v = 0.004, a = 0.1 sqrt(0.001) / 0.1; and so on by pocket
// calculator.
TEST_CASE("Adam: three steps of algorithm 1") {
  const Parameter w = one();
  Adam adam{{.learning_rate = 0.1}};
  CHECK(step(adam, w, 2) == doctest::Approx(0.900000158113633).epsilon(1e-14));
  CHECK(step(adam, w, -1) == doctest::Approx(0.8733664918283603).epsilon(1e-14));
  CHECK(step(adam, w, 0.5) == doctest::Approx(0.839323624031366).epsilon(1e-14));
  CHECK(adam.slot(w, "m").item() == doctest::Approx(0.9 * 0.08 + 0.05).epsilon(1e-14));
  CHECK(adam.slot(w, "v").item() == doctest::Approx(0.999 * 0.004996 + 0.00025).epsilon(1e-14));
}

TEST_CASE("Adam: the first step has the length of the rate, whatever the gradient's") {
  for (const double g : {1e-3, 1.0, 1e6}) {
    const Parameter w = one();
    Adam adam{{.learning_rate = 0.01, .epsilon = 1e-30}};
    CHECK(step(adam, w, g) == doctest::Approx(0.99).epsilon(1e-12));
  }
}

// Loshchilov and Hutter 2019, algorithm 2: the decay does not pass through m and v.
TEST_CASE("AdamW: two steps with decoupled decay") {
  const Parameter w = one();
  AdamW adam{{.learning_rate = 0.1, .weight_decay = 0.05}};
  CHECK(step(adam, w, 2) == doctest::Approx(0.8950001581136329).epsilon(1e-14));
  CHECK(step(adam, w, -1) == doctest::Approx(0.8638914910377921).epsilon(1e-14));
}

TEST_CASE("the defaults are Keras's") {
  CHECK(SGD().learning_rate() == 0.01);
  CHECK(Adam().learning_rate() == 1e-3);
  const AdamWOptions o;
  CHECK(o.beta1 == 0.9);
  CHECK(o.beta2 == 0.999);
  CHECK(o.epsilon == 1e-7);
  CHECK(o.weight_decay == 0.004);
}

namespace {
class SignDescent : public Optimizer {
 public:
  explicit SignDescent(double rate) : Optimizer(rate) {}

 private:
  Tensor update(const Tensor& value, const Tensor& gradient, Slots& slots) override {
    Tensor& steps = slots("steps");
    steps = steps + 1;
    return value - rate(value) * where(gradient > 0, ones_like(value), -ones_like(value));
  }
};
}  // namespace

TEST_CASE("an optimizer of one's own takes a dozen lines") {
  const Parameter w = one();
  SignDescent descent(0.25);
  CHECK(step(descent, w, 7) == 0.75);
  CHECK(step(descent, w, -3) == 1.0);
  CHECK(descent.slot(w, "steps").item() == 2);
  CHECK(descent.steps() == 2);
}

TEST_CASE("a step is one plan, made once, though rate and step count change") {
  const Parameter w("w", tensor({1.0, 2.0})), b("b", tensor({3.0}));
  AdamW adam{{.learning_rate = cosine(0.1, 50)}};
  const auto once = [&] { return adam.step(sum(square(w * 3.0 + b))); };
  clear_plan_cache();
  reset_plan_stats();
  for (int i = 0; i < 20; ++i) once();
  CHECK(plan_stats().plans == 1);
  CHECK(plan_stats().hits == 19);
}

TEST_CASE("parameters and slots are updated in place: no donation is missed") {
  const Parameter w("w", full({1000}, 1.0));
  Adam adam;
  reset_plan_stats();
  for (int i = 0; i < 3; ++i) adam.step(sum(square(w)));
  CHECK(plan_stats().missed_donations == 0);
}

TEST_CASE("step returns the loss of the old weights, and what is held is computed with them") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = 0.1}};
  const Tensor y = w * 2.0;
  CHECK(sgd.step(sum(square(y))).item() == 4);
  CHECK(y.evaluated());
  CHECK(y.item() == 2);
  CHECK(w.value().item() == doctest::Approx(1 - 0.1 * 8));
}

TEST_CASE("a loss that was read before the step is stepped all the same") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = 0.1}};
  const Tensor loss = sum(square(w));
  CHECK(loss.item() == 1);
  CHECK(sgd.step(loss).item() == 1);
  CHECK(w.value().item() == doctest::Approx(0.8));
}

TEST_CASE("a parameter set moves only its parameters") {
  const Parameter a("a", tensor({1.0})), b("b", tensor({1.0}));
  SGD sgd{{.learning_rate = 0.1}};
  sgd.step(sum(a * b), std::vector{b});
  CHECK(a.value().item() == 1);
  CHECK(b.value().item() == doctest::Approx(0.9));
}

TEST_CASE("a frozen parameter is left out, and taken in again when thawed") {
  Parameter a("a", tensor({1.0})), b("b", tensor({1.0}));
  SGD sgd{{.learning_rate = 0.1}};
  a.set_trainable(false);
  sgd.step(sum(a * b));
  CHECK(a.value().item() == 1);
  CHECK(b.value().item() == doctest::Approx(0.9));
  a.set_trainable(true);
  sgd.step(sum(a * b));
  CHECK(a.value().item() == doctest::Approx(1 - 0.1 * 0.9));
}

TEST_CASE("gradients may be changed between the halves of a step") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = 0.1}};
  Gradients g = gradients(sum(w * 2.0));
  g.gradients[0] = -g.gradients[0];
  sgd.apply(g);
  CHECK(w.value().item() == doctest::Approx(1.2));
}

TEST_CASE("clip_by_global_norm: norm 5 cut to 1, norm below the limit untouched") {
  const Parameter a("a", tensor({0.0})), b("b", tensor({0.0}));
  SGD sgd{{.learning_rate = 1.0}};
  sgd.apply(clip_by_global_norm(gradients(sum(a * 3.0 + b * 4.0)), 1.0));
  CHECK(a.value().item() == doctest::Approx(-0.6).epsilon(1e-14));
  CHECK(b.value().item() == doctest::Approx(-0.8).epsilon(1e-14));
  sgd.apply(clip_by_global_norm(gradients(sum(a * 3.0 + b * 4.0)), 5.5));
  CHECK(a.value().item() == doctest::Approx(-3.6).epsilon(1e-14));
  CHECK(b.value().item() == doctest::Approx(-4.8).epsilon(1e-14));
}

TEST_CASE("cosine: from the initial rate through half of it to 0, after a straight warm-up") {
  const LearningRate rate = cosine(2.0, 100);
  CHECK(rate(0) == 2.0);
  CHECK(rate(50) == doctest::Approx(1.0).epsilon(1e-14));
  CHECK(rate(25) == doctest::Approx(1 + std::sqrt(0.5)).epsilon(1e-14));
  CHECK(rate(100) == 0.0);
  CHECK(rate(1000) == 0.0);
  const LearningRate warm = cosine(2.0, 14, 4);
  CHECK(warm(0) == 0.5);
  CHECK(warm(3) == 2.0);
  CHECK(warm(4) == 2.0);
  CHECK(warm(9) == doctest::Approx(1.0).epsilon(1e-14));
  CHECK(contains(message([] { cosine(1.0, 10, 10); }), "10 steps of warm-up do not fit into 10 steps"));
}

TEST_CASE("piecewise: the last rate whose step has come") {
  const LearningRate rate = piecewise({{0, 0.5}, {10, 0.25}});
  CHECK(rate(9) == 0.5);
  CHECK(rate(10) == 0.25);
  CHECK(contains(message([] { piecewise({{5, 0.1}}); }), "the first pair must be for step 0"));
  CHECK(contains(message([] { piecewise({{0, 0.1}, {5, 0.1}, {5, 0.2}}); }), "step 5 follows step 5"));
}

TEST_CASE("the rate may be a function of the step, and be replaced") {
  const Parameter w = one();
  SGD sgd{{.learning_rate = [](std::int64_t step) { return step == 0 ? 0.5 : 0.25; }}};
  CHECK(step(sgd, w, 1) == 0.5);
  CHECK(step(sgd, w, 1) == 0.25);
  sgd.set_learning_rate(0.125);
  CHECK(step(sgd, w, 1) == 0.125);
}

TEST_CASE("f32 parameters keep f32 slots") {
  const Parameter w("w", tensor({1.0F}));
  Adam adam;
  adam.step(sum(square(w)));
  CHECK(adam.slot(w, "m").dtype() == DType::f32);
  CHECK(w.dtype() == DType::f32);
}

TEST_CASE("options outside their range are refused") {
  CHECK(contains(message([] { SGD{{.momentum = 1.0}}; }),
                 "SGD: momentum is 1, but must be at least 0 and less than 1"));
  CHECK(contains(message([] { SGD{{.nesterov = true}}; }), "nesterov needs a momentum above 0"));
  CHECK(contains(message([] { Adam{{.beta2 = -0.1}}; }), "Adam: beta2 is -0.1"));
  CHECK(contains(message([] { AdamW{{.weight_decay = -1}}; }), "AdamW: weight_decay is -1"));
}

TEST_CASE("a step that fails is not counted and changes nothing") {
  const Parameter w = one();
  Adam adam{{.learning_rate = [](std::int64_t step) { return step == 1 ? std::nan("") : 0.1; }}};
  step(adam, w, 2);
  const double before = w.value().item();
  CHECK(contains(message([&] { adam.step(sum(w * 2.0)); }), "the learning rate of step 1 is nan"));
  CHECK(adam.steps() == 1);
  CHECK(w.value().item() == before);
  CHECK(adam.slot(w, "m").item() == doctest::Approx(0.2));
}

TEST_CASE("an update of the wrong type is refused, naming the parameter") {
  class Wrong : public Optimizer {
   public:
    Wrong() : Optimizer(0.1) {}

   private:
    Tensor update(const Tensor& value, const Tensor&, Slots&) override { return sum(value); }
  };
  const Parameter w("net/kernel", tensor({1.0, 2.0}));
  Wrong wrong;
  CHECK(contains(message([&] { wrong.step(sum(w)); }),
                 "update gave f64[] for parameter net/kernel of type f64[2]"));
}

TEST_CASE("the training step advances with every step of this thread") {
  const Parameter w = one();
  SGD sgd;
  set_training_step(41);
  step(sgd, w, 1);
  CHECK(training_step() == 42);
}
