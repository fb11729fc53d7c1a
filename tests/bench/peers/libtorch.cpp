// The standard works in C++ with LibTorch. Reads lines "WORK SECONDS", answers each with one line of JSON.
#include <sched.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace nn = torch::nn;
using Step = std::function<double()>;

nn::Sequential network(bool seed) {
  if (!seed)
    return nn::Sequential(nn::Linear(784, 512), nn::ReLU(), nn::Linear(512, 512), nn::ReLU(),
                          nn::Linear(512, 10));
  return nn::Sequential(nn::Conv2d(1, 32, 3), nn::ReLU(), nn::MaxPool2d(2), nn::Conv2d(32, 64, 3), nn::ReLU(),
                        nn::MaxPool2d(2), nn::Flatten(), nn::Linear(1600, 1024), nn::ReLU(),
                        nn::Linear(1024, 10));
}

Step training(bool seed, std::int64_t batch) {
  nn::Sequential net = network(seed);
  const torch::Tensor x = seed ? torch::rand({batch, 1, 28, 28}) : torch::rand({batch, 784});
  const torch::Tensor labels = torch::randint(10, {batch});
  const auto adam =
      std::make_shared<torch::optim::Adam>(net->parameters(), torch::optim::AdamOptions(1e-3).eps(1e-8));
  return [=]() mutable {
    adam->zero_grad();
    torch::Tensor loss = nn::functional::cross_entropy(net->forward(x), labels);
    loss.backward();
    adam->step();
    return loss.item<double>();
  };
}

Step inference() {
  nn::Sequential net = network(true);
  const torch::Tensor x = torch::rand({1, 1, 28, 28});
  return [=]() mutable {
    const torch::InferenceMode on;
    return torch::softmax(net->forward(x), 1)[0][0].item<double>();
  };
}

Step chain(int count, bool with_tanh) {
  return [=] {
    const torch::Tensor x =
        torch::tensor({-0.8F, -0.6F, -0.4F, -0.2F, 0.2F, 0.4F, 0.6F, 0.8F}).requires_grad_();
    torch::Tensor y = x;
    for (int i = 0; i < count; ++i) y = with_tanh ? torch::tanh(y) * 1.01 : y * 1.000001;
    y.sum().backward();
    return x.grad()[0].item<double>();
  };
}

Step start(const std::string& work) {
  if (work == "infer1") return inference();
  if (work == "chain2000") return chain(1000, true);
  if (work == "deep1m") return chain(1'000'000, false);
  for (const bool seed : {true, false}) {
    const std::string name = seed ? "seed_b" : "mlp_b";
    if (work.starts_with(name)) return training(seed, std::stoll(work.substr(name.size())));
  }
  return {};
}

double seconds_of(const Step& step) {
  const auto begin = std::chrono::steady_clock::now();
  step();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) torch::set_num_threads(CPU_COUNT(&allowed));
  std::cout << "{\"version\": \"" << TORCH_VERSION << "\"}" << std::endl;
  std::map<std::string, Step> steps;
  for (std::string line, work; std::getline(std::cin, line);) {
    double seconds = 0;
    std::istringstream(line) >> work >> seconds;
    if (!steps.contains(work)) {
      steps[work] = start(work);
      if (steps[work])
        for (int i = 0; i < (work == "deep1m" ? 1 : 3); ++i) steps[work]();
    }
    if (!steps[work]) {
      std::cout << "{}" << std::endl;
      continue;
    }
    std::vector<double> times;
    for (double sum = 0; times.size() < 2 || sum < seconds; sum += times.back())
      times.push_back(seconds_of(steps[work]));
    std::sort(times.begin(), times.end());
    std::cout << "{\"min_ms\": " << 1e3 * times[0] << ", \"median_ms\": " << 1e3 * times[times.size() / 2]
              << ", \"n\": " << times.size() << "}" << std::endl;
  }
}
