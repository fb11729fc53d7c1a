// Layers: what each computes, in training and in inference.
#include "../models/layers.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "../graph/grad.h"
#include "../graph/run.h"
#include "../models/opgrad.h"
#include "../optim/optimizer.h"
#include "modules.h"

using namespace opgrad;
using namespace opgrad::test;

TEST_CASE("Dense is activation(x kernel + bias)") {
  Sequential net{Dense(2, relu)};
  net.build({1, 2});
  net.set_weights({tensor<float>({{1, 2}, {3, -4}}), tensor<float>({0.5F, 1})});
  CHECK(net(tensor<float>({{1, 1}, {2, 0}})).to_vector<float>() == std::vector<float>{4.5F, 0, 2.5F, 5});
}

TEST_CASE("Conv2D is activation(conv2d(x, kernel) + bias), MaxPool2D and Flatten follow") {
  Sequential net{Conv2D(1, 2), MaxPool2D(2, 1), Flatten()};
  net.build({1, 3, 3, 1});
  net.set_weights({tensor(std::vector<float>{1, 0, 0, 1}, {2, 2, 1, 1}), tensor<float>({10})});
  const Tensor x = tensor(std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 3, 3, 1});
  const Tensor y = net(x);
  CHECK(y.shape() == Shape{1, 1});
  CHECK(y.item() == 5 + 9 + 10);
}

TEST_CASE("strides, dilations and same padding reach the convolution") {
  const Conv2D layer(4, {3, 2}, {}, {.strides = 2, .padding = Padding::same, .use_bias = false});
  CHECK(layer(zeros({2, 7, 8, 3})).shape() == Shape{2, 4, 4, 4});
  CHECK(names(layer) == std::vector<std::string>{"kernel"});
  CHECK(Conv2D(4, 3, {}, {.dilations = {2, 1}})(zeros({2, 7, 8, 3})).shape() == Shape{2, 3, 6, 4});
}

TEST_CASE("activations: functions, softmax over the last axis, lambdas") {
  const Tensor x = tensor<float>({{1, -2}});
  CHECK(Activation(relu)(x).to_vector<float>() == std::vector<float>{1, 0});
  CHECK(sum(Activation(softmax)(x)).item() == doctest::Approx(1));
  const double slope = 3;
  CHECK(Activation([slope](const Tensor& t) { return t * slope; })(x).to_vector<float>() ==
        std::vector<float>{3, -6});
  CHECK(Activation()(x).node() == x.node());
}

TEST_CASE("Dropout: in training about `rate` zeros and the rest scaled, in inference the input itself") {
  Sequential net{Dropout(0.25)};
  const Tensor x = ones({100, 100});
  const auto y = net(x).to_vector<float>();
  double zeros_seen = 0;
  for (const float v : y) {
    CHECK((v == 0 || v == doctest::Approx(1 / 0.75)));
    zeros_seen += v == 0;
  }
  CHECK(zeros_seen / 1e4 == doctest::Approx(0.25).epsilon(0.08));
  net.eval();
  CHECK(net(x).node() == x.node());
  net.train();
  CHECK(net(x).node() != x.node());
}

TEST_CASE("Dropout: another draw for each call and step, the same for the same seed, path, step and call") {
  const Tensor x = ones({1, 64});
  const auto draws = [&](std::uint64_t seed) {
    Sequential net{Dropout(0.5), Dropout(0.5)};
    net.initialize(seed);
    std::vector<std::vector<float>> all;
    for (const std::uint64_t step : {10U, 11U}) {
      set_training_step(step);
      all.push_back(net(x).to_vector<float>());
      all.push_back(net(x).to_vector<float>());
    }
    return all;
  };
  const auto a = draws(1), b = draws(1), c = draws(2);
  CHECK(a == b);
  CHECK(a != c);
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) CHECK(a[i] != a[j]);
}

TEST_CASE("Dropout: one plan serves every step, and the gradient has the mask of the forward pass") {
  Sequential net{Dense(8), Dropout(0.5), Dense(1)};
  net.build({1, 4});
  SGD sgd{{.learning_rate = 0.01}};
  clear_plan_cache();
  reset_plan_stats();
  for (int i = 0; i < 5; ++i) sgd.step(sum(net(ones({2, 4}))));
  CHECK(plan_stats().plans == 1);
  const Dropout drop(0.5);
  const Tensor x = variable(ones({1, 64}));
  const Tensor y = drop(x);
  const Tensor g = grad(sum(y), x);
  CHECK(g.to_vector<float>() == y.to_vector<float>());
}

TEST_CASE("BatchNormalization: normalises by the batch in training and moves the statistics once per step") {
  Sequential net{BatchNormalization({.momentum = 0.9, .epsilon = 0})};
  const Tensor x = tensor<float>({{1, 10}, {3, 30}});
  SGD sgd{{.learning_rate = 0.0}};
  const Tensor y = net(x);
  sgd.step(sum(y));
  const auto v = y.to_vector<float>();
  const std::vector<float> expected{-1, -1, 1, 1};
  for (std::size_t i = 0; i < 4; ++i) CHECK(v[i] == doctest::Approx(expected[i]));
  const auto mean = net.parameter("batch_normalization/moving_mean").value().to_vector<float>();
  const auto variance = net.parameter("batch_normalization/moving_variance").value().to_vector<float>();
  CHECK(mean[0] == doctest::Approx(0.2));
  CHECK(mean[1] == doctest::Approx(2));
  CHECK(variance[0] == doctest::Approx(0.9 + 0.1 * 1));
  CHECK(variance[1] == doctest::Approx(0.9 + 0.1 * 100));
  net.eval();
  CHECK(net(x).to_vector<float>()[0] == doctest::Approx((1 - 0.2) / std::sqrt(1.0)));
  CHECK(net.parameter("batch_normalization/moving_mean").value().to_vector<float>() == mean);
}

TEST_CASE("BatchNormalization: its statistics are never trained, even after unfreeze") {
  Sequential net{BatchNormalization()};
  net.build({1, 2});
  net.freeze();
  net.unfreeze();
  CHECK_FALSE(net.parameter("batch_normalization/moving_mean").trainable());
  CHECK(net.parameter("batch_normalization/gamma").trainable());
}
