// Reductions against loops, their axes, and what they do with nothing, ties and NaN.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "../graph/grad.h"
#include "../ops/ops.h"
#include "counting.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
}  // namespace

TEST_CASE("sum over every set of axes equals three loops") {
  const Tensor x = counting({2, 3, 4});
  for (int set = 1; set < 8; ++set) {
    Axes axes;
    Shape kept{set & 1 ? 1 : 2, set & 2 ? 1 : 3, set & 4 ? 1 : 4};
    for (int axis = 0; axis < 3; ++axis)
      if (set >> axis & 1) axes.push_back(axis);
    Numbers expected(static_cast<std::size_t>(kept.numel()), 0.0);
    for (std::int64_t i = 0; i < 2; ++i)
      for (std::int64_t j = 0; j < 3; ++j)
        for (std::int64_t k = 0; k < 4; ++k)
          expected[static_cast<std::size_t>(((set & 1 ? 0 : i) * kept[1] + (set & 2 ? 0 : j)) * kept[2] +
                                            (set & 4 ? 0 : k))] += static_cast<double>((i * 3 + j) * 4 + k);
    CAPTURE(set);
    CHECK(sum(x, axes, true).shape() == kept);
    CHECK(read(sum(x, axes, true)) == expected);
    CHECK(read(sum(x, axes)) == expected);
    CHECK(sum(x, axes).rank() == 3 - axes.size());
  }
}

TEST_CASE("no axes means all, negative axes count from the end") {
  const Tensor x = counting({2, 3});
  CHECK(sum(x).shape() == Shape{});
  CHECK(sum(x).item() == 15);
  CHECK(sum(x, {}, true).shape() == Shape{1, 1});
  CHECK(read(sum(x, {-1})) == Numbers{3, 12});
  CHECK(read(mean(x, {-2})) == Numbers{1.5, 2.5, 3.5});
  CHECK(sum(full({}, 3)).item() == 3);
}

TEST_CASE("reductions of nothing") {
  CHECK(read(sum(zeros({2, 0}, DType::f64), {1})) == Numbers{0, 0});
  CHECK(sum(zeros({0}, DType::f64)).item() == 0);
  CHECK(std::isnan(mean(zeros({0}, DType::f64)).item()));
  CHECK(read(max(zeros({0, 3}, DType::f64), {1})).empty());
  CHECK_THROWS_AS(max(zeros({0, 3}), {0}), UserError);
}

TEST_CASE("integers and bool are summed as i64, beyond their own range") {
  CHECK(sum(tensor<std::uint8_t>({200, 200})).values<std::int64_t>()[0] == 400);
  CHECK(sum(tensor<std::int32_t>({2147483647, 1})).values<std::int64_t>()[0] == 2147483648);
  CHECK(sum(tensor({1.0, -1.0, 2.0}) > 0).values<std::int64_t>()[0] == 2);
  CHECK_THROWS_AS(mean(tensor<std::int32_t>({1, 2})), UserError);
}

TEST_CASE("the gradient of sum is 1 and of mean 1/n everywhere") {
  const Tensor x = variable(counting({2, 4}));
  CHECK(read(grad(sum(x), x)) == Numbers(8, 1.0));
  CHECK(read(grad(sum(mean(x, {1})), x)) == Numbers(8, 0.25));
}

TEST_CASE("max: values, NaN, integers") {
  const Tensor x = tensor({{1.0, 5.0, 2.0}, {-1.0, -7.0, -3.0}});
  CHECK(read(max(x, {1})) == Numbers{5, -1});
  CHECK(read(max(x, {0})) == Numbers{1, 5, 2});
  CHECK(max(x).item() == 5);
  CHECK(std::isnan(max(tensor({1.0, nan_value, 2.0})).item()));
  CHECK(max(tensor<std::int64_t>({-5, -3})).values<std::int64_t>()[0] == -3);
}

TEST_CASE("max gives its gradient to the first at ties, along any axes") {
  const Tensor x = variable(tensor({{3.0, 1.0, 3.0}, {2.0, 3.0, 2.0}}));
  CHECK(read(grad(sum(max(x, {1})), x)) == Numbers{1, 0, 0, 0, 1, 0});
  CHECK(read(grad(sum(max(x, {0})), x)) == Numbers{1, 0, 1, 0, 1, 0});
  CHECK(read(grad(max(x), x)) == Numbers{1, 0, 0, 0, 0, 0});
}

TEST_CASE("max gives its gradient to the first NaN") {
  const Tensor x = variable(tensor({1.0, nan_value, 9.0, nan_value}));
  CHECK(read(grad(max(x), x)) == Numbers{0, 1, 0, 0});
}

TEST_CASE("argmax: the first of equals, along any axis") {
  using Places = std::vector<std::int64_t>;
  const Tensor x = tensor({{3.0, 1.0, 3.0}, {2.0, 3.0, 2.0}});
  CHECK(argmax(x).to_vector<std::int64_t>() == Places{0, 1});
  CHECK(argmax(x, 0).to_vector<std::int64_t>() == Places{0, 1, 0});
  CHECK(argmax(x, 0, true).shape() == Shape{1, 3});
  CHECK(argmax(tensor({1.0, nan_value})).to_vector<std::int64_t>() == Places{1});
  CHECK(argmax(transpose(x), 0).to_vector<std::int64_t>() == Places{0, 1});
}
