// The values with which weights begin: their distributions, and on what they depend.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "../models/opgrad.h"
#include "../optim/optimizer.h"

using namespace opgrad;

TEST_CASE("Glorot's uniform values: bounds, mean, variance; biases are zero") {
  const Dense layer(300);
  layer(zeros({1, 500}));
  const auto w = layer.parameter("kernel").value().to_vector<float>();
  const double limit = std::sqrt(6.0 / 800);
  double mean = 0, square = 0, greatest = 0;
  for (const float x : w) {
    mean += x;
    square += double{x} * x;
    greatest = std::max(greatest, std::abs(double{x}));
  }
  const auto n = static_cast<double>(w.size());
  CHECK(greatest <= limit);
  CHECK(greatest > 0.999 * limit);
  CHECK(std::abs(mean / n) < 5 * limit / std::sqrt(3 * n));
  CHECK(square / n == doctest::Approx(limit * limit / 3).epsilon(0.01));
  for (const float b : layer.parameter("bias").value().to_vector<float>()) CHECK(b == 0);
}

TEST_CASE("fans of a convolution count the kernel's pixels") {
  const Conv2D layer(64, 3);
  layer(zeros({1, 9, 9, 32}));
  const double limit = std::sqrt(6.0 / (9 * 32 + 9 * 64));
  double greatest = 0;
  for (const float x : layer.parameter("kernel").value().to_vector<float>())
    greatest = std::max(greatest, std::abs(double{x}));
  CHECK(greatest <= limit);
  CHECK(greatest > 0.99 * limit);
}

TEST_CASE("He's values: variance 2 / fan_in; the normal ones are cut at two deviations") {
  for (const Initializer he : {Initializer::he_uniform, Initializer::he_normal}) {
    const Dense layer(300, {}, {.kernel_initializer = he});
    layer(zeros({1, 500}));
    double square = 0, greatest = 0;
    const auto w = layer.parameter("kernel").value().to_vector<float>();
    for (const float x : w) {
      square += double{x} * x;
      greatest = std::max(greatest, std::abs(double{x}));
    }
    CHECK(square / static_cast<double>(w.size()) == doctest::Approx(2.0 / 500).epsilon(0.01));
    const double deviation = std::sqrt(2.0 / 500);
    CHECK(greatest <= (he == Initializer::he_normal ? 2 / 0.8796 : std::sqrt(3.0)) * deviation);
  }
}

TEST_CASE("initial values follow from seed and path, not from the order in which layers are used") {
  const auto kernel = [](std::uint64_t seed, bool last_first) {
    const Dense a(4), b(4);
    Sequential net{a, b};
    net.initialize(seed);
    if (last_first) b(zeros({1, 4}));
    net(zeros({1, 4}));
    return net.parameter("dense_1/kernel").value().to_vector<float>();
  };
  CHECK(kernel(1, false) == kernel(1, true));
  CHECK(kernel(1, false) != kernel(2, false));
}

TEST_CASE("layers of one shape in one module begin differently, and so do loose ones") {
  const Sequential net{Dense(4), Dense(4)};
  net.build({1, 4});
  CHECK(net.parameter("dense/kernel").value().to_vector<float>() !=
        net.parameter("dense_1/kernel").value().to_vector<float>());
  const Dense a(4), b(4);
  a(zeros({1, 4}));
  b(zeros({1, 4}));
  CHECK(a.parameter("kernel").value().to_vector<float>() != b.parameter("kernel").value().to_vector<float>());
}

TEST_CASE("initialize draws existing weights anew") {
  Sequential net{Dense(4)};
  net.initialize(7);
  net.build({1, 4});
  const auto first = net.digest();
  SGD sgd{{.learning_rate = 0.1}};
  sgd.step(sum(net(ones({1, 4}))));
  CHECK(net.digest() != first);
  net.initialize(7);
  CHECK(net.digest() == first);
}
