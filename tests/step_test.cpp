// The rules of `step` (run_step): one test per rule.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "../core/buffer.h"
#include "../graph/grad.h"
#include "../graph/run.h"
#include "../ops/ops.h"
#include "errors.h"

using namespace opgrad;
using test::contains;
using test::message;

namespace {

// One layer: logits = x w + b, loss = mean square distance to t; plain gradient descent written out.
struct Line {
  Parameter w{"w", tensor<float>({{1.f, -2.f}, {0.5f, 3.f}, {2.f, 1.f}})};
  Parameter b{"b", tensor({0.25f, -0.5f})};
  Tensor x = tensor<float>({{1.f, 2.f, 3.f}, {-1.f, 0.f, 2.f}});
  Tensor t = tensor<float>({{1.f, 0.f}, {0.f, 1.f}});

  Tensor logits() const { return matmul(x, w) + b; }
  Tensor loss(const Tensor& y) const { return mean(square(y - t)); }
  static void descend(const Tensor& loss, double rate = 0.1) {
    Gradients g = gradients(loss);
    std::vector<Update> updates;
    for (std::size_t i = 0; i < g.parameters.size(); ++i)
      updates.push_back({g.parameters[i], g.parameters[i].value() -
                                              slot_number(g.gradients[i].shape(), rate) * g.gradients[i]});
    g = {};
    run_step(loss, updates);
  }
};

std::vector<float> numbers(const Tensor& t) { return t.to_vector<float>(); }

long resident_pages() {
  std::FILE* f = std::fopen("/proc/self/statm", "r");
  long size = 0, resident = 0;
  const int read = std::fscanf(f, "%ld %ld", &size, &resident);
  std::fclose(f);
  return read == 2 ? resident : 0;
}

}  // namespace

TEST_CASE("step: forward, backward and update are one plan, replayed from the cache") {
  Line net;
  clear_plan_cache();
  Line::descend(net.loss(net.logits()));
  reset_plan_stats();
  for (int i = 0; i < 5; ++i) Line::descend(net.loss(net.logits()));
  CHECK(plan_stats().plans == 0);
  CHECK(plan_stats().hits == 5);
}

TEST_CASE("step: an epoch whose last batch is short makes two plans") {
  Line net;
  const Tensor short_x = tensor<float>({{1.f, 2.f, 3.f}}), short_t = tensor<float>({{1.f, 0.f}});
  clear_plan_cache();
  reset_plan_stats();
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (int i = 0; i < 4; ++i) Line::descend(net.loss(net.logits()), 0.1 / (i + 1));
    Line::descend(mean(square(matmul(short_x, net.w) + net.b - short_t)));
  }
  CHECK(plan_stats().plans == 2);
  CHECK(contains(plan_stats().last_miss, "was f32[2, 3], now f32[1, 3]"));
}

TEST_CASE(
    "step: what the user holds is computed with the weights it was built on, also when read afterwards") {
  Line net;
  const std::vector<float> before = numbers(net.logits());
  const Tensor logits = net.logits();
  Line::descend(net.loss(logits));
  CHECK(logits.evaluated());
  CHECK(numbers(logits) == before);
  CHECK(numbers(net.logits()) != before);
}

TEST_CASE("step: a pending node outside the step keeps the old buffer, and the missed donation is counted") {
  Line net;
  Line::descend(net.loss(net.logits()));
  const std::vector<float> before = numbers(net.w.value());
  const Tensor twice = net.w * 2.0;
  reset_plan_stats();
  Line::descend(net.loss(net.logits()));
  CHECK(plan_stats().missed_donations == 1);
  std::vector<float> expected = before;
  for (float& v : expected) v *= 2;
  CHECK(numbers(twice) == expected);
}

TEST_CASE("step: an unshared parameter is updated in the memory it had") {
  Line net;
  reset_plan_stats();
  const void* memory = net.w.value().node()->value->buffer->data;
  for (int i = 0; i < 3; ++i) {
    Line::descend(net.loss(net.logits()));
    CHECK(net.w.value().node()->value->buffer->data == memory);
  }
  CHECK(plan_stats().missed_donations == 0);
}

TEST_CASE("step: a value read as Values survives the update of its parameter") {
  Line net;
  const Values<float> old = net.w.value().values<float>();
  const float first = old[0];
  Line::descend(net.loss(net.logits()));
  CHECK(old[0] == first);
  CHECK(numbers(net.w.value())[0] != first);
}

TEST_CASE("step: state replaced by a pending node is an output of the next plan, and nothing grows") {
  Line net;
  Parameter mean_state("mean", zeros({2}), false);
  std::vector<float> expected{0, 0};
  std::size_t live = 0;
  for (int i = 0; i < 20; ++i) {
    const Tensor y = net.logits();
    const std::vector<float> batch = numbers(mean(net.logits(), {0}));
    mean_state.assign(mean_state * 0.5 + mean(y, {0}) * 0.5);
    CHECK_FALSE(mean_state.value().evaluated());
    Line::descend(net.loss(y));
    CHECK(mean_state.value().evaluated());
    for (std::size_t k = 0; k < 2; ++k) expected[k] = expected[k] * 0.5f + batch[k] * 0.5f;
    if (i == 3) live = memory_stats().live_buffers;
  }
  CHECK(memory_stats().live_buffers <= live + 2);
  const std::vector<float> got = numbers(mean_state.value());
  for (std::size_t k = 0; k < 2; ++k) CHECK(got[k] == doctest::Approx(expected[k]).epsilon(1e-5));
}

TEST_CASE("step: consumes the graph behind the loss; asking its gradient again is an error that says so") {
  Line net;
  const Tensor loss = net.loss(net.logits());
  Line::descend(loss);
  CHECK(std::isfinite(loss.item()));
  CHECK(contains(message([&] { gradients(loss); }), "was consumed by a step"));
  CHECK(contains(message([&] { grad(loss, net.w.value()); }), "was consumed by a step"));
  CHECK(contains(message([&] { gradients(loss); }), "step_test.cpp:"));
}

TEST_CASE("step: the gradient with respect to a parameter since replaced is an error that says so") {
  Line net;
  const Tensor old_leaf = net.w.value();
  const Tensor other = sum(net.w * 3.0);
  Line::descend(net.loss(net.logits()));
  CHECK(contains(message([&] { grad(sum(net.w * 2.0), old_leaf); }), "has replaced since"));
  CHECK(contains(message([&] { grad(other, net.w.value()); }), "has replaced since"));
  CHECK(contains(message([&] { gradients(other); }), "used up since"));
}

TEST_CASE("step: a loss that is not finite changes nothing and names the first guilty operation") {
  Line net;
  const std::vector<float> w = numbers(net.w.value()), b = numbers(net.b.value());
  const std::string text = message([&] { Line::descend(net.loss(log(net.logits() - 1e6))); });
  CHECK(contains(text, "the loss is not finite"));
  CHECK(contains(text, "NaN is element 0 of log"));
  CHECK(contains(text, "step_test.cpp:"));
  CHECK(numbers(net.w.value()) == w);
  CHECK(numbers(net.b.value()) == b);
  Line::descend(net.loss(net.logits()));
  CHECK(numbers(net.w.value()) != w);
}

TEST_CASE(
    "step: when any allocation fails the parameters are all old or all new, and the next step is right") {
  clear_plan_cache();
  Line reference;
  Line::descend(reference.loss(reference.logits()));
  const std::vector<float> new_w = numbers(reference.w.value()), new_b = numbers(reference.b.value());
  int failures = 0;
  for (std::uint64_t n = 1;; ++n) {
    Line net;
    const std::vector<float> old_w = numbers(net.w.value()), old_b = numbers(net.b.value());
    const Tensor loss = net.loss(net.logits());
    bool failed = false;
    fail_allocation(n);
    try {
      Line::descend(loss);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    fail_allocation(0);
    if (!failed) break;
    ++failures;
    CHECK(numbers(net.w.value()) == old_w);
    CHECK(numbers(net.b.value()) == old_b);
    Line::descend(loss);
    CHECK(numbers(net.w.value()) == new_w);
    CHECK(numbers(net.b.value()) == new_b);
  }
  CHECK(failures >= 2);
}

TEST_CASE("step: a kernel that throws leaves every parameter as it was") {
  Line net;
  const std::vector<float> w = numbers(net.w.value());
  const Tensor labels = tensor({0, 7});
  const auto bad = [&] { Line::descend(cross_entropy_from_logits(net.logits(), labels)); };
  CHECK(contains(message(bad), "7"));
  CHECK(numbers(net.w.value()) == w);
  Line::descend(net.loss(net.logits()));
  CHECK(numbers(net.w.value()) != w);
}

TEST_CASE("step: a loss that depends on no parameter is refused") {
  Line net;
  CHECK(contains(message([&] { Line::descend(mean(net.x)); }), "depends on no trainable parameter"));
  net.w.set_trainable(false);
  net.b.set_trainable(false);
  CHECK(contains(message([&] { Line::descend(net.loss(net.logits())); }), "frozen"));
}

TEST_CASE("step: a loss that is not one float is refused") {
  CHECK(contains(message([] { run_step(zeros({2}), {}); }), "must be one float, and is f32[2]"));
  CHECK(contains(message([] { run_step(full({}, 1, DType::i64), {}); }), "and is i64[]"));
  CHECK(contains(message([] { run_step(Tensor(), {}); }), "an empty Tensor"));
}

TEST_CASE("step: a NaN that lies in the data is a user's error that names the leaf") {
  Line net;
  const Tensor x = tensor<float>({{1.f, NAN, 3.f}});
  CHECK(contains(message([&] { Line::descend(mean(square(matmul(x, net.w)))); }),
                 "NaN is element 1 of leaf f32[1, 3]"));
}

TEST_CASE("step: probabilities that the user holds are computed in the step's plan") {
  Line net;
  const Tensor labels = tensor({0, 1});
  const Tensor p = softmax(net.logits());
  Line::descend(cross_entropy(p, labels));
  CHECK(p.evaluated());
}

TEST_CASE("step: what one diagnosis met does not leak into the next") {
  Line net;
  // An infinity first and then a NaN: the NaN is named.
  const auto both = [&] { Line::descend(mean(log(net.w * 0.0) * 0.0)); };
  CHECK(contains(message(both), "The first NaN"));
  const std::string text = message([&] { Line::descend(mean(exp(net.w * 1e6))); });
  CHECK(contains(text, "The first infinity"));
  CHECK(contains(text, "of exp f32[3, 2]"));
}

TEST_CASE("step: a frozen parameter keeps its value") {
  Line net;
  net.b.set_trainable(false);
  const std::vector<float> b = numbers(net.b.value()), w = numbers(net.w.value());
  Line::descend(net.loss(net.logits()));
  CHECK(numbers(net.b.value()) == b);
  CHECK(numbers(net.w.value()) != w);
}

TEST_CASE("step: live buffers return to what they were, abandoned graphs included") {
  const std::size_t before = memory_stats().live_buffers;
  {
    Line net;
    for (int i = 0; i < 10; ++i) {
      const Tensor abandoned = grad(net.loss(net.logits()), net.w.value());
      const Tensor read = net.logits();
      static_cast<void>(read.values<float>());
      Line::descend(net.loss(net.logits()));
    }
  }
  CHECK(memory_stats().live_buffers == before);
}

// AddressSanitizer keeps freed memory for a while.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool freed_memory_is_kept = true;
#else
constexpr bool freed_memory_is_kept = false;
#endif

TEST_CASE("step: resident memory after 10,000 steps is within 1 % of that after 1,000" *
          doctest::skip(freed_memory_is_kept)) {
  Line net;
  long after_1000 = 0;
  for (int i = 1; i <= 10000; ++i) {
    const Tensor abandoned = grad(net.loss(net.logits()), net.w.value());
    Line::descend(net.loss(net.logits()), 1e-4);
    if (i == 1000) after_1000 = resident_pages();
  }
  CHECK(static_cast<double>(resident_pages()) <= 1.01 * static_cast<double>(after_1000));
}
