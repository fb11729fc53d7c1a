// The tree of modules: names, sharing, freezing, modes, the summary, and architectures of one's own.
#include "../models/module.h"

#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "../graph/grad.h"
#include "../graph/run.h"
#include "../models/lecture.h"
#include "../models/opgrad.h"
#include "../optim/optimizer.h"
#include "errors.h"
#include "modules.h"

using namespace opgrad;
using namespace opgrad::test;

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

TEST_CASE("a model of f64 inputs has f64 weights") {
  const Sequential net{Dense(2, relu), Dense(1)};
  const Tensor y = net(zeros({1, 3}, DType::f64));
  CHECK(y.dtype() == DType::f64);
  CHECK(net.parameter("dense/kernel").dtype() == DType::f64);
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
