// Movement operations against index arithmetic: views that share memory, and the two that copy.
#include <doctest/doctest.h>

#include "../graph/grad.h"
#include "../ops/ops.h"
#include "counting.h"

using namespace opgrad;
using namespace opgrad::test;

TEST_CASE("reshape keeps the row-major order, infers -1, and is nothing for an equal shape") {
  const Tensor x = counting({2, 6});
  CHECK(read(reshape(x, {3, 4})) == read(x));
  CHECK(reshape(x, {-1, 3}).shape() == Shape{4, 3});
  CHECK(reshape(x, {2, 6}).node() == x.node());
  CHECK(reshape(zeros({0, 4}), {2, 0}).shape() == Shape{2, 0});
  CHECK_THROWS_AS(reshape(zeros({0, 4}), {0, -1}), UserError);
}

TEST_CASE("reshape of views that strides can say and cannot say") {
  const Tensor x = counting({4, 6});
  // Strides can split a strided axis, and merge axes that a slice has left one behind the other.
  CHECK(read(reshape(slice(x, {0, 1}, {4, 5}), {2, 2, 2, 2})) ==
        Numbers{1, 2, 3, 4, 7, 8, 9, 10, 13, 14, 15, 16, 19, 20, 21, 22});
  // They cannot merge a transposed pair.
  CHECK(read(reshape(transpose(slice(x, {0, 0}, {2, 3})), {6})) == Numbers{0, 6, 1, 7, 2, 8});
  CHECK(read(reshape(broadcast_to(tensor({{1.0}, {2.0}}), {2, 3}), {6})) == Numbers{1, 1, 1, 2, 2, 2});
  CHECK(read(reshape(broadcast_to(tensor({1.0, 2.0}), {3, 2}), {6})) == Numbers{1, 2, 1, 2, 1, 2});
  CHECK(read(reshape(flip(counting({2, 3}), {0, 1}), {6})) == Numbers{5, 4, 3, 2, 1, 0});
  CHECK(read(reshape(flip(counting({2, 3}), {1}), {6})) == Numbers{2, 1, 0, 5, 4, 3});
}

TEST_CASE("permute and transpose") {
  const Tensor x = counting({2, 3, 4}), y = permute(x, {2, 0, 1});
  CHECK(y.shape() == Shape{4, 2, 3});
  const Numbers a = read(x), b = read(y);
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      for (std::size_t k = 0; k < 4; ++k) CHECK(b[(k * 2 + i) * 3 + j] == a[(i * 3 + j) * 4 + k]);
  CHECK(permute(x, {-3, 1, 2}).node() == x.node());
  CHECK(read(transpose(counting({2, 3}))) == Numbers{0, 3, 1, 4, 2, 5});
  CHECK(transpose(x).shape() == Shape{2, 4, 3});
}

TEST_CASE("broadcast_to repeats, sum_to is its adjoint") {
  const Tensor x = counting({3, 1});
  CHECK(read(broadcast_to(x, {2, 3, 2})) == Numbers{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2});
  CHECK(read(sum_to(counting({2, 3, 2}), {3, 1})) == Numbers{0 + 1 + 6 + 7, 2 + 3 + 8 + 9, 4 + 5 + 10 + 11});
  CHECK(sum_to(x, {3, 1}).node() == x.node());
  CHECK(sum_to(ones({2, 2}), {}).item() == 4);
}

TEST_CASE("slice takes every step-th element, and its gradient puts them back") {
  const Tensor x = variable(counting({3, 5})), y = slice(x, {0, 1}, {3, 5}, {2, 3});
  CHECK(y.shape() == Shape{2, 2});
  CHECK(read(y) == Numbers{1, 4, 11, 14});
  CHECK(read(grad(sum(y), x)) == Numbers{0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1});
  CHECK(slice(x, {1, 5}, {3, 5}).shape() == Shape{2, 0});
  CHECK(read(slice(counting({5}), {1}, {4}, {1LL << 62})) == Numbers{1});
}

TEST_CASE("pad puts a value around and between, and its gradient takes the elements back") {
  const Tensor x = variable(tensor({{1.0, 2.0}, {3.0, 4.0}}));
  const Tensor y = pad(x, {0, 1}, {1, 0}, {1, 2}, 9);
  CHECK(y.shape() == Shape{4, 5});
  CHECK(read(y) == Numbers{9, 1, 9, 9, 2, 9, 9, 9, 9, 9, 9, 3, 9, 9, 4, 9, 9, 9, 9, 9});
  CHECK(read(grad(sum(square(y)), x)) == Numbers{2, 4, 6, 8});
  CHECK(read(pad(zeros({0}, DType::f64), {1}, {2})) == Numbers{0, 0, 0});
}

TEST_CASE("slice and pad are adjoint for every begin, end and step") {
  const Tensor x = counting({7});
  for (std::int64_t begin = 0; begin <= 7; ++begin)
    for (std::int64_t end = begin; end <= 7; ++end)
      for (std::int64_t step = 1; step <= 4; ++step) {
        const Tensor v = variable(x), y = slice(v, {begin}, {end}, {step});
        Numbers expected(7, 0.0);
        for (std::int64_t i = begin; i < end; i += step) expected[static_cast<std::size_t>(i)] = 1;
        CHECK(read(grad(sum(y), v)) == expected);
      }
}

TEST_CASE("flip reverses the axes named") {
  const Tensor x = counting({2, 3});
  CHECK(read(flip(x, {1})) == Numbers{2, 1, 0, 5, 4, 3});
  CHECK(read(flip(x, {0, -1})) == Numbers{5, 4, 3, 2, 1, 0});
  CHECK(read(flip(slice(x, {0, 0}, {2, 3}, {1, 2}), {1})) == Numbers{2, 0, 5, 3});
  CHECK(read(flip(zeros({0}, DType::f64), {0})).empty());
}

TEST_CASE("expand_dims and squeeze") {
  const Tensor x = counting({2, 3});
  CHECK(expand_dims(x, 0).shape() == Shape{1, 2, 3});
  CHECK(expand_dims(x, -1).shape() == Shape{2, 3, 1});
  CHECK(squeeze(expand_dims(x, 1), 1).shape() == Shape{2, 3});
  CHECK_THROWS_WITH_AS(squeeze(x, 0), doctest::Contains("squeeze: axis 0 of f64[2, 3] has size 2, not 1"),
                       UserError);
  CHECK_THROWS_WITH_AS(expand_dims(x, 4), doctest::Contains("expand_dims: axis 4 is out of range"),
                       UserError);
  CHECK_THROWS_WITH_AS(expand_dims(zeros({1, 1, 1, 1, 1, 1, 1, 1}), 0),
                       doctest::Contains("has 8 axes already"), UserError);
}

TEST_CASE("concatenate along any axis, in any number, with gradients to each part") {
  const Tensor a = variable(counting({2, 2})), b = variable(counting({2, 1}));
  const Tensor y = concatenate(std::vector{a, b, a}, -1);
  CHECK(read(y) == Numbers{0, 1, 0, 0, 1, 2, 3, 1, 2, 3});
  const auto g = grad(sum(y * counting({2, 5})), {a, b});
  CHECK(read(g[0]) == Numbers{0 + 3, 1 + 4, 5 + 8, 6 + 9});
  CHECK(read(g[1]) == Numbers{2, 7});

  std::vector<Tensor> many;
  for (int i = 0; i < 300; ++i) many.push_back(variable(tensor({static_cast<double>(i)})));
  const Tensor all = concatenate(many, 0);
  Numbers expected(300);
  std::iota(expected.begin(), expected.end(), 0.0);
  CHECK(read(all) == expected);
  CHECK(read(grad(sum(square(all)), many[299])) == Numbers{598});
}

TEST_CASE("indexing takes a row, from either end") {
  const Tensor x = counting({3, 2});
  CHECK(read(x[1]) == Numbers{2, 3});
  CHECK(x[-1][0].item() == 4);
  CHECK_THROWS_WITH_AS(x[3], doctest::Contains("operator[]: 3 is outside [-3, 3), the rows of f64[3, 2]"),
                       UserError);
}

TEST_CASE("views of views need no copy in between") {
  const Tensor x = counting({4, 6});
  const Tensor y = slice(flip(transpose(x), {0}), {0, 1}, {6, 4}, {2, 2});
  CHECK(read(y) == Numbers{11, 23, 9, 21, 7, 19});
}

TEST_CASE("simplify joins reshapes and permutes") {
  const auto simpler = [](const Tensor& y) { return y.node()->op->simplify(y); };
  const Tensor x = counting({2, 3, 4});
  CHECK(simpler(reshape(reshape(x, {6, 4}), {2, 3, 4})).node() == x.node());
  CHECK(simpler(reshape(reshape(x, {6, 4}), {24})).node()->inputs()[0] == x.node());
  CHECK(simpler(permute(permute(x, {1, 2, 0}), {2, 0, 1})).node() == x.node());
  const Tensor y = simpler(permute(permute(x, {1, 0, 2}), {2, 1, 0}));
  CHECK(y.node()->inputs()[0] == x.node());
  CHECK(read(y) == read(permute(permute(x, {1, 0, 2}), {2, 1, 0})));
}
