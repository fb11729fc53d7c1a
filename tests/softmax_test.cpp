// Softmax and cross-entropy: against plain loops, at logits of any size, and with wrong labels.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "../graph/grad.h"
#include "../graph/parameter.h"
#include "../ops/ops.h"
#include "errors.h"

using namespace opgrad;
using test::message;

namespace {

using Numbers = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();
Numbers read(const Tensor& x) { return x.to_vector<double>(); }

Tensor draw(const Shape& shape, std::uint64_t seed, double low = -3, double high = 3) {
  return random_uniform(random_key({seed, 0}), shape, low, high, DType::f64);
}

}  // namespace

TEST_CASE("softmax and its logarithm equal loops, for short, long and many rows") {
  for (const Shape& shape : {Shape{3, 5}, Shape{1, 20000}, Shape{700, 3}, Shape{5, 1}}) {
    const Tensor x = draw(shape, 1);
    const Numbers in = read(x), p = read(softmax(x)), l = read(log_softmax(x));
    const auto n = static_cast<std::size_t>(shape[1]);
    double worst = 0;
    for (std::size_t r = 0; r < static_cast<std::size_t>(shape[0]); ++r) {
      double total = 0;
      for (std::size_t c = 0; c < n; ++c) total += std::exp(in[r * n + c]);
      for (std::size_t c = 0; c < n; ++c) {
        const double expected = std::exp(in[r * n + c]) / total;
        worst = std::max(
            {worst, std::abs(p[r * n + c] / expected - 1), std::abs(l[r * n + c] - std::log(expected))});
      }
    }
    CAPTURE(to_string(shape));
    CHECK(worst < 1e-13);
  }
}

TEST_CASE("softmax works along any axis") {
  const Tensor x = draw({2, 3, 4}, 2);
  CHECK(read(softmax(x, 1)) == read(permute(softmax(permute(x, {0, 2, 1})), {0, 2, 1})));
  CHECK(read(sum(softmax(x, 0), {0}))[5] == doctest::Approx(1).epsilon(1e-15));
}

TEST_CASE("softmax of huge, infinite and missing numbers") {
  CHECK(read(softmax(tensor({1e4, 0.0, -1e4}))) == Numbers{1, 0, 0});
  CHECK(read(log_softmax(tensor({1e4, -1e4}))) == Numbers{0, -2e4});
  CHECK(read(softmax(tensor({-inf, 0.0, 0.0}))) == Numbers{0, 0.5, 0.5});
  CHECK(std::isnan(read(softmax(tensor({-inf, -inf})))[0]));
  CHECK(softmax(zeros({0, 3})).shape() == Shape{0, 3});
  CHECK(read(softmax(zeros({3, 0}, DType::f64))).empty());
}

TEST_CASE("a row's softmax does not depend on its neighbours") {
  const Tensor x = draw({1000, 10}, 3);
  const Numbers all = read(softmax(x)), one = read(softmax(slice(x, {777, 0}, {778, 10})));
  CHECK(Numbers(all.begin() + 7770, all.begin() + 7780) == one);
}

TEST_CASE("cross-entropy of a softmax equals the formula, with its gradient") {
  const Tensor x = variable(draw({6, 4}, 4)), labels = tensor<std::int64_t>({0, 3, 2, 1, 1, 0});
  const Tensor loss = cross_entropy(softmax(x), labels);
  const Numbers l = read(log_softmax(x)), p = read(softmax(x));
  const auto label = labels.to_vector<std::int64_t>();
  double expected = 0;
  for (std::size_t r = 0; r < 6; ++r) expected -= l[r * 4 + static_cast<std::size_t>(label[r])] / 6;
  CHECK(loss.item() == doctest::Approx(expected).epsilon(1e-14));
  CHECK(cross_entropy_from_logits(x, labels).item() == loss.item());
  const Numbers g = read(grad(loss, x));
  for (std::size_t r = 0; r < 6; ++r)
    for (std::size_t c = 0; c < 4; ++c)
      CHECK(g[r * 4 + c] ==
            doctest::Approx((p[r * 4 + c] - (c == static_cast<std::size_t>(label[r]))) / 6).epsilon(1e-13));
}

TEST_CASE("logits of +-1e4 give finite, right losses and gradients") {
  const Tensor x = variable(tensor({{1e4f, -1e4f}, {-1e4f, 1e4f}}));
  const Tensor right = cross_entropy(softmax(x), tensor<std::int64_t>({0, 1}));
  CHECK(right.item() == 0);
  CHECK(grad(right, x).to_vector<float>() == std::vector<float>{0, 0, 0, 0});
  const Tensor wrong = cross_entropy(softmax(x), tensor<std::int64_t>({1, 0}));
  CHECK(wrong.item() == 2e4);
  CHECK(grad(wrong, x).to_vector<float>() == std::vector<float>{0.5, -0.5, -0.5, 0.5});
}

TEST_CASE("the softmax node is recognised after it was computed, too") {
  const Tensor x = variable(tensor({{1e4f, -1e4f}}));
  const Tensor p = softmax(x);
  CHECK(p.values<float>()[1] == 0);
  CHECK(cross_entropy(p, tensor<std::int64_t>({1})).item() == 2e4);
}

TEST_CASE("probabilities that come from anything else are clipped to [1e-7, 1]") {
  const Tensor p = variable(tensor({{0.25, 0.75}, {0.0, 1.0}}));
  const Tensor loss = cross_entropy(p, tensor<std::int32_t>({0, 0}));
  CHECK(loss.item() == doctest::Approx(-(std::log(0.25) + std::log(1e-7)) / 2).epsilon(1e-14));
  CHECK(read(grad(loss, p)) == Numbers{-2, 0, 0, 0});
}

TEST_CASE("labels of every integer type") {
  const Tensor p = softmax(tensor({{1.0, 2.0, 4.0}}));
  const double expected = cross_entropy(p, tensor<std::int64_t>({2})).item();
  CHECK(cross_entropy(p, tensor<std::int32_t>({2})).item() == expected);
  CHECK(cross_entropy(p, tensor<std::uint8_t>({2})).item() == expected);
}

TEST_CASE("a label out of range is named with its position, the classes and the user's line") {
  const Tensor labels = tensor<std::uint8_t>({3, 10});
  const Tensor plain = zeros({2, 10}) + 0.1f, logits = zeros({2, 10});
  for (const Tensor& p : {plain, softmax(logits)}) {
    const std::string said = message([&] { cross_entropy(p, labels).item(); });
    CHECK(said.find("cross_entropy: label 10 at position [1] is outside [0, 10), the 10 classes") == 0);
    CHECK(said.find("softmax_test.cpp:") != said.npos);
  }
  const Tensor x = variable(logits);
  const Tensor g = grad(cross_entropy_from_logits(x, labels), x);
  CHECK(message([&] { g.values<float>(); }).find("cross_entropy: label 10 at position [1]") == 0);
}
