// What a training step leaves behind when memory runs out or a kernel throws: every request of a step fails
// in turn.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../../models/opgrad.h"
#include "../../ops/define.h"
#include "../../ops/records.h"
#include "../errors.h"
#include "replaced_new.h"

using namespace opgrad;

// ------------------------------------------------------------------------------------------------ the
// networks

namespace {

// x, computed in 16 chunks; once told to, the first chunk that a worker takes throws. The caller's own chunks
// wait for that, at most ten seconds.
std::atomic<bool> worker_throws{false}, has_thrown{false};
std::thread::id caller;

void copy_or_throw(const KernelArgs& args) {
  const std::int64_t n = args.out.numel();
  parallel_for(16, [&](std::int64_t chunk) {
    if (worker_throws && std::this_thread::get_id() != caller) {
      has_thrown = true;
      throw UserError("failing.copy: a worker's chunk throws");
    }
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (worker_throws && !has_thrown && std::chrono::steady_clock::now() < give_up)
      std::this_thread::yield();
    for (std::int64_t i = chunk * n / 16; i < (chunk + 1) * n / 16; ++i)
      args.out.as<float>()[i] = args.in[0].as<float>()[i];
  });
}

constinit const Op failing_copy_op{
    .name = "failing.copy",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "x; throws when told to",
    .shape = same_float,
    .forward = copy_or_throw,
    .backward = [](const Tensor&, const Tensor& dy, Wanted) -> Grads { return {dy}; }};

Tensor failing_copy(const Tensor& x) { return unary(failing_copy_op, x); }

using Bits = std::vector<std::vector<float>>;

// What a step may change: weights, what the optimizer remembers of them, and the counts of steps.
struct State {
  Bits weights, slots;
  std::int64_t steps;
  std::uint64_t training_step;
  bool operator==(const State&) const = default;
};

class Training {
 public:
  explicit Training(Sequential net) : net_(std::move(net)) {
    std::vector<float> pixels(8 * 12 * 12);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>(i * 37 % 101) / 101;
    x_ = tensor(pixels, {8, 12, 12, 1});
    labels_ = tensor({0, 1, 2, 3, 3, 2, 1, 0});
    net_.initialize(7);
    net_.build({8, 12, 12, 1});
    for (const NamedParameter& p : net_.parameters()) {
      parameters_.push_back(p.parameter);
      begin_.push_back(p.parameter.value().to_vector<float>());
    }
    restart();
  }

  // As after construction, with every buffer unshared.
  void restart() {
    std::vector<Tensor> weights;
    for (std::size_t i = 0; i < begin_.size(); ++i)
      weights.push_back(tensor(begin_[i], parameters_[i].shape()));
    net_.set_weights(weights);
    adam_.emplace(AdamOptions{.learning_rate = 0.01});
    set_training_step(0);
    logits_ = loss_ = {};
  }

  void forward() {
    logits_ = loss_ = {};
    logits_ = net_(x_);
    loss_ = cross_entropy_from_logits(logits_, labels_);
  }
  void step() { adam_->step(loss_); }
  void whole_step() {
    forward();
    step();
  }

  const Tensor& logits() const { return logits_; }
  const Tensor& loss() const { return loss_; }
  // What is replaced when the forward pass runs, whatever comes of the step.
  Bits statistics() const {
    Bits bits;
    for (const Parameter& p : parameters_)
      if (!p.trainable()) bits.push_back(p.value().to_vector<float>());
    return bits;
  }
  State state() const {
    State s{{}, {}, adam_->steps(), training_step()};
    for (const Parameter& p : parameters_) {
      if (!p.trainable()) continue;
      s.weights.push_back(p.value().to_vector<float>());
      for (const char* slot : {"m", "v"}) s.slots.push_back(adam_->slot(p, slot).to_vector<float>());
    }
    return s;
  }

 private:
  Sequential net_;
  std::optional<Adam> adam_;
  Tensor x_, labels_, logits_, loss_;
  std::vector<Parameter> parameters_;
  Bits begin_;
};

// Convolution, pooling and products; and layers that keep statistics and draw random numbers.
Training plain() {
  return Training(Sequential{Conv2D(4, 3, relu), MaxPool2D(2), Flatten(), Dense(64, relu), Dense(4)});
}
Training with_state() {
  return Training(Sequential{Conv2D(4, 3, relu), BatchNormalization(), Flatten(), Dropout(0.25), Dense(4)});
}

// The states before the step that is disturbed, after it and after the next one, of a run without failures.
struct Undisturbed {
  State before, after, next;
  Bits logits, statistics;

  Undisturbed(Training& t, int steps_before) {
    t.restart();
    for (int i = 0; i < steps_before; ++i) t.whole_step();
    before = t.state();
    t.whole_step();
    after = t.state();
    logits = {t.logits().to_vector<float>(), t.loss().to_vector<float>()};
    t.whole_step();
    next = t.state();
    statistics = t.statistics();
  }
};

struct Threads {
  int before = threads();
  explicit Threads(int n) {
    set_threads(1);  // so that the workers are new, and have no memory yet
    set_threads(n);
  }
  ~Threads() { set_threads(before); }
};

// What a disturbed step has left, and the steps after it. `again` takes the step once more.
template <class Again>
void check_what_is_left(Training& t, const Undisturbed& truth, bool failed, bool read_before, Again again) {
  const auto held = [&] { return Bits{t.logits().to_vector<float>(), t.loss().to_vector<float>()}; };
  const State left = t.state();
  const bool is_new = left == truth.after;
  CHECK((is_new || left == truth.before));
  if (!failed) CHECK(is_new);
  if (read_before && t.loss()) CHECK(held() == truth.logits);
  if (!is_new) again();
  CHECK(t.state() == truth.after);
  CHECK(held() == truth.logits);
  t.whole_step();
  CHECK(t.state() == truth.next);
  CHECK(t.statistics() == truth.statistics);
}

struct Kind {
  bool cold, persistent, with_forward;
  int steps_before, threads;
};

// Fails request 1, 2, 3 and so on, until a step needs fewer. start(n, persistent) makes the n-th fail, stop()
// ends that and says whether one has failed. With several threads all of them are new, and have no memory
// yet that they keep.
template <class Start, class Stop>
void every_request_fails(Training t, Kind kind, const char* what, Start start, Stop stop) {
  const Undisturbed truth(t, kind.steps_before);
  const std::string label =
      fmt::format("failure: {}, {} plan, {}, {} steps before, {} threads", what, kind.cold ? "new" : "known",
                  kind.persistent ? "for good" : "once", kind.steps_before, kind.threads);
  std::int64_t n = 0, survived = 0;
  bool reached = true;
  const auto attempt = [&] {
    t.restart();
    for (int i = 0; i < kind.steps_before; ++i) t.whole_step();
    const Threads workers(kind.threads);
    if (!kind.with_forward) t.forward();
    if (kind.cold) clear_plan_cache();
    const auto step = [&] { kind.with_forward ? t.whole_step() : t.step(); };
    bool failed = false, other = false;
    start(n, kind.persistent);
    try {
      step();
    } catch (const std::bad_alloc&) {
      failed = true;
    } catch (...) {
      other = true;
    }
    reached = stop() || failed || other;
    survived += reached && !failed;
    INFO(label << ", request " << n);
    CHECK_FALSE(other);
    check_what_is_left(t, truth, failed || other, n % 2 == 1, step);
  };
  while (reached) {
    ++n;
    if (kind.threads == 1)
      attempt();
    else
      std::thread(attempt).join();
  }
  std::printf("%s: %lld requests failed, %lld of them without effect\n", label.c_str(),
              static_cast<long long>(n - 1), static_cast<long long>(survived));
  CHECK(n > 2);
}

void every_buffer_fails(Training (*network)(), Kind kind) {
  every_request_fails(
      network(), kind, "buffers",
      [](std::int64_t n, bool persistent) { fail_allocation(static_cast<std::uint64_t>(n), persistent); },
      [] {
        fail_allocation(0);
        return false;
      });
}

void every_new_fails(Training (*network)(), Kind kind) {
  every_request_fails(network(), kind, "operator new", test::arm, [] { return test::disarm() > 0; });
}

template <class Test>
void for_each_kind(bool with_forward, Test test) {
  for (const bool cold : {false, true})
    for (const bool persistent : {false, true})
      for (const int steps_before : {0, 1})
        for (const int n : {1, 2}) test(Kind{cold, persistent, with_forward, steps_before, n});
}

}  // namespace

TEST_CASE("failure: a buffer that cannot be had leaves a step undone, and the next one right") {
  for_each_kind(true, [](Kind k) { every_buffer_fails(plain, k); });
}

TEST_CASE("failure: the same with statistics and dropout, where the step is taken again on the same loss") {
  for_each_kind(false, [](Kind k) { every_buffer_fails(with_state, k); });
}

TEST_CASE("failure: an operator new that fails leaves a step undone, and the next one right") {
  for_each_kind(true, [](Kind k) { every_new_fails(plain, k); });
}

TEST_CASE("failure: the same with statistics and dropout, for operator new") {
  for_each_kind(false, [](Kind k) { every_new_fails(with_state, k); });
}

TEST_CASE("failure: updates of which the second is the first work for threads are both made or neither") {
  constexpr std::int64_t count = 1 << 19;
  const std::vector<float> ones(count, 1), threes(count, 3), twos(count, 2);
  Parameter small("small", tensor({1.F, 2.F})), large("large", tensor(threes, {count}));
  // Request n fails, of a step whose plan is known but for the first; the number of steps taken.
  bool failed = false;
  const auto step = [&](std::int64_t n) {
    SGD sgd({.learning_rate = 1});
    small.assign(tensor({1.F, 2.F}));
    large.assign(tensor(threes, {count}));
    const Tensor gradient = tensor(ones, {count}), loss = sum(small);
    const Threads workers(2);
    test::arm(n, false);
    try {
      sgd.apply({loss, {small, large}, {tensor({1.F, 1.F}), gradient}});
    } catch (const std::bad_alloc&) {
    }
    failed = test::disarm() > 0;
    return sgd.steps();
  };
  CHECK(step(0) == 1);
  std::int64_t n = 0;
  for (bool reached = true; reached;) {
    const bool taken = step(++n) == 1;
    reached = failed;
    CHECK_MESSAGE(small.value().to_vector<float>() == (taken ? std::vector{0.F, 1.F} : std::vector{1.F, 2.F}),
                  "request " << n);
    CHECK_MESSAGE(large.value().to_vector<float>() == (taken ? twos : threes), "request " << n);
  }
  CHECK(n > 2);
}

TEST_CASE("failure: an exception in a worker's chunk leaves a step undone, and the next one right") {
  const Threads workers(2);
  Training t(
      Sequential{Conv2D(4, 3, failing_copy), MaxPool2D(2), Flatten(), Dense(64, failing_copy), Dense(4)});
  caller = std::this_thread::get_id();
  for (const int steps_before : {0, 1})
    for (const bool cold : {false, true}) {
      const Undisturbed truth(t, steps_before);
      t.restart();
      for (int i = 0; i < steps_before; ++i) t.whole_step();
      if (cold) clear_plan_cache();
      has_thrown = false;
      worker_throws = true;
      const std::string text = test::message([&] { t.whole_step(); });
      worker_throws = false;
      CHECK(has_thrown);
      CHECK(test::contains(text, "failing.copy: a worker's chunk throws"));
      CHECK(test::contains(text, "failure_test.cpp:"));
      check_what_is_left(t, truth, true, cold, [&] { t.whole_step(); });
    }
}

TEST_CASE("failure: a pointwise kernel whose result lies crosswise needs no memory") {
  constexpr std::int64_t n = 300;
  std::vector<float> x(n * n), y(n * n), turned(n * n), without(n * n);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i), y[i] = static_cast<float>(i % 7);
  const auto add = [&](std::vector<float>& to) {
    const Type type{DType::f32, Shape{n, n}};
    View out = dense_view(to.data(), type);
    std::swap(out.strides[0], out.strides[1]);
    const View in[] = {dense_view(x.data(), type), dense_view(y.data(), type)};
    records::add_op.forward.run({.in = in, .out = out});
  };
  // Threads that are new have no scratch memory yet.
  bool failed = false;
  std::thread([&] { add(turned); }).join();
  std::thread([&] {
    test::arm(1, true);
    add(without);
    failed = test::disarm() > 0;
  }).join();
  CHECK(failed);
  CHECK(turned == without);
  CHECK(turned[1] == x[n] + y[n]);
}
