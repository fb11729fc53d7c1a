// The standard works and their table.
#include "works.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "lecture.h"
#include "opgrad.h"
#include "train.h"

namespace opgrad {
namespace {

constexpr std::int64_t classes = 10;

Tensor random_inputs(const Shape& shape) {
  const Tensor x = random_uniform(random_key({.stream = fold_in(1, "inputs")}), shape);
  eval(x);
  return x;
}
Tensor random_labels(std::int64_t n) {
  const Tensor x = random_uniform(random_key({.stream = fold_in(1, "labels")}), {n}, 0, double{classes});
  const Tensor labels = cast(x, DType::i64);
  eval(labels);
  return labels;
}

Step training(Sequential net, const Shape& inputs) {
  const Tensor x = random_inputs(inputs), labels = random_labels(inputs[0]);
  const auto adam = std::make_shared<Adam>(AdamOptions{.learning_rate = 1e-3, .epsilon = 1e-8});
  net.initialize(1);
  return [=] { return adam->step(cross_entropy(net(x), labels)).to_vector<float>(); };
}

Step lecture(std::int64_t batch) { return training(lecture_network(), {batch, 28, 28, 1}); }

Step mlp(std::int64_t batch) {
  return training(Sequential{Dense(512, relu), Dense(512, relu), Dense(classes, softmax)}, {batch, 784});
}

// As MNIST lies in memory: a byte a pixel.
Step epoch(std::int64_t images) {
  const Dataset data{.images = cast(random_inputs({images, 28, 28, 1}) * 255.0, DType::u8),
                     .labels = random_labels(images)};
  eval({data.images, data.labels});
  const auto adam = std::make_shared<Adam>(AdamOptions{.learning_rate = 1e-3, .epsilon = 1e-8});
  const auto seed = std::make_shared<std::uint64_t>(0);
  const auto net = std::make_shared<Sequential>(lecture_network());
  net->initialize(1);
  return [=] {
    double loss = 0;
    train(*net, *adam, data, {.epochs = 1, .batch_size = 128, .seed = ++*seed}, [&](const Progress& p) {
      loss = p.loss;
      return true;
    });
    return std::vector{static_cast<float>(loss)};
  };
}

Step inference(std::int64_t batch) {
  Sequential net = lecture_network();
  net.initialize(1);
  net.eval();
  const Tensor images = random_inputs({batch, 28, 28, 1});
  return [=] { return net(images).to_vector<float>(); };
}

// Operations on eight numbers: what is measured is what an operation costs, not its arithmetic.
const std::vector<float> eight{-0.8F, -0.6F, -0.4F, -0.2F, 0.2F, 0.4F, 0.6F, 0.8F};

Step tanh_chain(std::int64_t operations) {
  const Tensor x = variable(tensor(eight, {8}));
  return [=] {
    Tensor y = x;
    for (std::int64_t i = 0; i < operations / 2; ++i) y = tanh(y) * 1.01;
    return grad(sum(y), x).to_vector<float>();
  };
}

Step multiply_chain(std::int64_t operations) {
  const Tensor x = variable(tensor(eight, {8}));
  return [=] {
    Tensor y = x;
    for (std::int64_t i = 0; i < operations; ++i) y = y * 1.000001;
    return grad(sum(y), x).to_vector<float>();
  };
}

double no_flops(std::int64_t) { return 0; }

// Multiply-adds of each layer for one example.
constexpr double lecture_layers[] = {26. * 26 * 32 * 9, 11. * 11 * 64 * 9 * 32, 1600. * 1024,
                                     1024. * classes};
constexpr double mlp_layers[] = {784. * 512, 512. * 512, 512. * classes};

template <const auto& layers>
double forward_flops(std::int64_t batch) {
  return 2 * static_cast<double>(batch) * std::accumulate(std::begin(layers), std::end(layers), 0.0);
}
template <const auto& layers>
double training_flops(std::int64_t batch) {
  return 3 * forward_flops<layers>(batch) - 2 * static_cast<double>(batch) * layers[0];
}

constexpr auto lecture_flops = training_flops<lecture_layers>;

constexpr Work table[] = {
    {"seed_b128", "a training step of the lecture's network, 128 images", 128, 50, lecture_flops, lecture},
    {"seed_b32", "the same with 32 images", 32, 50, lecture_flops, lecture},
    {"seed_b1", "the same with one image", 1, 50, lecture_flops, lecture},
    {"seed_b8", "the same with 8 images", 8, 50, lecture_flops, lecture},
    {"seed_b512", "the same with 512 images", 512, 50, lecture_flops, lecture},
    {"epoch", "60,000 images, a byte a pixel, shuffled and trained on in batches of 128", 60'000, 3,
     lecture_flops, epoch},
    {"mlp_b128", "a training step of dense 512, 512, 10 with 128 x 784 inputs", 128, 50,
     training_flops<mlp_layers>, mlp},
    {"infer1", "the lecture's network, forward only, one image", 1, 50, forward_flops<lecture_layers>,
     inference},
    {"chain2000", "1,000 times y = tanh(y) * 1.01 on 8 numbers, sum, gradient", 2000, 50, no_flops,
     tanh_chain},
    {"deep1m", "1,000,000 multiplications in a chain on 8 numbers, sum, gradient, destroyed", 1'000'000, 5,
     no_flops, multiply_chain},
};

std::vector<std::string> pairs_of_letters(std::string_view name) {
  std::vector<std::string> pairs;
  for (std::size_t i = 0; i + 1 < name.size(); ++i) pairs.emplace_back(name.substr(i, 2));
  std::ranges::sort(pairs);
  return pairs;
}

}  // namespace

std::span<const Work> works() { return table; }

const Work* find_work(std::string_view name) {
  const auto work = std::ranges::find(table, name, &Work::name);
  return work == std::end(table) ? nullptr : work;
}

std::vector<std::string> near_works(std::string_view name) {
  const std::vector<std::string> asked = pairs_of_letters(name);
  std::vector<std::pair<double, std::string>> near;
  for (const Work& work : table) {
    const std::vector<std::string> known = pairs_of_letters(work.name);
    std::vector<std::string> common;
    std::ranges::set_intersection(asked, known, std::back_inserter(common));
    if (!common.empty() && 2 * common.size() >= std::min(asked.size(), known.size()))
      near.emplace_back(
          -static_cast<double>(common.size()) / static_cast<double>(asked.size() + known.size()), work.name);
  }
  std::ranges::stable_sort(near, {}, &std::pair<double, std::string>::first);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < near.size() && i < 3; ++i) names.push_back(near[i].second);
  return names;
}

}  // namespace opgrad
