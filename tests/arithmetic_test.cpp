// Arithmetic, functions of one float and choice: values, special values, ties, element types and
// broadcasting.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "../graph/grad.h"
#include "../graph/scope.h"
#include "../ops/ops.h"
#include "errors.h"

using namespace opgrad;
using test::message;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();
using Numbers = std::vector<double>;

Numbers read(const Tensor& x) { return x.to_vector<double>(); }

// dy/dx of a function at the given points.
Numbers slopes(Tensor (*f)(const Operand&), const Numbers& at) {
  const Tensor x = variable(tensor(at, {static_cast<std::int64_t>(at.size())}));
  return read(grad(sum(f(x)), x));
}

}  // namespace

TEST_CASE("operators compute element by element") {
  const Tensor a = tensor({6.0, -4.0}), b = tensor({2.0, 8.0});
  CHECK(read(a + b) == Numbers{8, 4});
  CHECK(read(a - b) == Numbers{4, -12});
  CHECK(read(a * b) == Numbers{12, -32});
  CHECK(read(a / b) == Numbers{3, -0.5});
  CHECK(read(-a) == Numbers{-6, 4});
  CHECK(read(square(a)) == Numbers{36, 16});
  CHECK(read(pow(a, 3)) == Numbers{216, -64});
  CHECK(read(pow(2, b)) == Numbers{4, 256});
}

TEST_CASE("a number takes the other operand's element type") {
  CHECK((tensor({1.5f}) * 2).dtype() == DType::f32);
  CHECK((2 * tensor({1.5})).dtype() == DType::f64);
  CHECK((tensor<std::int32_t>({7}) + 3).to_vector<std::int32_t>() == std::vector<std::int32_t>{10});
  CHECK((1 - tensor<std::uint8_t>({2})).to_vector<std::uint8_t>() == std::vector<std::uint8_t>{255});
  const std::string said = message([] { tensor<std::int64_t>({1}) * 2.5; });
  CHECK(said.find("multiply: the number 2.5 does not fit the elements of i64[1]") == 0);
  CHECK(said.find("arithmetic_test.cpp:") != said.npos);
}

TEST_CASE("element types meet as the table says") {
  const Tensor i32 = tensor<std::int32_t>({3}), i64 = tensor<std::int64_t>({4}),
               u8 = tensor<std::uint8_t>({250});
  CHECK((i32 + i64).to_vector<std::int64_t>() == std::vector<std::int64_t>{7});
  CHECK((i32 + u8).to_vector<std::int32_t>() == std::vector<std::int32_t>{253});
  CHECK(read(tensor({0.5}) + (i32 > 2)) == Numbers{1.5});
  CHECK(message([&] {
          tensor({1.0f}) + i32;
        }).find("add: f32[1] and i32[1] have element types that do not mix") == 0);
}

TEST_CASE("integers wrap around") {
  const Tensor big = tensor<std::int32_t>({std::numeric_limits<std::int32_t>::max()});
  CHECK((big + 1).to_vector<std::int32_t>()[0] == std::numeric_limits<std::int32_t>::min());
  CHECK((big * 2).to_vector<std::int32_t>()[0] == -2);
}

TEST_CASE("shapes broadcast, and gradients sum over what was repeated") {
  const Tensor column = variable(tensor({{1.0}, {2.0}})), row = variable(tensor({10.0, 20.0, 30.0}));
  const Tensor y = column * row;
  CHECK(y.shape() == Shape{2, 3});
  CHECK(read(y) == Numbers{10, 20, 30, 20, 40, 60});
  const auto g = grad(sum(y), {column, row});
  CHECK(g[0].shape() == column.shape());
  CHECK(read(g[0]) == Numbers{60, 60});
  CHECK(g[1].shape() == row.shape());
  CHECK(read(g[1]) == Numbers{3, 3, 3});
}

TEST_CASE("operands of no element give results of no element") {
  const Tensor none = zeros({0, 3}, DType::f64);
  CHECK((none + 1).shape() == Shape{0, 3});
  CHECK(read(exp(none * zeros({3}, DType::f64))).empty());
}

TEST_CASE("maximum and minimum: NaN wins, and a tie's gradient goes to a") {
  CHECK(std::isnan(read(maximum(tensor({nan_value}), 1))[0]));
  CHECK(std::isnan(read(minimum(tensor({1.0}), nan_value))[0]));
  for (Tensor (*f)(const Operand&, const Operand&) : {maximum, minimum}) {
    const Tensor a = variable(tensor({2.0})), b = variable(tensor({2.0}));
    const auto g = grad(sum(f(a, b)), {a, b});
    CHECK(read(g[0]) == Numbers{1});
    CHECK(read(g[1]) == Numbers{0});
  }
}

TEST_CASE("gradients at kinks are those that the header states") {
  CHECK(slopes(relu, {-1, 0, -0.0, 1}) == Numbers{0, 0, 0, 1});
  CHECK(slopes(abs, {-2, 0, -0.0, 2}) == Numbers{-1, 0, 0, 1});
  CHECK(std::isnan(read(relu(tensor({nan_value})))[0]));
}

TEST_CASE("special values of the functions of one float") {
  CHECK(read(exp(tensor({-inf, 0.0, inf}))) == Numbers{0, 1, inf});
  CHECK(read(log(tensor({0.0, 1.0, inf}))) == Numbers{-inf, 0, inf});
  CHECK(std::isnan(read(log(tensor({-1.0})))[0]));
  CHECK(std::isnan(read(sqrt(tensor({-1.0})))[0]));
  CHECK(read(tanh(tensor({-inf, 0.0, inf}))) == Numbers{-1, 0, 1});
  CHECK(read(sigmoid(tensor({-inf, 0.0, inf, -800.0}))) == Numbers{0, 0.5, 1, 0});
  CHECK(read(divide(tensor({1.0, -1.0}), 0)) == Numbers{inf, -inf});
}

TEST_CASE("pow at a = 0 has finite gradients of both orders") {
  const Tensor a = variable(tensor({0.0, 0.0, 0.0, 0.0})), b = tensor({0.0, 1.0, 2.0, 3.0});
  const Tensor y = pow(a, b);
  CHECK(read(y) == Numbers{1, 0, 0, 0});
  const Tensor first = grad(sum(y), a);
  CHECK(read(first) == Numbers{0, 1, 0, 0});
  CHECK(read(grad(sum(first), a)) == Numbers{0, 0, 2, 0});
  const Tensor e = variable(b);
  CHECK(read(grad(sum(pow(tensor({0.0, 0.0, -2.0, 1.0}), e)), e)) == Numbers{0, 0, 0, 0});
}

TEST_CASE("pow with a small whole number is the simpler function") {
  const Tensor x = tensor({-3.0});
  CHECK(pow(x, 1).node() == x.node());
  CHECK(std::string(pow(x, 2).node()->op->name) == "square");
}

TEST_CASE("comparisons give bool, false at NaN but for not_equal") {
  const Tensor a = tensor({1.0, 2.0, nan_value}), b = tensor({2.0, 2.0, 2.0});
  using Truths = std::vector<bool>;
  CHECK((a < b).to_vector<bool>() == Truths{true, false, false});
  CHECK((a <= b).to_vector<bool>() == Truths{true, true, false});
  CHECK((a > b).to_vector<bool>() == Truths{false, false, false});
  CHECK((a >= b).to_vector<bool>() == Truths{false, true, false});
  CHECK(equal(a, b).to_vector<bool>() == Truths{false, true, false});
  CHECK(not_equal(a, b).to_vector<bool>() == Truths{true, false, true});
  CHECK(equal(a < b, a <= b).to_vector<bool>() == Truths{true, false, true});
}

TEST_CASE("a gradient asked through a comparison names the operation that has none") {
  const Tensor x = variable(tensor({1.0}));
  const std::string said = message([&] { grad(sum(cast(x > 0, DType::f64)), x); });
  CHECK(said.find("greater") != said.npos);
}

TEST_CASE("where: the branch not taken gets gradient 0 even where it is NaN") {
  const Tensor x = variable(tensor({0.0, 4.0}));
  const Tensor y = where(x > 0, log(x), 0);
  CHECK(read(y) == Numbers{0, std::log(4.0)});
  const Tensor a = variable(tensor({1.0, 2.0})), b = variable(tensor({nan_value, inf}));
  const auto g = grad(sum(where(tensor({1.0, 2.0}) > 0, a, b)), {a, b});
  CHECK(read(g[0]) == Numbers{1, 1});
  CHECK(read(g[1]) == Numbers{0, 0});
}

TEST_CASE("where broadcasts all three") {
  const Tensor y = where(tensor({{1.0}, {-1.0}}) > 0, tensor({1.0, 2.0, 3.0}), 0);
  CHECK(read(y) == Numbers{1, 2, 3, 0, 0, 0});
  CHECK(read(where(true, tensor({1.0}), 2)) == Numbers{1});
}

TEST_CASE("cast: truncation, and 0 for what does not fit") {
  const Tensor x =
      tensor({-1.9, 1.9, nan_value, inf, 2147483647.0, 2147483648.0, -2147483648.0, -2147483649.0});
  CHECK(cast(x, DType::i32).to_vector<std::int32_t>() ==
        std::vector<std::int32_t>{-1, 1, 0, 0, 2147483647, 0, std::numeric_limits<std::int32_t>::min(), 0});
  CHECK(cast(tensor({9223372036854775808.0, -9223372036854775808.0}), DType::i64).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{0, std::numeric_limits<std::int64_t>::min()});
  CHECK(cast(tensor({-0.5, 255.5, 256.0, -1.0}), DType::u8).to_vector<std::uint8_t>() ==
        std::vector<std::uint8_t>{0, 255, 0, 0});
  CHECK(cast(tensor<std::int64_t>({1LL << 40, 300, -1}), DType::u8).to_vector<std::uint8_t>() ==
        std::vector<std::uint8_t>{0, 0, 0});
  CHECK(cast(tensor({0.0, nan_value, -2.0}), DType::bool_).to_vector<bool>() ==
        std::vector<bool>{false, true, true});
}

TEST_CASE("cast between floats passes the gradient back, cast to the same type is nothing") {
  const Tensor x = variable(tensor({1.5}));
  CHECK(read(grad(cast(cast(x, DType::f32) * 3, DType::f64), x)) == Numbers{3});
  CHECK(cast(x, DType::f64).node() == x.node());
}

TEST_CASE("simplify rules return what is already there") {
  const auto simpler = [](const Tensor& y) { return y.node()->op->simplify(y).node(); };
  const Tensor x = tensor({1.0, -0.0, nan_value});
  CHECK(simpler(x * 1) == x.node());
  CHECK(simpler(1 * x) == x.node());
  CHECK(simpler(x / 1) == x.node());
  CHECK(simpler(-(-x)) == x.node());
  for (const Tensor& y : {x * 2, x / 2, -x}) CHECK(simpler(y) == y.node());
  const Tensor rate = slot_number({3}, 1, DType::f64), scaled = x * rate;
  CHECK(simpler(scaled) == scaled.node());
}
