// Gradients by example, for every way in which weights meet them.
#include "../ops/per_example.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "../graph/registry.h"
#include "../graph/run.h"
#include "../models/lecture.h"
#include "../ops/custom_gradient.h"
#include "../ops/define.h"
#include "per_example.h"

using namespace opgrad;
using namespace opgrad::test;

TEST_CASE("the lecture's network") {
  Sequential net = lecture_network();
  const std::int64_t batch = 3;
  const Tensor images = cast(random_tensor({batch, 28, 28, 1}, 1), DType::f32);
  const Tensor labels = tensor<std::int64_t>({3, 1, 4});
  const Gradients found = per_example_gradients(cross_entropy(net(images), labels, Reduction::none));
  REQUIRE(found.parameters.size() == 8);
  CHECK(found.loss.shape() == Shape{batch});
  const Gradients whole = gradients(cross_entropy(net(images), labels));
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(found.parameters[i] == whole.parameters[i]);
    check_close(doubles(mean(found.gradients[i], {0})), doubles(whole.gradients[i]), 1e-5);
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const Gradients mine = gradients(cross_entropy(net(rows(images, b, 1)), rows(labels, b, 1)));
    for (std::size_t i = 0; i < 8; ++i) {
      CAPTURE(b);
      CAPTURE(i);
      check_close(doubles(found.gradients[i][b]), doubles(mine.gradients[i]), 1e-5);
    }
  }
}

TEST_CASE("the overload for given parameters") {
  Sequential net{Dense(4, tanh), Dense(2)};
  const Tensor x = cast(random_tensor({3, 5}, 2), DType::f32);
  const Tensor losses = sum(square(net(x)), {1});
  const Gradients all = per_example_gradients(losses);
  const std::vector<Parameter> some{all.parameters[2], all.parameters[0]};
  const Gradients found = per_example_gradients(losses, some);
  CHECK(found.gradients[0].to_vector<float>() == all.gradients[2].to_vector<float>());
  CHECK(found.gradients[1].to_vector<float>() == all.gradients[0].to_vector<float>());
}

TEST_CASE("losses without a reduction have the mean that cross_entropy gives") {
  const Tensor logits = random_tensor({4, 3}, 3), labels = tensor<std::int64_t>({0, 2, 1, 1});
  const Tensor p = softmax(logits), other = p * 1;
  for (const Tensor& q : {p, other}) {
    CHECK(cross_entropy(q, labels, Reduction::none).shape() == Shape{4});
    CHECK(mean(cross_entropy(q, labels, Reduction::none)).item() == cross_entropy(q, labels).item());
  }
  CHECK(mean(cross_entropy_from_logits(logits, labels, Reduction::none)).item() ==
        cross_entropy_from_logits(logits, labels).item());
}

TEST_CASE("pointwise operations and those along a row") {
  const Network f = [](const Tensors& p, const Tensors& d) {
    Tensor h = tanh(matmul(d[0], p[0]) + p[1]);
    h = sigmoid(h) * exp(-square(h)) + log(2 + abs(h)) - pow(h, 2) / (3 - h) + sqrt(1.5 + h);
    h = maximum(h, p[1]) + minimum(h, 2 * p[1]) + where(h > p[1], h * p[1], relu(h));
    h = softmax(h) * h + log_softmax(h * p[1]) + flip(h, {1}) - mean(h, {1}, true);
    h = concatenate(Tensors{h, slice(h, {0, 1}, {h.dim(0), 3}), pad(h, {0, 1}, {0, 0})}, 1);
    const Tensor best = max(h, {1}, true) + expand_dims(take_along(h, d[1]), 1);
    h = permute(reshape(h, {h.dim(0), -1, 1}), {0, 2, 1});
    return sum(square(reshape(h, {h.dim(0), -1}) + best) * 0.1, {1});
  };
  check_by_loop(f, {weights({3, 4}, 4), weights({4}, 5)},
                {random_tensor({5, 3}, 6), tensor<std::int64_t>({0, 3, 2, 1, 5})}, 5);
}

TEST_CASE("convolution, transposed convolution and pooling") {
  const Network f = [](const Tensors& p, const Tensors& d) {
    const Window window{.strides = {2, 1}, .dilations = {1, 2}, .padding = Padding::same};
    Tensor h = tanh(conv2d(d[0], p[0], window) + p[1]);
    h = max_pool2d(h, {2, 2}, {1, 2});
    h = conv2d_input_gradient(h, p[2], {h.dim(0), h.dim(1) + 1, h.dim(2) + 1, 2});
    return sum(square(h), {1, 2, 3});
  };
  const Tensors parameters{weights({3, 2, 2, 3}, 7), weights({3}, 8), weights({2, 2, 2, 3}, 9)};
  check_by_loop(f, parameters, {random_tensor({10, 6, 5, 2}, 10)}, 10);
  // Several images to an example, fewer examples than are worth a thread each.
  const Network groups = [&](const Tensors& p, const Tensors& d) {
    return sum(reshape(f(p, d), {-1, 3}), {1});
  };
  check_by_loop(groups, parameters, {random_tensor({6, 6, 5, 2}, 11)}, 2);
}

TEST_CASE("weights that are used several times, and transposed") {
  const Network f = [](const Tensors& p, const Tensors& d) {
    const Tensor h = tanh(matmul(tanh(matmul(d[0], p[0])), p[0]));
    return losses_of(matmul(h, transpose(p[0])) + matmul(h, p[0]), h.dim(0));
  };
  check_by_loop(f, {weights({4, 4}, 12)}, {random_tensor({5, 4}, 13)}, 5);
}

TEST_CASE("weights that pass through operations of their own before use") {
  const Network f = [](const Tensors& p, const Tensors& d) {
    const Tensor mask = tensor({1.0, 0.0, 1.0, 1.0}), x = d[0];
    const Tensor normal = p[0] / sqrt(sum(square(p[0]), {0}, true)) * mask;
    const Tensor gathered = gather(p[1], tensor<std::int64_t>({2, 0, 1}));
    const Tensor product = matmul(softmax(gathered, 0), pow(p[1] * 0.5, 3));
    return losses_of(matmul(matmul(x, normal), concatenate(Tensors{p[2], p[2]}, 0)) + matmul(x, product),
                     x.dim(0));
  };
  check_by_loop(f, {weights({3, 4}, 14), weights({3, 3}, 15), weights({2, 3}, 16)},
                {random_tensor({4, 3}, 17)}, 4);
}

TEST_CASE("folded sequences: embedding, attention, several rows to an example") {
  const std::int64_t time = 3, width = 4;
  const Network f = [&](const Tensors& p, const Tensors& d) {
    const std::int64_t batch = d[0].dim(0) / time;
    const Tensor words = reshape(gather(p[0], d[0]), {batch, time, width}) + p[1];
    const Tensor flat = reshape(words, {batch * time, width});
    const auto heads = [&](const Tensor& w) { return reshape(matmul(flat, w), {batch, time, width}); };
    const Tensor scores = softmax(matmul(heads(p[2]), transpose(heads(p[3]))));
    const Tensor mixed = reshape(matmul(scores, words), {batch * time, width});
    return losses_of(tanh(matmul(mixed, p[2])), batch);
  };
  check_by_loop(f,
                {weights({7, width}, 18), weights({time, width}, 19), weights({width, width}, 20),
                 weights({width, width}, 21)},
                {tensor<std::int32_t>({0, 1, 1, 6, 5, 1, 2, 2, 2, 0, 3, 6})}, 4);
}

TEST_CASE("a parameter with a row for each example has gradients in that row alone") {
  const Tensor rows_of = weights({3, 2}, 23), x = random_tensor({3, 2}, 24);
  const Tensor found = per_example_gradients(sum(rows_of * x, {1}), rows_of);
  const Doubles v = x.to_vector<double>(), g = found.to_vector<double>();
  for (std::size_t b = 0; b < 3; ++b)
    for (std::size_t r = 0; r < 3; ++r)
      for (std::size_t k = 0; k < 2; ++k) CHECK(g[6 * b + 2 * r + k] == (b == r ? v[2 * r + k] : 0));
  // Such a row, and the whole table beside it.
  const Network both = [](const Tensors& p, const Tensors& d) {
    return sum(p[0] * 1 + matmul(d[0], p[0]), {1});
  };
  const Tensors alike{weights({3, 3}, 25)};
  const Tensor all = per_example_gradients(both(alike, {random_tensor({3, 3}, 26)}), alike)[0];
  check_close(doubles(sum(all, {0})), doubles(grad(sum(both(alike, {random_tensor({3, 3}, 26)})), alike[0])),
              1e-12);
}

TEST_CASE("tensors within the network have gradients by example as well as the weights behind them") {
  const Tensor w = weights({3, 4}, 27), x = random_tensor({5, 3}, 28);
  const Tensor masked = w * 2, hidden = matmul(x, masked);
  const Tensors found = per_example_gradients(sum(square(hidden), {1}), {masked, w, hidden});
  check_close(doubles(found[1]), doubles(2 * found[0]), 1e-12);
  check_close(doubles(sum(found[2], {0})), doubles(2 * hidden), 1e-12);
}

TEST_CASE("one example and none") {
  const Tensor w = weights({3, 2}, 29);
  for (const std::int64_t batch : {0, 1}) {
    const Tensor x = random_tensor({batch, 3}, 30);
    const Tensor losses = sum(square(matmul(x, w)), {1});
    const Tensor found = per_example_gradients(losses, w);
    CHECK(found.shape() == Shape{batch, 3, 2});
    if (batch) CHECK(doubles(found) == doubles(grad(sum(losses), w)));
  }
}

TEST_CASE("gradients by example can be differentiated again") {
  const Tensor x = random_tensor({9, 4, 4, 1}, 31);
  check_gradients(
      [&](const Tensors& p) {
        const Tensor h = tanh(conv2d(x, p[0]));
        const Tensor losses = sum(square(matmul(reshape(h, {9, -1}), p[1])), {1});
        Tensor penalty = full({}, 0, DType::f64);
        for (const Tensor& g : per_example_gradients(losses, p))
          penalty = penalty + sum(sqrt(1 + sum(square(reshape(g, {9, -1})), {1})));
        return penalty;
      },
      {{3, 3, 1, 2}, {8, 2}});
}

TEST_CASE("every differentiable record serves what examples share, but for those without a lift") {
  const std::int64_t batch = 3;
  std::set<std::string> without;
  int checked = 0;
  for (const Op* op : all_ops()) {
    const std::string name = op->name;
    if (name.find('.') != name.npos || op->backward == no_gradient || !op->examples) continue;
    for (const Example& e : op->examples()) {
      CAPTURE(name);
      Tensors xs, asked;
      for (const Sample& s : e.inputs) {
        const bool index = s.dtype != DType::f64;
        const Tensor u = (random_tensor(s.shape, 40 + xs.size()) + 1) / 2 * (s.high - s.low) + s.low;
        xs.push_back(index ? cast(u, s.dtype) : variable(u));
        if (!index) asked.push_back(xs.back());
      }
      const Tensor y = e.call(xs);
      if (!is_float(y.dtype()) || asked.empty()) continue;
      const Tensor factors = random_tensor({batch, y.numel()}, 50);
      const Tensor losses = sum(reshape(y, {1, -1}) * factors, {1});
      // Only what y depends on by a path of gradients.
      Tensors found;
      std::vector<std::size_t> connected;
      const Tensors plain = vjp_where_connected(y, ones_like(y), asked);
      Tensors some;
      for (std::size_t i = 0; i < asked.size(); ++i)
        if (plain[i]) some.push_back(asked[i]);
      if (some.empty()) continue;
      try {
        found = per_example_gradients(losses, some);
      } catch (const UserError& error) {
        CHECK_MESSAGE(mentions(error.what(), "has no per_example.lift"), std::string(error.what()));
        without.insert(name);
        continue;
      }
      for (std::int64_t b = 0; b < batch; ++b) {
        const Tensors expected = vjp(y, reshape(factors[b], y.shape()), some);
        for (std::size_t i = 0; i < some.size(); ++i)
          check_close(doubles(found[i][b]), doubles(expected[i]), 1e-12);
      }
      ++checked;
    }
  }
  CHECK(checked > 60);
  CHECK(without == std::set<std::string>{"custom_gradient"});
}

TEST_CASE("a custom gradient that says its rows are apart is taken at its word") {
  const Network f = [](const Tensors& p, const Tensors& d) {
    const Tensor h = matmul(d[0], p[0]);
    const Tensor y = custom_gradient(
        h, {h}, [](const Tensor&, const Tensor& dy, std::span<const Tensor>) -> Grads { return {dy * 3}; },
        true);
    return sum(square(y), {1});
  };
  check_by_loop(f, {weights({3, 2}, 63)}, {random_tensor({4, 3}, 64)}, 4);
}

TEST_CASE("outer products too large for the caches are exact, whatever their rows' alignment") {
  const Shape left{130, 301, 1}, right{130, 1, 67};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor a = cast(random_tensor(left, 69), dtype), b = cast(random_tensor(right, 70), dtype);
    eval({a, b});
    const Doubles found = doubles(matmul(a, b)), expected = doubles(a * b);
    CHECK(found == expected);
  }
}
