// Mistakes a newcomer makes: each error names the layer's path, the line in the user's file, the shapes and
// the way out.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "../models/lecture.h"
#include "../models/opgrad.h"

using namespace opgrad;

namespace {

struct Mistake {
  std::string text;
  int line;  // of the call that made it
};

template <class F>
Mistake caught(F&& f, int line = __builtin_LINE()) {
  try {
    f();
  } catch (const UserError& e) {
    return {e.what(), line};
  }
  return {"no error", line};
}

void check_says(const Mistake& m, const std::vector<std::string>& parts, const std::string& path) {
  for (const std::string& part : parts) CHECK_MESSAGE(m.text.find(part) != m.text.npos, m.text);
  const std::string where =
      "mistakes_test.cpp:" + std::to_string(m.line) + (path.empty() ? "" : " (" + path + ")");
  CHECK_MESSAGE(m.text.find(where) != m.text.npos, m.text << "\nshould name " << where);
}

Sequential lecture(bool used) {
  Sequential net = lecture_network();
  if (used) net.build({1, 28, 28, 1});
  return net;
}

}  // namespace

TEST_CASE("mistake: images without the axis of channels") {
  const Sequential net = lecture(false);
  const Mistake m = caught([&] { net(zeros({128, 28, 28})); });
  check_says(m,
             {"conv2d: it takes images [batch, rows, columns, channels], of rank 4, but was given f32[128, "
              "28, 28] of rank 3",
              "write expand_dims(x, -1)"},
             "conv2d");
}

TEST_CASE("mistake: flat images") {
  const Sequential net = lecture(false);
  const Mistake m = caught([&] { net(zeros({128, 784})); });
  check_says(m,
             {"was given f32[128, 784] of rank 2", "reshape flat images to [batch, rows, columns, channels]"},
             "conv2d");
}

TEST_CASE("mistake: no Flatten before Dense") {
  const Sequential net{MaxPool2D(2), Dense(10)};
  const Mistake m = caught([&] { net(zeros({8, 4, 4, 3})); });
  check_says(m,
             {"dense: it takes [batch, features], of rank 2, but was given f32[8, 2, 2, 3] of rank 4",
              "put Flatten() before it"},
             "dense");
}

TEST_CASE("mistake: one example instead of a batch") {
  const Sequential net{Dense(10)};
  const Mistake m = caught([&] { net(zeros({784})); });
  check_says(m, {"was given f32[784] of rank 1", "expand_dims(x, 0)"}, "dense");
}

TEST_CASE("mistake: channels first, at the first use") {
  const Sequential net = lecture(false);
  const Mistake m = caught([&] { net(zeros({128, 1, 28, 28})); });
  check_says(
      m,
      {"conv2d: a kernel that spans 3 x 3 pixels does not fit into 1 x 28 of f32[128, 1, 28, 28]",
       "if axis 1 of [128, 1, 28, 28] holds the channels (channels first), write permute(x, {0, 2, 3, 1})"},
      "conv2d");
}

TEST_CASE("mistake: channels first, three of them") {
  const Sequential net{Conv2D(8, 3), MaxPool2D(2)};
  const Mistake m = caught([&] { net(zeros({128, 3, 32, 32})); });
  check_says(m, {"max_pool2d: a window of 2 x 2 pixels does not fit into 1 x 30 of f32[128, 1, 30, 8]"},
             "max_pool2d");
}

TEST_CASE("mistake: channels first, after the first use") {
  const Sequential net = lecture(true);
  const Mistake m = caught([&] { net(zeros({128, 1, 28, 28})); });
  check_says(m,
             {"conv2d: it was given f32[128, 1, 28, 28] with 28 channels on the last axis, but its kernel "
              "f32[3, 3, 1, 32] takes 1",
              "write permute(x, {0, 2, 3, 1})"},
             "conv2d");
}

TEST_CASE("mistake: a batch of the wrong width") {
  const Sequential net{Dense(16, relu), Dense(10, softmax)};
  net.build({1, 784});
  const Mistake m = caught([&] { net(zeros({128, 700})); });
  check_says(m,
             {"dense: it was given f32[128, 700] with 700 features, but its kernel f32[784, 16] takes 784",
              "fixed at the first use"},
             "dense");
}

TEST_CASE("mistake: images of another size after the first use") {
  const Sequential net = lecture(true);
  const Mistake m = caught([&] { net(zeros({128, 32, 32, 1})); });
  check_says(
      m, {"dense: it was given f32[128, 2304] with 2304 features, but its kernel f32[1600, 1024] takes 1600"},
      "dense");
}

TEST_CASE("mistake: inputs of another dtype than the weights") {
  const Sequential net{Dense(2)};
  net.build({1, 3});
  const Mistake m = caught([&] { net(zeros({5, 3}, DType::f64)); });
  check_says(m, {"dense: it was given f64[5, 3], but its kernel is f32[3, 2]", "write cast(x, DType::f32)"},
             "dense");
}

TEST_CASE("mistake: bytes as inputs") {
  const Sequential net{Flatten(), Dense(2)};
  const Mistake m = caught([&] { net(zeros({5, 4, 4}, DType::u8)); });
  check_says(
      m, {"dense: weights are f32 or f64, but the input is u8", "write cast(x, DType::f32), for bytes / 255"},
      "dense");
}

TEST_CASE("mistake: tensors of two dtypes in one operation") {
  const Tensor a = zeros({2, 3}), b = zeros({2, 3}, DType::f64);
  const Mistake m = caught([&] { a + b; });
  check_says(m, {"add", "f32", "f64", "cast"}, "");
}

TEST_CASE("mistake: labels out of range") {
  const Sequential net{Dense(10, softmax)};
  SGD sgd;
  const Tensor labels = tensor<std::int64_t>({3, 10});
  const Mistake m = caught([&] { sgd.step(cross_entropy(net(ones({2, 4})), labels)); });
  check_says(m, {"label 10 at position [1] is outside [0, 10)"}, "");
  CHECK(sgd.steps() == 0);
}

TEST_CASE("mistake: labels of the wrong number, and one-hot labels") {
  const Sequential net{Dense(10, softmax)};
  const Tensor x = ones({2, 4});
  const Mistake m = caught([&] { cross_entropy(net(x), tensor<std::int64_t>({1, 2, 3})); });
  check_says(m, {"[2, 10]", "[3]", "[batch, classes]"}, "");
  const Mistake one_hot = caught([&] { cross_entropy(net(x), zeros({2, 10})); });
  check_says(one_hot, {"f32[2, 10]", "must be integers"}, "");
}

TEST_CASE("mistake: a loss that is no single number") {
  const Sequential net{Dense(3)};
  SGD sgd;
  const Mistake m = caught([&] { sgd.step(net(ones({2, 4}))); });
  check_says(m, {"one float", "f32[2, 3]", "sum or mean"}, "");
}

TEST_CASE("mistake: an optimizer stepping a loss that depends on no parameter") {
  SGD sgd;
  const Tensor x = ones({2, 4});
  const Mistake m = caught([&] { sgd.step(sum(square(x))); });
  check_says(m, {"depends on no", "parameter"}, "");
}

TEST_CASE("mistake: everything is frozen") {
  Sequential net{Dense(3)};
  net.freeze();
  SGD sgd;
  const Mistake m = caught([&] { sgd.step(sum(net(ones({2, 4})))); });
  check_says(m, {"depends on no", "parameter"}, "");
}

TEST_CASE("mistake: differentiating a graph that a step has consumed") {
  const Sequential net{Dense(3)};
  net.build({1, 4});
  SGD sgd;
  const Tensor loss = sum(net(ones({2, 4})));
  sgd.step(loss);
  const Mistake m = caught([&] { grad(loss, net.parameter("dense/kernel").value()); });
  check_says(m, {"consumed by a step", "build the graph again"}, "");
}

TEST_CASE("mistake: stepping the same loss twice") {
  const Sequential net{Dense(3)};
  SGD sgd;
  const Tensor loss = sum(net(ones({2, 4})));
  sgd.step(loss);
  const Mistake m = caught([&] { sgd.step(loss); });
  check_says(m, {"consumed by a step", "again"}, "");
}

TEST_CASE(
    "mistake: a loss that is NaN stops with the step and the first guilty operation; the weights stay") {
  Sequential net{Dense(3), Dense(1)};
  net.build({1, 4});
  SGD sgd{{.learning_rate = 0.0}};
  const Tensor x = ones({2, 4});
  sgd.step(sum(net(x)));
  const std::string before = net.digest();
  const Mistake m = caught([&] { sgd.step(sum(log(net(x) * 0.0 - 1.0))); });
  check_says(m,
             {"step 2: the loss is not finite; no parameter was changed", "The first NaN", "log f32[2, 1]",
              "a smaller learning rate"},
             "");
  CHECK(net.digest() == before);
  CHECK(sgd.steps() == 1);
  CHECK(sgd.step(sum(net(x))).evaluated());
}

TEST_CASE("mistake: a NaN among the weights is named by their layer") {
  Sequential net{Dense(1, {}, {.use_bias = false})};
  net.build({1, 2});
  net.set_weights({tensor<float>({{1.0F}, {std::nanf("")}})});
  SGD sgd;
  const Mistake m = caught([&] { sgd.step(sum(net(ones({1, 2})))); });
  CHECK_MESSAGE(m.text.find("step 1: the loss is not finite") != m.text.npos, m.text);
  CHECK_MESSAGE(m.text.find("element 1 of leaf f32[2, 1]") != m.text.npos, m.text);
}

TEST_CASE("mistake: sizes of layers below 1") {
  const auto text = [](auto&& f) { return caught(f).text; };
  CHECK(text([] { Dense(0); }).find("dense: units is 0, but must be at least 1") != std::string::npos);
  CHECK(text([] { Conv2D(4, 0); }).find("conv2d: kernel_size is 0") != std::string::npos);
  CHECK(text([] { Conv2D(4, 3, relu, {.strides = 0}); }).find("conv2d: strides is 0") != std::string::npos);
  CHECK(text([] { MaxPool2D(2, -1); }).find("max_pool2d: a size or stride is -1") != std::string::npos);
  CHECK(text([] { Dropout(1.0); }).find("dropout: rate is 1, but must be at least 0 and less than 1") !=
        std::string::npos);
}
