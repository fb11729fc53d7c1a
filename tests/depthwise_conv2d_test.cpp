// The depthwise trio of operations, against conv2d and by numbers, and the layer that is made of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "../models/opgrad.h"
#include "../ops/records.h"
#include "modules.h"
#include "numeric_gradient.h"

using namespace opgrad;
using namespace opgrad::test;

TEST_CASE("depthwise_conv2d of one channel is conv2d, and so are its derivatives") {
  const Window window{.strides = {2, 1}, .dilations = {1, 2}, .padding = Padding::same};
  const Tensor x = random_tensor({2, 9, 8, 1}, 1), w = random_tensor({3, 2, 1, 5}, 2);
  const Tensor y = conv2d(x, w, window), d = random_tensor(y.shape(), 3);
  const auto close = [](const Tensor& a, const Tensor& b) {
    CHECK(a.shape() == b.shape());
    CHECK(max(abs(a - b)).item() < 1e-12);
  };
  close(depthwise_conv2d(x, w, window), y);
  close(depthwise_conv2d_kernel_gradient(x, d, w.shape(), window),
        conv2d_kernel_gradient(x, d, w.shape(), window));
  close(depthwise_conv2d_input_gradient(d, w, x.shape(), window),
        conv2d_input_gradient(d, w, x.shape(), window));
}

TEST_CASE("depthwise_conv2d is conv2d with a kernel that is zero between different channels") {
  const std::int64_t channels = 3, multiplier = 2;
  const Tensor x = random_tensor({2, 6, 5, channels}, 1), w = random_tensor({3, 3, channels, multiplier}, 2);
  std::vector<Tensor> by_channel;
  for (std::int64_t c = 0; c < channels; ++c)
    by_channel.push_back(
        pad(slice(w, {0, 0, c, 0}, {3, 3, c + 1, multiplier}), {0, 0, c, 0}, {0, 0, channels - 1 - c, 0}));
  const Tensor block_diagonal = concatenate(by_channel, 3);
  CHECK(max(abs(depthwise_conv2d(x, w) - conv2d(x, block_diagonal))).item() < 1e-12);
}

TEST_CASE("depthwise operations on nothing give nothing, or zeros") {
  for (const auto& shapes : std::vector<std::pair<Shape, Shape>>{{{0, 5, 5, 3}, {2, 2, 3, 2}},
                                                                 {{2, 5, 5, 0}, {2, 2, 0, 4}},
                                                                 {{2, 5, 5, 3}, {2, 2, 3, 0}},
                                                                 {{1, 0, 5, 9}, {2, 2, 9, 2}}}) {
    const Shape &x = shapes.first, &w = shapes.second;
    CAPTURE(to_string(x));
    const Window window{.pads = {1, 2, 0, 0}};
    const Tensor tx = variable(ones(x)), tw = variable(ones(w));
    const Tensor y = depthwise_conv2d(tx, tw, window);
    CHECK(y.shape() == Shape{x[0], x[1] + 2, x[2] - 1, x[3] * w[3]});
    const std::vector<float> values = y.to_vector<float>();
    if (x[1] == 0) CHECK(std::ranges::all_of(values, [](float v) { return v == 0; }));
    const std::vector<Tensor> gradients = grad(sum(square(y)), {tx, tw});
    CHECK(gradients[0].shape() == x);
    CHECK(gradients[1].shape() == w);
    for (const Tensor& g : gradients)
      for (const float v : g.to_vector<float>()) CHECK(v == 0);
  }
}

TEST_CASE("the depthwise trio has gradients of first and second order") {
  struct Case {
    Shape x, w, y;
    Window window;
  };
  for (const Case& c :
       {Case{{2, 5, 4, 3}, {3, 2, 3, 1}, {2, 3, 3, 3}, {}},
        Case{{1, 6, 7, 2}, {2, 3, 2, 2}, {1, 3, 6, 4}, {{2, 1}, {1, 2}, Padding::valid, {1, 0, 2, 1}}}}) {
    check_two_orders([&](const std::vector<Tensor>& in) { return depthwise_conv2d(in[0], in[1], c.window); },
                     {c.x, c.w});
    check_two_orders(
        [&](const std::vector<Tensor>& in) {
          return depthwise_conv2d_kernel_gradient(in[0], in[1], c.w, c.window);
        },
        {c.x, c.y});
    check_two_orders(
        [&](const std::vector<Tensor>& in) {
          return depthwise_conv2d_input_gradient(in[0], in[1], c.x, c.window);
        },
        {c.y, c.w});
  }
}

TEST_CASE("every mistake in a depthwise convolution is refused in words") {
  check_refusals(records::depthwise_conv2d_op);
  check_refusals(records::depthwise_conv2d_kernel_gradient_op);
  check_refusals(records::depthwise_conv2d_input_gradient_op);
}

TEST_CASE("DepthwiseConv2D is activation(depthwise_conv2d(x, kernel) + bias)") {
  Sequential net{DepthwiseConv2D(2, relu, {.depth_multiplier = 2})};
  net.build({1, 2, 2, 2});
  CHECK(names(net) == std::vector<std::string>{"depthwise_conv2d/kernel", "depthwise_conv2d/bias"});
  // Kernels, in the order of channels 0 and 1: the sums of all pixels; the first pixel, negated.
  net.set_weights({tensor(std::vector<float>{1, -1, 1, -1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0}, {2, 2, 2, 2}),
                   tensor<float>({0.5F, 3, 0, 40})});
  const Tensor x = tensor(std::vector<float>{1, 10, 2, 20, 3, 30, 4, 50}, {1, 2, 2, 2});
  const Tensor y = net(x);
  CHECK(y.shape() == Shape{1, 1, 1, 4});
  CHECK(y.to_vector<float>() == std::vector<float>{10.5F, 2, 110, 30});
}

TEST_CASE("DepthwiseConv2D: strides, dilations, padding and use_bias reach the convolution") {
  const DepthwiseConv2D layer(
      {3, 2}, {}, {.strides = 2, .padding = Padding::same, .depth_multiplier = 3, .use_bias = false});
  CHECK(layer(zeros({2, 7, 8, 3})).shape() == Shape{2, 4, 4, 9});
  CHECK(names(layer) == std::vector<std::string>{"kernel"});
  CHECK(layer.parameter("kernel").shape() == Shape{3, 2, 3, 3});
  CHECK(DepthwiseConv2D(3, {}, {.dilations = {2, 1}})(zeros({2, 7, 8, 3})).shape() == Shape{2, 3, 6, 3});
}

TEST_CASE("DepthwiseConv2D: the fans of initial values are the kernel's area times its last two axes") {
  const DepthwiseConv2D layer(3, {}, {.depth_multiplier = 4});
  layer(zeros({1, 9, 9, 500}));
  const double limit = std::sqrt(6.0 / (9 * 500 + 9 * 4));
  double greatest = 0;
  for (const float x : layer.parameter("kernel").value().to_vector<float>())
    greatest = std::max(greatest, std::abs(double{x}));
  CHECK(greatest <= limit);
  CHECK(greatest > 0.99 * limit);
}

TEST_CASE("DepthwiseConv2D: mistakes are refused with the layer's name") {
  CHECK(mentions(error_of([] { DepthwiseConv2D(0); }), "depthwise_conv2d: kernel_size is 0"));
  CHECK(mentions(error_of([] { DepthwiseConv2D(3, {}, {.depth_multiplier = 0}); }),
                 "depthwise_conv2d: depth_multiplier is 0, but must be at least 1"));
  const Sequential net{DepthwiseConv2D(3)};
  CHECK(mentions(error_of([&] {
                   net(zeros({4, 8, 8}));
                 }),
                 "it takes images [batch, rows, columns, channels]"));
  CHECK(mentions(error_of([&] {
                   net(zeros({4, 2, 8, 3}));
                 }),
                 "a kernel that spans 3 x 3 pixels does not fit into 2 x 8"));
  net(zeros({4, 8, 8, 3}));
  CHECK(mentions(error_of([&] { net(zeros({4, 8, 8, 5})); }), "its kernel f32[3, 3, 3, 1] takes 3"));
}

TEST_CASE("a network with depthwise layers learns") {
  Sequential net{Conv2D(4, 3, relu), DepthwiseConv2D(3, relu, {.padding = Padding::same}), Conv2D(4, 1, relu),
                 Flatten(), Dense(2)};
  net.initialize(3);
  const Tensor x = random_tensor({8, 6, 6, 1}, 1), labels = tensor<std::int64_t>({0, 1, 0, 1, 1, 0, 1, 0});
  const Tensor images = cast(x, DType::f32);
  Adam adam{{.learning_rate = 0.02}};
  const double before = cross_entropy(softmax(net(images)), labels).item();
  for (int i = 0; i < 60; ++i) adam.step(cross_entropy(softmax(net(images)), labels));
  CHECK(cross_entropy(softmax(net(images)), labels).item() < 0.2 * before);
}
