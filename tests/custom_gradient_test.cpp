// custom_gradient: the user's rule and nothing else, to every order.
#include "../ops/custom_gradient.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "numeric_gradient.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

using Doubles = std::vector<double>;
using In = std::span<const Tensor>;

Tensor variable_of(std::initializer_list<double> values) { return variable(tensor(values)); }

// A gradient that is kept within [-1, 1] on its way back.
Tensor clipped(const Tensor& x) {
  return custom_gradient(
      x, {x}, [](const Tensor&, const Tensor& dy, In) -> Grads { return {minimum(maximum(dy, -1), 1)}; });
}

// The straight-through estimator: rounds forward, is the identity backward.
Tensor rounded(const Tensor& x) {
  const Tensor y = cast(cast(x + 0.5, DType::i64), x.dtype());
  return custom_gradient(y, {x}, [](const Tensor&, const Tensor& dy, In) -> Grads { return {dy}; });
}

// log(1 + e^x), whose own gradient would be inf / inf for large x.
Tensor log1pexp(const Tensor& x) {
  return custom_gradient(log(1 + exp(x)), {x}, [](const Tensor&, const Tensor& dy, In xs) -> Grads {
    return {dy * sigmoid(xs[0])};
  });
}

}  // namespace

TEST_CASE("a gradient is clipped on its way back, the value is untouched") {
  const Tensor x = variable_of({1, 2, 3});
  const Tensor y = clipped(x);
  CHECK(y.to_vector<double>() == Doubles{1, 2, 3});
  CHECK(grad(sum(y * tensor({5.0, -0.5, -7.0})), x).to_vector<double>() == Doubles{1, -0.5, -1});
}

TEST_CASE("the straight-through estimator lets gradients through a step") {
  const Tensor x = variable_of({0.2, 0.7, 1.6});
  const Tensor y = rounded(x);
  CHECK(y.to_vector<double>() == Doubles{0, 1, 2});
  CHECK(grad(sum(square(y)), x).to_vector<double>() == Doubles{0, 2, 4});
}

TEST_CASE("a stable gradient replaces one that overflows") {
  const Tensor x = variable_of({-1, 0, 800});
  const Tensor plain = log(1 + exp(x));
  CHECK(std::isnan(grad(sum(plain), x).to_vector<double>()[2]));
  const Doubles g = grad(sum(log1pexp(x)), x).to_vector<double>();
  CHECK(g[0] == doctest::Approx(1 / (1 + std::exp(1.0))));
  CHECK(g[1] == 0.5);
  CHECK(g[2] == 1);
}

TEST_CASE("first and second order are the measured slopes where the rule is the true gradient") {
  check_two_orders([](const std::vector<Tensor>& in) { return log1pexp(in[0]); }, {{2, 3}});
  check_two_orders(
      [](const std::vector<Tensor>& in) {
        return custom_gradient(in[0] / in[1], {in[0], in[1]},
                               [](const Tensor& y, const Tensor& dy, In xs) -> Grads {
                                 return {dy / xs[1], -dy * y / xs[1]};
                               });
      },
      {{2, 2}, {2, 2}});
}

TEST_CASE("nothing flows through y's own graph") {
  const Tensor x = variable_of({2, 3}), w = variable_of({5, 7});
  const Tensor y =
      custom_gradient(x * w, {x}, [](const Tensor&, const Tensor& dy, In) -> Grads { return {dy * 10}; });
  CHECK(grad(sum(y), x).to_vector<double>() == Doubles{10, 10});
  const std::string said = error_of([&] { grad(sum(y), w); });
  CHECK_MESSAGE(mentions(said, "detach"), said);
}

TEST_CASE("what a rule needs goes in among the xs, integers too, and gets an empty Tensor") {
  const Tensor x = variable_of({1, 2, 3}), scale = tensor({2.0, 3.0, 4.0}),
               index = tensor<std::int64_t>({2, 0, 1});
  const Tensor y = custom_gradient(x, {x, scale, index}, [](const Tensor&, const Tensor& dy, In xs) -> Grads {
    return {dy * gather(xs[1], xs[2]), Tensor(), Tensor()};
  });
  CHECK(grad(sum(y), x).to_vector<double>() == Doubles{4, 2, 3});
}

TEST_CASE("equal graphs with different rules do not share a plan") {
  const auto second = [](GradientRule rule) {
    const Tensor x = variable_of({1, 2});
    const Tensor y = custom_gradient(square(x), {&x, 1}, rule);
    return grad(sum(square(y)), x).to_vector<double>();
  };
  const GradientRule one = [](const Tensor&, const Tensor& dy, In xs) -> Grads { return {dy * xs[0]}; };
  const GradientRule other = [](const Tensor&, const Tensor& dy, In xs) -> Grads { return {dy + xs[0]}; };
  CHECK(second(one) == Doubles{2, 16});
  CHECK(second(other) == Doubles{3, 10});
  CHECK(second(one) == Doubles{2, 16});
}

TEST_CASE("a rule of the wrong count or type is refused with the line of the call") {
  const Tensor x = variable_of({1, 2});
  const GradientRule identity = [](const Tensor&, const Tensor& dy, In) -> Grads { return {dy}; };
  const GradientRule total = [](const Tensor&, const Tensor& dy, In) -> Grads { return {sum(dy)}; };
  const auto refused = [&](int line, const char* part, const Tensor& y) {
    const std::string said = error_of([&] { grad(sum(y), x); });
    CHECK_MESSAGE(mentions(said, part), said);
    CHECK_MESSAGE(mentions(said, ("custom_gradient_test.cpp:" + std::to_string(line)).c_str()), said);
  };
  const Tensor few = custom_gradient(x * 1, {x, x}, identity);
  refused(__LINE__ - 1, "custom_gradient: the rule gave 1 gradients for 2 xs", few);
  const Tensor flat = custom_gradient(x * 1, {x}, total);
  refused(__LINE__ - 1, "the rule gave f64[] as the gradient of x 0, which is f64[2]", flat);
}
