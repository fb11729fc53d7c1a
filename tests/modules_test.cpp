// Modules and layers: names, sharing, initial values, modes, files, the summary, and architectures of one's
// own.
#include "../models/module.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "../core/file.h"
#include "../core/random.h"
#include "../graph/grad.h"
#include "../graph/run.h"
#include "../models/lecture.h"
#include "../models/opgrad.h"
#include "../models/safetensors.h"
#include "../optim/optimizer.h"
#include "errors.h"
#include "scratch.h"

using namespace opgrad;
using test::contains;
using test::message;

namespace {

std::vector<std::string> names(const Module& m) {
  std::vector<std::string> all;
  for (const auto& p : m.parameters()) all.push_back(p.name);
  return all;
}

Tensor noise(const Shape& shape, std::uint64_t key) {
  std::vector<float> x(static_cast<std::size_t>(shape.numel()));
  fill_normal(Key{key, 0}, 0, shape.numel(), x.data());
  return tensor(x, shape);
}

// From here to the brace after `project` there are 10 lines.
class ResidualBlock : public Layer<ResidualBlock> {
 public:
  explicit ResidualBlock(std::int64_t channels)
      : conv(add("conv", Conv2D(channels, 3, relu, {.padding = Padding::same}))),
        project(add("project", Conv2D(channels, 1))) {}
  Tensor forward(const Tensor& x, const Tensor& skip) const { return relu(conv(conv(x)) + project(skip)); }

 private:
  Conv2D conv, project;
};

class Net : public Layer<Net> {
 public:
  Tensor forward(const Tensor& x) const { return head(Flatten()(block(x, x))); }
  ResidualBlock block = add("block", ResidualBlock(2));
  Dense head = add("head", Dense(3, softmax));
};

}  // namespace

TEST_CASE("the lecture's network has 1,668,490 parameters, named as Keras names layers") {
  const Sequential net = lecture_network();
  net.build({1, 28, 28, 1});
  CHECK(net.parameter_count() == 1'668'490);
  CHECK(names(net) == std::vector<std::string>{"conv2d/kernel", "conv2d/bias", "conv2d_1/kernel",
                                               "conv2d_1/bias", "dense/kernel", "dense/bias",
                                               "dense_1/kernel", "dense_1/bias"});
  CHECK(net.parameter("conv2d_1/kernel").shape() == Shape{3, 3, 32, 64});
  CHECK(net.parameter("dense/kernel").shape() == Shape{1600, 1024});
}

TEST_CASE("building runs nothing, and parameters know their path") {
  reset_plan_stats();
  const Sequential net{Dense(4, relu), Dense(2)};
  net.build({1, 3});
  CHECK(plan_stats().plans + plan_stats().hits == 0);
  CHECK(net.parameter("dense_1/bias").name() == "dense_1/bias");
}

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

TEST_CASE("a residual block with a shared layer and two inputs: its parameters are found once each") {
  const Net net;
  const Tensor x = noise({2, 4, 4, 1}, 5);
  CHECK_THROWS_AS(net(x), UserError);  // one channel first, two after the shared layer
  const Tensor y = noise({2, 4, 4, 2}, 5);
  const Net fits;
  CHECK(fits(y).shape() == Shape{2, 3});
  CHECK(names(fits) == std::vector<std::string>{"block/conv/kernel", "block/conv/bias",
                                                "block/project/kernel", "block/project/bias", "head/kernel",
                                                "head/bias"});
  CHECK(fits.parameter("block/conv/kernel").name() == "block/conv/kernel");
}

TEST_CASE("a shared layer gets the sum of the gradients of its places") {
  const ResidualBlock block(1);
  const Tensor x = noise({1, 5, 5, 1}, 1), skip = noise({1, 5, 5, 1}, 2);
  const Tensor loss = sum(square(block(x, skip)));
  const Parameter kernel = block.parameter("conv/kernel"), bias = block.parameter("conv/bias");
  const Parameter p = block.parameter("project/kernel"), pb = block.parameter("project/bias");
  // The same with two leaves in place of the shared one.
  const Tensor first = variable(kernel.value()), second = variable(kernel.value());
  const Window same{.padding = Padding::same};
  const Tensor inner = relu(conv2d(x, first, same) + bias);
  const Tensor other = sum(square(relu(relu(conv2d(inner, second, same) + bias) + conv2d(skip, p) + pb)));
  CHECK(loss.item() == doctest::Approx(other.item()));
  const auto parts = grad(other, {first, second});
  const auto whole = grad(loss, kernel).to_vector<float>();
  const auto sums = (parts[0] + parts[1]).to_vector<float>();
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(whole[i] == doctest::Approx(sums[i]).epsilon(1e-5));
}

TEST_CASE("copies of a layer are the same layer, also within one Sequential") {
  const Dense shared(3, relu);
  const Sequential net{shared, shared};
  net.build({1, 3});
  CHECK(names(net) == std::vector<std::string>{"dense/kernel", "dense/bias"});
  CHECK(net.parameter("dense/kernel") == shared.parameter("kernel"));
}

TEST_CASE("nested modules have nested paths, and names go on counting") {
  const Sequential net{Sequential{Dense(2), Dense(2)}, Sequential{Dense(2), Dense(2)}, Dense(1)};
  net.build({1, 2});
  CHECK(names(net)[2] == "sequential/dense_1/kernel");
  CHECK(names(net)[4] == "sequential_1/dense/kernel");
  CHECK(names(net)[8] == "dense/kernel");
}

TEST_CASE("type names follow Keras's rule") {
  CHECK(Conv2D(1, 1).type_name() == "conv2d");
  CHECK(MaxPool2D(2).type_name() == "max_pool2d");
  CHECK(BatchNormalization().type_name() == "batch_normalization");
  CHECK(ResidualBlock(1).type_name() == "residual_block");
}

TEST_CASE("freezing is one call: before the first use, after it, and back") {
  Net net;
  net.block.freeze();
  const Tensor x = noise({2, 4, 4, 2}, 3);
  const Tensor labels = tensor<std::int64_t>({0, 2});
  SGD sgd{{.learning_rate = 0.1}};
  const auto changed = [&](const std::string& name) {
    const auto before = net.parameter(name).value().to_vector<float>();
    sgd.step(cross_entropy(net(x), labels));
    return net.parameter(name).value().to_vector<float>() != before;
  };
  net.eval();
  net(x);
  CHECK_FALSE(changed("block/conv/kernel"));
  CHECK(changed("head/kernel"));
  net.head.freeze();
  net.block.unfreeze();
  CHECK(changed("block/project/kernel"));
  CHECK_FALSE(changed("head/kernel"));
  net.unfreeze();
  CHECK(changed("head/kernel"));
}

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

TEST_CASE("a model of f64 inputs has f64 weights") {
  const Sequential net{Dense(2, relu), Dense(1)};
  const Tensor y = net(zeros({1, 3}, DType::f64));
  CHECK(y.dtype() == DType::f64);
  CHECK(net.parameter("dense/kernel").dtype() == DType::f64);
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

TEST_CASE("a mode of a scope ends with it, for every part as it was") {
  Sequential net{Dense(2), Dropout(0.5)};
  {
    const Mode inference(net, false);
    CHECK_FALSE(net.training());
    const Mode again(net, true);
    CHECK(net.training());
  }
  CHECK(net.training());
}

TEST_CASE("build leaves statistics and modes alone") {
  Sequential net{BatchNormalization(), Dropout(0.5)};
  net.build({4, 2});
  CHECK(net.training());
  CHECK(net.parameter("batch_normalization/moving_variance").value().to_vector<float>() ==
        std::vector<float>{1, 1});
}

TEST_CASE("weights are saved and loaded bit for bit; the digest tells them apart") {
  const Scratch scratch;
  Sequential net{Dense(3, relu), BatchNormalization(), Dense(2)},
      other{Dense(3, relu), BatchNormalization(), Dense(2)};
  net.initialize(1);
  net.build({1, 4});
  other.initialize(2);
  other.build({1, 4});
  CHECK(net.digest() != other.digest());
  CHECK(net.digest().size() == 16);
  net.save(scratch.path("w.safetensors"));
  other.load(scratch.path("w.safetensors"));
  CHECK(net.digest() == other.digest());
  const Tensor x = noise({5, 4}, 1);
  CHECK(net(x).to_vector<float>() == other(x).to_vector<float>());
}

TEST_CASE("load lists every missing, extra and misshaped name in one error and changes nothing") {
  const Scratch scratch;
  Sequential small{Dense(3)}, net{Dense(2), Conv2D(1, 1)}, wide{Dense(2), Dense(5), Dense(5)};
  small.build({1, 4});
  small.save(scratch.path("w.safetensors"));
  wide.build({1, 4});
  const std::string before = wide.digest();
  const std::string m = message([&] { wide.load(scratch.path("w.safetensors")); });
  CHECK(contains(m, "does not hold the weights of this model"));
  CHECK(contains(m, "misshaped: dense/kernel is f32[4, 3], but must be f32[4, 2]"));
  CHECK(contains(m, "misshaped: dense/bias is f32[3], but must be f32[2]"));
  CHECK(contains(m, "missing: dense_1/kernel f32[2, 5]"));
  CHECK(contains(m, "missing: dense_2/bias f32[5]"));
  CHECK(wide.digest() == before);
  wide.save(scratch.path("wide.safetensors"));
  const std::string e = message([&] { small.load(scratch.path("wide.safetensors")); });
  CHECK(contains(e, "extra: dense_1/kernel f32[2, 5]"));
  CHECK(contains(e, "extra: dense_2/bias f32[5]"));
  CHECK(contains(message([&] { net.load(scratch.path("w.safetensors")); }),
                 "call build with the shape of the input"));
}

TEST_CASE("set_weights refuses what does not fit before it changes anything") {
  Sequential net{Dense(2)};
  net.build({1, 2});
  const std::string before = net.digest();
  CHECK(contains(message([&] {
                   net.set_weights({zeros({2, 2})});
                 }),
                 "1 tensors were given for 2 parameters"));
  CHECK(contains(message([&] {
                   net.set_weights({zeros({2, 2}), zeros({3})});
                 }),
                 "misshaped: dense/bias was given f32[3], but must be f32[2]"));
  CHECK(net.digest() == before);
}

TEST_CASE("the summary: layer, output volume, parameters, total, and what is not trained") {
  Sequential net = lecture_network();
  net.build({1, 28, 28, 1});
  const std::string table = net.summary();
  for (const char* part : {"layer", "output volume", "parameters", "conv2d ", "26 x 26 x 32", "13 x 13 x 32",
                           "11 x 11 x 64", "5 x 5 x 64", "1600", "1,639,424", "18,496", "1,668,490"})
    CHECK_MESSAGE(contains(table, part), part);
  CHECK_FALSE(contains(table, "not trained"));
  net.freeze();
  CHECK(contains(net.summary(), "not trained"));
  const Net own;
  own(noise({1, 4, 4, 2}, 1));
  CHECK(contains(own.summary(), "block/conv (conv2d)"));
}

TEST_CASE("a module of one input can be called without its type; one of two inputs says so") {
  const Sequential net{Dense(2)};
  const Module& any = net;
  CHECK(any(zeros({1, 3})).shape() == Shape{1, 2});
  const ResidualBlock block(1);
  const Module& two = block;
  CHECK(contains(message([&] { two(zeros({1, 3, 3, 1})); }), "residual_block: it takes more than one input"));
}

TEST_CASE("a layer that was not added is refused when it would make weights nobody finds") {
  class Forgetful : public Layer<Forgetful> {
   public:
    Tensor forward(const Tensor& x) const { return dense(x); }

   private:
    Dense dense = Dense(2);
  };
  const Forgetful net;
  const std::string m = message([&] { net(zeros({1, 3})); });
  CHECK(contains(m, "dense: it is called by forgetful, but is not one of its parts"));
  CHECK(contains(m, "add(\"name\", ...)"));
}

TEST_CASE("names of parts: taken, empty, with a slash") {
  struct Bad : Layer<Bad> {
    Bad(const std::string& a, const std::string& b) {
      add(a, Flatten());
      add(b, Flatten());
    }
    Tensor forward(const Tensor& x) const { return x; }
  };
  CHECK(contains(message([] { Bad("a", "a"); }), "two parts are named 'a'"));
  CHECK(contains(message([] { Bad("a", ""); }), "cannot be named ''"));
  CHECK(contains(message([] { Bad("a", "b/c"); }), "cannot be named 'b/c'"));
}

TEST_CASE("nodes carry the module's path and the line of the outermost call") {
  const Net net;
  const Tensor x = noise({1, 4, 4, 2}, 1);
  const Tensor y = net(x);
  const int line = __LINE__ - 1;
  CHECK(to_string(*y.node()->origin) == "modules_test.cpp:" + std::to_string(line) + " (head)");
  const ResidualBlock& block = net.block;
  const Tensor z = block(x, x);
  CHECK(std::string(z.node()->origin->path) == "block");
}

TEST_CASE("inference from several threads on one module gives the same bits") {
  Sequential net{Conv2D(4, 3, relu), Flatten(), Dense(3, softmax)};
  net.eval();
  const Tensor x = noise({2, 6, 6, 1}, 1);
  const auto expected = net(x).to_vector<float>();
  std::vector<std::vector<float>> got(4);
  std::vector<std::thread> threads;
  for (auto& g : got) threads.emplace_back([&] { g = net(noise({2, 6, 6, 1}, 1)).to_vector<float>(); });
  for (auto& t : threads) t.join();
  for (const auto& g : got) CHECK(g == expected);
}
