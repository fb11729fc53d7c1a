// Jacobians, Hessians and their products with vectors, against closed forms, dual numbers and differences.
#include "../ops/derivatives.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>

#include "../core/dual.h"
#include "../graph/order.h"
#include "numeric_gradient.h"

using namespace opgrad;
using namespace opgrad::test;
using kernel::Dual;

namespace {

using Doubles = std::vector<double>;

void check_close(const Tensor& found, const Doubles& expected, double bound = 1e-12) {
  const Doubles got = found.to_vector<double>();
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(got[i] - expected[i]) <= bound * (1 + std::abs(expected[i])));
  }
}

Tensor point(const Shape& shape, std::uint64_t seed) { return variable(random_tensor(shape, seed)); }

// x kernel of a layer by operations that know dual numbers.
Tensor dense(const Tensor& x, const Tensor& kernel) { return sum(expand_dims(x, 2) * kernel, {1}); }

// Two layers, a division, a maximum over an axis.
Tensor network(const Tensor& x, const Tensor& w, const Tensor& v) {
  const Tensor hidden = tanh(dense(x, w));
  const Tensor gates = sigmoid(dense(hidden, v) * 1.5 + 0.25);
  return gates / (1 + square(sum(hidden, {1}, true))) + exp(-max(hidden, {1}, true));
}

// The graph behind y run forward on dual numbers, by the kernels' own formulas.
std::vector<Dual> on_duals(const Tensor& y, const std::map<Node*, Doubles>& directions) {
  std::vector<Node*> nodes;
  {
    Node* const root = y.node();
    nodes = Numbering({&root, 1}, true).nodes();
  }
  std::map<Node*, std::vector<Dual>> values;
  for (Node* const n : nodes) {
    const Tensor t = Tensor::share(n);
    std::vector<Dual>& out = values[n];
    out.resize(static_cast<std::size_t>(t.numel()));
    if (n->arity == 0) {
      const Doubles v = t.to_vector<double>();
      const auto d = directions.find(n);
      for (std::size_t i = 0; i < v.size(); ++i)
        out[i] = Dual(v[i], d == directions.end() ? 0.0 : d->second[i]);
      continue;
    }
    std::vector<View> in;
    for (Node* const input : n->inputs())
      in.push_back(dense_view(values[input].data(), {input->dtype, shape_of(input->shape)}));
    const View all = dense_view(out.data(), {t.dtype(), t.shape()});
    if (!n->op->view) {
      REQUIRE(bool(n->op->forward.dual));
      n->op->forward.dual({.in = in, .out = all, .attrs = n->attributes()});
      continue;
    }
    Layout layout{.offset = 0, .strides = in[0].strides};
    REQUIRE(n->op->view(n->attributes(), in[0].shape(), t.shape(), layout));
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      std::int64_t rest = i, place = layout.offset;
      for (int axis = t.rank() - 1; axis >= 0; rest /= t.shape()[axis--])
        place += rest % t.shape()[axis] * layout.strides[static_cast<std::size_t>(axis)];
      out[static_cast<std::size_t>(i)] = in[0].as<Dual>()[place];
    }
  }
  return values[y.node()];
}

}  // namespace

TEST_CASE("the Jacobian of a linear map is its matrix") {
  const Tensor a = random_tensor({3, 4}, 1), x = point({4, 1}, 2);
  const Tensor j = jacobian(reshape(matmul(a, x), {3}), x);
  CHECK(j.shape() == Shape{3, 4, 1});
  check_close(j, a.to_vector<double>());
}

TEST_CASE(
    "the Jacobian of a pointwise function is diagonal, with the shapes of y and x one behind the other") {
  const Tensor x = point({2, 3}, 3);
  const Tensor j = jacobian(tanh(x), x);
  CHECK(j.shape() == Shape{2, 3, 2, 3});
  const Doubles at = x.to_vector<double>();
  Doubles expected(36);
  for (std::size_t i = 0; i < 6; ++i) expected[7 * i] = 1 - std::tanh(at[i]) * std::tanh(at[i]);
  check_close(j, expected);
}

TEST_CASE("one call gives the Jacobians by several xs") {
  const Tensor a = point({2}, 4), b = point({2}, 5);
  const std::vector<Tensor> j = jacobian(a * b, {a, b});
  const Doubles x = a.to_vector<double>(), y = b.to_vector<double>();
  check_close(j[0], {y[0], 0, 0, y[1]});
  check_close(j[1], {x[0], 0, 0, x[1]});
}

TEST_CASE("a Jacobian of more rows than one concatenation takes is whole") {
  const Tensor x = point({70}, 6);
  const Doubles j = jacobian(3 * x, x).to_vector<double>();
  for (std::size_t i = 0; i < 70; ++i)
    for (std::size_t k = 0; k < 70; ++k) CHECK(j[70 * i + k] == (i == k ? 3 : 0));
}

TEST_CASE("the Jacobian of one number is its gradient, in shape too") {
  const Tensor x = point({3}, 7), s = point({}, 8);
  CHECK(jacobian(sum(square(x)), x).shape() == Shape{3});
  CHECK(jacobian(square(s), s).shape() == Shape{});
  check_close(jacobian(square(s), s), {2 * s.item()});
}

TEST_CASE("Jacobians with no row or no column are empty") {
  const Tensor none = variable(zeros({0, 2}, DType::f64)), x = point({2}, 9);
  CHECK(jacobian(none * x, x).shape() == Shape{0, 2, 2});
  CHECK(jacobian(none * x, x).to_vector<double>().empty());
  CHECK(jacobian(sum(none * x, {0}), none).shape() == Shape{2, 0, 2});
}

TEST_CASE("jvp through a network is what dual numbers give") {
  const Tensor x = point({3, 4}, 10), w = point({4, 5}, 11), v = point({5, 2}, 12);
  const Tensor tx = random_tensor({3, 4}, 13), tw = random_tensor({4, 5}, 14), tv = random_tensor({5, 2}, 15);
  const Tensor y = network(x, w, v);
  const std::vector<Dual> expected = on_duals(y, {{x.node(), tx.to_vector<double>()},
                                                  {w.node(), tw.to_vector<double>()},
                                                  {v.node(), tv.to_vector<double>()}});
  const Tensor found = jvp(y, {x, w, v}, {tx, tw, tv});
  CHECK(found.shape() == y.shape());
  Doubles d;
  for (const Dual& e : expected) d.push_back(e.d);
  check_close(found, d, 1e-13);
}

TEST_CASE("the Jacobian times a vector is jvp, and its transpose times a vector is vjp") {
  const Tensor x = point({3, 4}, 16), w = random_tensor({4, 5}, 17), v = random_tensor({5, 2}, 18);
  const Tensor y = network(x, w, v), t = random_tensor({3, 4}, 19), c = random_tensor({3, 2}, 20);
  const Tensor j = reshape(jacobian(y, x), {6, 12});
  check_close(jvp(y, x, t), matmul(j, reshape(t, {12, 1})).to_vector<double>());
  check_close(vjp(y, c, {&x, 1})[0], matmul(reshape(c, {1, 6}), j).to_vector<double>());
}

TEST_CASE("jvp through a convolution is the measured slope") {
  const Tensor x = point({2, 6, 6, 2}, 21), w = point({3, 3, 2, 3}, 22);
  const auto f = [](const Tensor& a, const Tensor& b) {
    return max_pool2d(tanh(conv2d(a, b)), {2, 2}, {2, 2});
  };
  const Tensor tx = random_tensor(x.shape(), 23), tw = random_tensor(w.shape(), 24);
  const double h = 1e-5;
  const Tensor slope = (f(x + h * tx, w + h * tw) - f(x - h * tx, w - h * tw)) / (2 * h);
  check_close(jvp(f(x, w), {x, w}, {tx, tw}), slope.to_vector<double>(), 1e-8);
}

TEST_CASE("jvp can be differentiated again") {
  const Tensor x = point({4}, 25), t = random_tensor({4}, 26);
  const Tensor along = jvp(x * x * x, x, t);  // 3 x^2 t
  check_close(grad(sum(along), x), (6 * x * t).to_vector<double>());
}

TEST_CASE("the Hessian of a quadratic form is A + A^T") {
  const Tensor a = random_tensor({3, 3}, 27), x = point({3, 1}, 28);
  const Tensor h = hessian(sum(x * matmul(a, x)), x);
  CHECK(h.shape() == Shape{3, 1, 3, 1});
  check_close(h, (a + transpose(a)).to_vector<double>());
}

TEST_CASE("the Hessian of a network is symmetric, and its product with a vector is hvp") {
  const Tensor x = point({2, 3}, 29), w = point({3, 4}, 30), v = point({4, 2}, 31);
  const Tensor y = sum(square(network(x, w, v)));
  const std::vector<Tensor> xs{x, w};
  const std::vector<std::vector<Tensor>> h = hessian(y, xs);
  const Tensor xx = reshape(h[0][0], {6, 6}), xw = reshape(h[0][1], {6, 12}), wx = reshape(h[1][0], {12, 6}),
               ww = reshape(h[1][1], {12, 12});
  check_close(xx, transpose(xx).to_vector<double>());
  check_close(ww, transpose(ww).to_vector<double>());
  check_close(xw, transpose(wx).to_vector<double>());
  const Tensor tx = random_tensor({2, 3}, 32), tw = random_tensor({3, 4}, 33);
  const std::vector<Tensor> products = hvp(y, {x, w}, {tx, tw});
  const Tensor cx = reshape(tx, {6, 1}), cw = reshape(tw, {12, 1});
  check_close(products[0], (matmul(xx, cx) + matmul(xw, cw)).to_vector<double>());
  check_close(products[1], (matmul(wx, cx) + matmul(ww, cw)).to_vector<double>());
}

TEST_CASE("the Jacobian of a Jacobian holds the second derivatives of each element") {
  const Tensor x = point({2}, 42);
  const Tensor h = jacobian(jacobian(x * x * x, x), x);
  CHECK(h.shape() == Shape{2, 2, 2});
  const Doubles at = x.to_vector<double>();
  check_close(h, {6 * at[0], 0, 0, 0, 0, 0, 0, 6 * at[1]});
}

TEST_CASE("second derivatives by what the gradient does not depend on are zeros") {
  const Tensor a = point({2}, 34), b = point({2}, 35);
  const std::vector<std::vector<Tensor>> h = hessian(sum(a * b), {a, b});
  check_close(h[0][0], {0, 0, 0, 0});
  check_close(h[0][1], {1, 0, 0, 1});
  check_close(hessian(sum(3 * a), a), {0, 0, 0, 0});
  check_close(hvp(sum(3 * a), a, b), {0, 0});
  check_close(hessian(sum(relu(a)), a), {0, 0, 0, 0});
}

TEST_CASE("y may be a function, which is given a variable") {
  const Tensor x = random_tensor({3}, 36), t = random_tensor({3}, 37);
  const auto cube = [](const Tensor& v) { return v * v * v; };
  const auto total = [&](const Tensor& v) { return sum(cube(v)); };
  const Doubles at = x.to_vector<double>();
  check_close(jacobian(cube, x), {3 * at[0] * at[0], 0, 0, 0, 3 * at[1] * at[1], 0, 0, 0, 3 * at[2] * at[2]});
  check_close(hessian(total, x), {6 * at[0], 0, 0, 0, 6 * at[1], 0, 0, 0, 6 * at[2]});
  const auto [y, along] = jvp(cube, x, t);
  check_close(y, (x * x * x).to_vector<double>());
  check_close(along, (3 * x * x * t).to_vector<double>());
  check_close(hvp(total, x, t), (6 * x * t).to_vector<double>());
}

TEST_CASE("what has no derivative, or none by x, is refused with the user's line") {
  const Tensor x = point({3}, 38), other = point({3}, 39);
  const auto says = [](const char* part, const std::function<void()>& f) {
    const std::string said = error_of(f);
    CAPTURE(part);
    CHECK_MESSAGE(mentions(said, part), said);
    CHECK_MESSAGE(mentions(said, "derivatives_test.cpp:"), said);
  };
  says("jacobian: y is i64[3] and must be f32 or f64", [&] { jacobian(cast(x, DType::i64), x); });
  says("jvp: y is bool[3] and must be f32 or f64", [&] { jvp(x < 0, x, x); });
  says("does not depend on x", [&] { jacobian(square(x), other); });
  says("does not depend on x", [&] { jvp(square(x), other, x); });
  says("does not depend on x", [&] { hessian(sum(square(x)), other); });
  says("hessian: y must be one float, and is f64[3]; reduce it with sum or mean, or take jacobian(",
       [&] { hessian(square(x), x); });
  says("hvp: y must be one float, and is f64[3]; reduce it with sum or mean, or take jacobian(",
       [&] { hvp(square(x), x, x); });
  says("hessian: y is i64[] and must be f32 or f64", [&] { hessian(cast(sum(x), DType::i64), x); });
  says("jvp: tangent 0 is f64[2] and its x is f64[3]; they must have one type",
       [&] { jvp(square(x), x, random_tensor({2}, 40)); });
  says("jvp: tangent 0 is f32[3] and its x is f64[3]", [&] { jvp(square(x), x, zeros({3})); });
  says("hvp: 1 vs were given for 2 xs; give one for each", [&] { hvp(sum(x * other), {x, other}, {x}); });
  says("jvp: tangent 0 is an empty Tensor", [&] { jvp(square(x), x, Tensor()); });
  const Tensor wide = point({1, 1, 1, 1, 2}, 41);
  says("has 5 + 5 axes, more than 8", [&] { jacobian(square(wide), wide); });
}
