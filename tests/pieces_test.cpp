// Graphs of more nodes than one plan takes (graph/pieces.h).
#include "../graph/pieces.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <new>
#include <vector>

#include "../core/buffer.h"
#include "../graph/grad.h"
#include "../graph/run.h"
#include "../ops/ops.h"
#include "../optim/optimizer.h"
#include "errors.h"
#include "small_stack.h"

using namespace opgrad;

namespace {

constexpr int length = 200'000;
static_assert(length > 10 * most_nodes_at_once);

// x 1.00001^n
Tensor chain(Tensor x, int n) {
  for (int i = 0; i < n; ++i) x = x * 1.00001;
  return x;
}
double factor(int n) {
  double f = 1;
  for (int i = 0; i < n; ++i) f *= 1.00001;
  return f;
}

}  // namespace

TEST_CASE("pieces: value and gradient of a chain of 200,000 are those of the formula") {
  const Tensor x = variable(tensor({0.5, -1.25, 2.0}));
  const Tensor y = sum(square(chain(x, length)));
  const Tensor g = grad(y, x);
  const double f = factor(length);
  CHECK(y.item() == doctest::Approx((0.25 + 1.5625 + 4) * f * f).epsilon(1e-9));
  const std::vector<double> at{0.5, -1.25, 2.0}, slopes = g.to_vector<double>();
  for (std::size_t i = 0; i < 3; ++i) CHECK(slopes[i] == doctest::Approx(2 * at[i] * f * f).epsilon(1e-9));
}

TEST_CASE("pieces: a chain has the bits of the loop that it stands for") {
  const Tensor x = variable(tensor({0.5, -1.25}));
  CHECK(chain(x, length).to_vector<double>() == [] {
    std::vector<double> v{0.5, -1.25};
    for (double& e : v)
      for (int i = 0; i < length; ++i) e = e * 1.00001;
    return v;
  }());
}

TEST_CASE("pieces: what is held in the middle can be read, before the end is and after it") {
  const Tensor x = variable(tensor({1.0}));
  std::vector<Tensor> held;
  Tensor y = x;
  for (int i = 0; i < 10; ++i) held.push_back(y = chain(y, length / 10));
  CHECK(held[2].item() == factor(3 * (length / 10)));
  CHECK(held[9].item() == factor(length));
  for (int i = 0; i < 10; ++i)
    CHECK(held[static_cast<std::size_t>(i)].item() == factor((i + 1) * (length / 10)));
}

TEST_CASE("pieces: a step moves the parameters at both ends of a deep graph, in the memory they had") {
  Parameter first("first", tensor({0.5, 1.0})), last("last", tensor({2.0, -1.0}));
  const void* const memory[] = {first.value().node()->value->buffer->data,
                                last.value().node()->value->buffer->data};
  SGD sgd({.learning_rate = 0.125});
  const double f = factor(length);
  // loss = sum(last * f * first)
  double a[] = {0.5, 1.0}, b[] = {2.0, -1.0};
  for (int step = 0; step < 3; ++step) {
    const double expected = f * (a[0] * b[0] + a[1] * b[1]);
    CHECK(sgd.step(sum(last * chain(first, length))).item() == doctest::Approx(expected).epsilon(1e-9));
    for (int k = 0; k < 2; ++k) {
      const double before = a[k];
      a[k] -= 0.125 * f * b[k];
      b[k] -= 0.125 * f * before;
      CHECK(first.value().values<double>()[k] == doctest::Approx(a[k]).epsilon(1e-9));
      CHECK(last.value().values<double>()[k] == doctest::Approx(b[k]).epsilon(1e-9));
    }
    CHECK(first.value().node()->value->buffer->data == memory[0]);
    CHECK(last.value().node()->value->buffer->data == memory[1]);
  }
}

TEST_CASE("pieces: a step computes what is held in the middle with the weights it was built on") {
  Parameter p("p", tensor({1.0}));
  SGD sgd({.learning_rate = 0.5});
  for (int step = 0; step < 2; ++step) {
    const double at = p.value().item();
    const Tensor middle = chain(p, length / 2);
    sgd.step(sum(chain(middle, length / 2)));
    CHECK(middle.evaluated());
    CHECK(p.value().item() == doctest::Approx(at - 0.5 * factor(length)).epsilon(1e-9));
    CHECK(middle.item() == doctest::Approx(at * factor(length / 2)).epsilon(1e-9));
  }
}

TEST_CASE("pieces: a step of a deep graph that finds no memory changes nothing, and can be taken again") {
  constexpr int short_length = 20'000;
  const double f = factor(short_length);
  int failures = 0;
  for (std::uint64_t n = 1;; ++n) {
    Parameter p("p", tensor({1.0}));
    SGD sgd({.learning_rate = 0.5});
    const Tensor middle = chain(p, short_length / 2), loss = sum(chain(middle, short_length / 2));
    bool failed = false;
    fail_allocation(n);
    try {
      sgd.step(loss);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    fail_allocation(0);
    CHECK(sgd.steps() == (failed ? 0 : 1));
    CHECK(p.value().item() == doctest::Approx(failed ? 1 : 1 - 0.5 * f).epsilon(1e-9));
    if (failed) sgd.step(loss);
    CHECK(p.value().item() == doctest::Approx(1 - 0.5 * f).epsilon(1e-9));
    CHECK(middle.item() == factor(short_length / 2));
    CHECK(loss.item() == factor(short_length));
    if (!failed) break;
    ++failures;
  }
  CHECK(failures > 2);
}

TEST_CASE("pieces: a deep graph is consumed by a step and gives its memory back") {
  Parameter p("p", tensor({1.0}));
  SGD sgd({.learning_rate = 0.5});
  sgd.step(sum(chain(p, length)));
  const std::size_t before = memory_stats().live_buffers;
  const Tensor loss = sum(chain(p, length));
  sgd.step(loss);
  CHECK(memory_stats().live_buffers <= before + 1);
  CHECK(test::contains(test::message([&] { gradients(loss); }), "was consumed by a step"));
}

TEST_CASE("pieces: the pieces of a periodic chain share their plans") {
  const Tensor x = variable(tensor({1.0}));
  clear_plan_cache();
  reset_plan_stats();
  const Tensor y = chain(x, length);
  CHECK(y.item() == factor(length));
  const PlanStats stats = plan_stats();
  // The first piece begins with a leaf of its own, the last one is shorter.
  CHECK(stats.plans <= 4);
  CHECK(stats.plans + stats.hits >= length / nodes_of_piece);
}

TEST_CASE("pieces: a wide graph, the sum of the products of 50,000 pairs of leaves") {
  constexpr int pairs = 50'000;
  std::vector<Tensor> xs;
  Tensor total;
  double expected = 0;
  for (int i = 0; i < pairs; ++i) {
    const double a = i % 17 - 8, b = i % 13 - 6;
    xs.push_back(variable(tensor({a})));
    const Tensor product = xs.back() * tensor({b});
    total = total ? total + product : product;
    expected += a * b;
  }
  const Tensor y = sum(total);
  std::vector<Tensor> some{xs[0], xs[pairs / 2], xs[pairs - 1]};
  const std::vector<Tensor> g = grad(y, some);
  CHECK(y.item() == expected);
  const int places[] = {0, pairs / 2, pairs - 1};
  for (std::size_t k = 0; k < 3; ++k) CHECK(g[k].item() == places[k] % 13 - 6);
}

TEST_CASE("pieces: a wide and flat graph, where every product waits for the end") {
  constexpr int pairs = 50'000;
  std::vector<Tensor> layer;
  double expected = 0;
  const Tensor x = variable(tensor({3.0}));
  for (int i = 0; i < pairs; ++i) {
    const double b = i % 13 - 6;
    layer.push_back(x * tensor({b}));
    expected += 3 * b;
  }
  // Pairwise, so that the graph is as flat as it can be.
  while (layer.size() > 1) {
    std::vector<Tensor> next;
    for (std::size_t i = 0; i + 1 < layer.size(); i += 2) next.push_back(layer[i] + layer[i + 1]);
    if (layer.size() % 2) next.push_back(layer.back());
    layer = std::move(next);
  }
  const Tensor y = sum(layer[0]), g = grad(y, x);
  CHECK(y.item() == expected);
  CHECK(g.item() == expected / 3);
}

TEST_CASE("pieces: ten million nodes on a thread with an 8 MiB stack" * doctest::skip()) {
  static double value = 0, slope = 0;
  const auto begin = std::chrono::steady_clock::now();
  test::on_stack(8 << 20, [](void*) -> void* {
    const Tensor x = variable(tensor({1.0, 2.0}));
    Tensor y = x;
    for (int i = 0; i < 10'000'000; ++i) y = y * 1.0000001;
    const Tensor s = sum(y);
    const Tensor g = grad(s, x);
    value = s.item();
    slope = g.values<double>()[0];
    return nullptr;
  });
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("pieces: ten million nodes and their gradient in %.1f s, at most %.2f GB in memory\n",
              std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
              static_cast<double>(usage.ru_maxrss) / (1 << 20));
  CHECK(slope == doctest::Approx(std::exp(1.0)).epsilon(1e-5));
  CHECK(value == doctest::Approx(3 * std::exp(1.0)).epsilon(1e-5));
}
