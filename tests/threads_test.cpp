// The standard works have the same bits for any number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../core/parallel.h"
#include "../models/lecture.h"
#include "../models/opgrad.h"
#include "../models/works.h"

using namespace opgrad;

namespace {

constexpr int counts[] = {2, 3, 4, 8};

// What f gives on so many threads.
auto on_threads(int n, auto f) {
  struct Restore {
    int before = threads();
    ~Restore() { set_threads(before); }
  } restore;
  set_threads(n);
  return f();
}

// Large enough that there is work for several threads, and graphs that run in pieces; small enough for a
// test.
std::int64_t small_size(const Work& w) {
  const std::int64_t most = w.size > 100'000 ? 40'000 : w.size > 1'000 ? 2'000 : 24;
  return std::min(w.size, most);
}

// The losses of three steps, and the weights after them.
std::pair<std::vector<float>, std::string> trained(Sequential net, const Shape& inputs) {
  set_training_step(0);
  const Tensor x = random_uniform(random_key({.stream = fold_in(1, "inputs")}), inputs);
  std::vector<std::int64_t> classes;
  for (std::int64_t i = 0; i < inputs[0]; ++i) classes.push_back(i * 7 % 10);
  const Tensor labels = tensor(classes, {inputs[0]});
  net.initialize(3);
  Adam adam;
  std::vector<float> losses;
  for (int step = 0; step < 3; ++step)
    losses.push_back(adam.step(cross_entropy(net(x), labels)).to_vector<float>()[0]);
  return {losses, net.digest()};
}

void check_training(auto network, const Shape& inputs) {
  const auto one = on_threads(1, [&] { return trained(network(), inputs); });
  CHECK(one.first[0] != one.first[2]);
  for (const int n : counts)
    CHECK_MESSAGE(on_threads(n, [&] { return trained(network(), inputs); }) == one, n << " threads");
}

}  // namespace

TEST_CASE("threads: every standard work gives the same bits in three steps on 1, 2, 3, 4 and 8 threads") {
  for (const Work& w : works()) {
    const auto three_steps = [&] {
      const Step step = w.start(small_size(w));
      std::vector<std::vector<float>> results;
      for (int i = 0; i < 3; ++i) results.push_back(step());
      return results;
    };
    const auto one = on_threads(1, three_steps);
    for (const int n : counts)
      CHECK_MESSAGE(on_threads(n, three_steps) == one, w.name << ", " << n << " threads");
  }
}

TEST_CASE("threads: the lecture's network has the same weights after three steps on any number of threads") {
  for (const std::int64_t batch : {1, 5, 32})
    check_training([] { return lecture_network(); }, {batch, 28, 28, 1});
}

TEST_CASE("threads: a dense network has the same weights after three steps on any number of threads") {
  check_training(
      [] {
        return Sequential{Dense(300, relu), Dense(200, relu), Dense(10, softmax)};
      },
      {33, 784});
}

TEST_CASE("threads: statistics and dropout have the same bits on any number of threads") {
  check_training(
      [] {
        return Sequential{Conv2D(8, 3, relu), BatchNormalization(), MaxPool2D(2),
                          Flatten(),          Dropout(0.25),        Dense(10, softmax)};
      },
      {16, 28, 28, 1});
}
