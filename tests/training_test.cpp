// Data, batches and the training loop.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "../core/parallel.h"
#include "../core/random.h"
#include "../models/lecture.h"
#include "../models/opgrad.h"
#include "errors.h"
#include "scratch.h"

using namespace opgrad;
using test::contains;
using test::message;

namespace {

// n points of the plane around three corners; the label is the corner.
Dataset corners(std::int64_t n) {
  std::vector<float> x(static_cast<std::size_t>(2 * n));
  fill_normal(Key{11, 0}, 0, 2 * n, x.data());
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < n; ++i) {
    labels.push_back(i % 3);
    const auto k = static_cast<std::size_t>(2 * i);
    x[k] = 0.3F * x[k] + (i % 3 == 1 ? 2.0F : 0.0F);
    x[k + 1] = 0.3F * x[k + 1] + (i % 3 == 2 ? 2.0F : 0.0F);
  }
  return {tensor(x, Shape{n, 2}), tensor(labels, Shape{n})};
}

Sequential small_net(std::uint64_t seed) {
  Sequential net{Dense(16, relu), Dropout(0.1), Dense(3, softmax)};
  net.initialize(seed);
  net.build({1, 2});
  return net;
}

// Small images whose bytes follow from the key.
Dataset digits(std::int64_t n) {
  std::vector<float> grey(static_cast<std::size_t>(n * 28 * 28));
  fill_uniform(Key{5, 0}, 0, n * 28 * 28, grey.data());
  std::vector<std::uint8_t> bytes;
  for (const float g : grey) bytes.push_back(static_cast<std::uint8_t>(g * 256));
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < n; ++i) labels.push_back(i % 10);
  return {tensor(bytes, Shape{n, 28, 28, 1}), tensor(labels, Shape{n})};
}

struct Threads {
  int before = threads();
  explicit Threads(int n) { set_threads(n); }
  ~Threads() { set_threads(before); }
};

}  // namespace

TEST_CASE("a permutation has every number once, differs by seed and epoch, and is fixed for all machines") {
  const auto p = permutation(1000, shuffle(1, 1));
  std::vector<std::int64_t> sorted = p, all(1000);
  std::ranges::sort(sorted);
  std::iota(all.begin(), all.end(), 0);
  CHECK(sorted == all);
  CHECK(p != permutation(1000, shuffle(2, 1)));
  CHECK(p != permutation(1000, shuffle(1, 2)));
  CHECK(p == permutation(1000, shuffle(1, 1)));
  CHECK(permutation(4, in_order()) == std::vector<std::int64_t>{0, 1, 2, 3});
  CHECK(permutation(0, shuffle(1, 1)).empty());
  CHECK(permutation(10, shuffle(1, 1)) == std::vector<std::int64_t>{4, 9, 7, 6, 2, 5, 3, 1, 0, 8});
}

TEST_CASE("permutations of four are equally likely") {
  std::vector<int> seen(24);
  const int draws = 24'000;
  for (int i = 0; i < draws; ++i) {
    const auto p = permutation(4, shuffle(3, static_cast<std::uint64_t>(i)));
    std::int64_t rank = 0;
    for (std::size_t a = 0; a < 4; ++a)
      rank = rank * static_cast<std::int64_t>(4 - a) +
             std::count_if(p.begin() + static_cast<std::ptrdiff_t>(a), p.end(),
                           [&](std::int64_t v) { return v < p[a]; });
    ++seen[static_cast<std::size_t>(rank)];
  }
  // Chi-squared with 23 degrees of freedom: 53.2 is passed with probability 0.0003.
  double chi = 0;
  for (const int s : seen) chi += (s - 1000.0) * (s - 1000.0) / 1000.0;
  CHECK(chi < 53.2);
}

TEST_CASE("batches: sizes, the short last one, the order, and images with their labels") {
  const Dataset d{tensor<float>({{0, 0}, {1, 10}, {2, 20}, {3, 30}, {4, 40}}),
                  tensor<std::int64_t>({0, 1, 2, 3, 4})};
  std::vector<std::int64_t> sizes;
  std::set<std::int64_t> seen;
  for (auto [images, labels] : batches(d, 2, shuffle(1, 1))) {
    sizes.push_back(images.dim(0));
    for (std::int64_t i = 0; i < images.dim(0); ++i) {
      const std::int64_t label = labels.values<std::int64_t>()[i];
      CHECK(images.values<float>()[2 * i + 1] == 10 * static_cast<float>(label));
      seen.insert(label);
    }
  }
  CHECK(sizes == std::vector<std::int64_t>{2, 2, 1});
  CHECK(seen.size() == 5);
  CHECK(batches(d, 2, in_order(), true).count() == 2);
  CHECK(batches(d, 2).batch(1).labels.to_vector<std::int64_t>() == std::vector<std::int64_t>{2, 3});
  CHECK(batches(d, 9).count() == 1);
}

TEST_CASE("batches: bytes come out as f32 divided by 255, without a plan") {
  const Dataset d{tensor(std::vector<std::uint8_t>{0, 255, 51, 102}, Shape{2, 2}),
                  tensor<std::int64_t>({0, 1})};
  reset_plan_stats();
  const Batch b = batches(d, 2).batch(0);
  CHECK(b.images.dtype() == DType::f32);
  CHECK(b.images.to_vector<float>() == std::vector<float>{0, 1, 51.0F / 255, 102.0F / 255});
  CHECK(plan_stats().plans + plan_stats().hits == 0);
}

TEST_CASE("batches: wrong sizes") {
  const Dataset d{zeros({4, 2}), tensor<std::int64_t>({0, 1, 2})};
  CHECK(contains(message([&] { batches(d, 2); }),
                 "images [4, 2] and labels [3] must have the same size of the first axis"));
  CHECK(contains(message([&] { batches(corners(3), 0); }), "the size of a batch is 0"));
}

TEST_CASE("first: the first n examples, all if there are fewer") {
  const Dataset d = corners(10);
  CHECK(d.first(4).size() == 4);
  CHECK(d.first(4).labels.to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2, 0});
  CHECK(d.first(99).size() == 10);
}

TEST_CASE("MNIST: 60,000 and 10,000 images with digits as labels") {
  const Mnist m = load_mnist();
  CHECK(m.train.images.shape() == Shape{60000, 28, 28, 1});
  CHECK(m.test.images.shape() == Shape{10000, 28, 28, 1});
  const auto labels = m.train.labels.to_vector<std::int64_t>();
  CHECK(std::vector<std::int64_t>(labels.begin(), labels.begin() + 5) ==
        std::vector<std::int64_t>{5, 0, 4, 1, 9});
  CHECK(std::ranges::count(m.test.labels.to_vector<std::int64_t>(), 7) == 1028);
}

TEST_CASE("MNIST: a missing file is named, and so is one that is not what it should be") {
  const Scratch scratch;
  CHECK(contains(message([&] { load_mnist(scratch.path("")); }), "train-images-idx3-ubyte.gz"));
  const std::vector<unsigned char> labels{0, 0, 8, 1, 0, 0, 0, 1, 12}, images{0, 0, 8, 1, 0, 0, 0, 1, 7};
  scratch.file("train-images-idx3-ubyte", std::as_bytes(std::span(images)));
  scratch.file("train-labels-idx1-ubyte", std::as_bytes(std::span(labels)));
  CHECK(contains(message([&] { load_mnist(scratch.path("")); }),
                 "train-images-idx3-ubyte holds u8[1], but must hold u8[n, 28, 28]"));
}

TEST_CASE("train: learns, reports every step, and leaves mode and weights as promised") {
  const Dataset d = corners(300);
  Sequential net = small_net(1);
  net.eval();
  Adam adam{{.learning_rate = 0.02}};
  std::vector<Progress> all;
  const Trained done = train(net, adam, d, {.epochs = 5, .batch_size = 64}, [&](const Progress& p) {
    all.push_back(p);
    return true;
  });
  CHECK(done.steps == 25);
  CHECK_FALSE(done.stopped);
  CHECK(all.size() == 25);
  CHECK(all.front().loss > 2 * all.back().loss);
  CHECK(all.back().accuracy > 0.95);
  CHECK(all.back().step == 5);
  CHECK(all.back().epoch == 5);
  CHECK(all.back().seconds_left == doctest::Approx(0));
  CHECK(accuracy(net, d) > 0.97);
  CHECK_FALSE(net.training());
}

TEST_CASE("train: the accuracy of a batch is that of the old weights") {
  const Dataset d = corners(30);
  Sequential net{Dense(3, softmax)};
  net.build({1, 2});
  const double before = accuracy(net, d);
  SGD sgd{{.learning_rate = 5.0}};
  double reported = -1;
  train(net, sgd, d, {.epochs = 1, .batch_size = 30}, [&](const Progress& p) {
    reported = p.accuracy;
    return true;
  });
  CHECK(reported == doctest::Approx(before));
}

TEST_CASE("train: an epoch whose last batch is short makes two plans, further ones none") {
  Sequential net = small_net(1);
  Adam adam{{.learning_rate = cosine(0.01, 10)}};
  clear_plan_cache();
  reset_plan_stats();
  train(net, adam, corners(100), {.epochs = 1, .batch_size = 30});
  CHECK(plan_stats().plans == 2);
  train(net, adam, corners(100), {.epochs = 1, .batch_size = 30});
  CHECK(plan_stats().plans == 2);
}

TEST_CASE("train: stops after the step at which the report says so, with the weights of that step") {
  const auto run = [&](std::int64_t stop) {
    set_training_step(0);
    Sequential net = small_net(1);
    Adam adam;
    std::int64_t steps = 0;
    const Trained done = train(net, adam, corners(100), {.epochs = 1, .batch_size = 10},
                               [&](const Progress&) { return ++steps < stop; });
    CHECK(done.stopped);
    CHECK(done.steps == stop);
    return net.digest();
  };
  CHECK(run(3) == run(3));
  CHECK(run(3) != run(4));
}

TEST_CASE("train: a NaN names the step") {
  Dataset d = corners(30);
  std::vector<float> x = d.images.to_vector<float>();
  x[50] = std::nanf("");
  d.images = tensor(x, Shape{30, 2});
  Sequential net = small_net(1);
  SGD sgd;
  const std::string m = message([&] { train(net, sgd, d, {.epochs = 1, .batch_size = 30}); });
  CHECK(contains(m, "step 1: the loss is not finite"));
  CHECK(contains(m, "The first NaN is element"));
}

TEST_CASE(
    "train: equal seeds give equal bits for 1 to 4 threads and a second run; another seed gives others") {
  const auto run = [](std::uint64_t seed, int n) {
    const Threads scope(n);
    set_training_step(0);
    Sequential net{Conv2D(8, 3, relu), MaxPool2D(2),    Dropout(0.2),
                   Flatten(),          Dense(32, relu), Dense(10, softmax)};
    net.initialize(seed);
    Adam adam{{.learning_rate = 1e-3}};
    train(net, adam, digits(70), {.epochs = 1, .batch_size = 32, .seed = seed});
    return net.digest();
  };
  const std::string one = run(1, 1);
  for (const int n : {1, 2, 3, 4}) CHECK(run(1, n) == one);
  CHECK(run(2, 2) != one);
}

TEST_CASE("accuracy: counts over all batches, the short one included") {
  Sequential net{Dense(2)};
  net.build({1, 2});
  net.set_weights({tensor<float>({{1, 0}, {0, 1}}), tensor<float>({0, 0})});
  const Dataset d{tensor<float>({{1, 0}, {0, 1}, {1, 0}}), tensor<std::int64_t>({0, 1, 1})};
  CHECK(accuracy(net, d, 2) == doctest::Approx(2.0 / 3));
  CHECK(contains(message([&] {
                   accuracy(net, Dataset{zeros({0, 2}), zeros({0}, DType::i64)});
                 }),
                 "the data set is empty"));
  const Sequential images{Flatten()};
  CHECK(contains(message([&] { accuracy(Sequential{MaxPool2D(1)}, digits(2)); }),
                 "a classifier must give floats [batch, classes]"));
}
