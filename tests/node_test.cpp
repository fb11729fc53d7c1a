// Nodes and their handles: who counts them, when they go. One test per promise.
#include <doctest/doctest.h>

#include <future>
#include <thread>
#include <vector>

#include "../core/buffer.h"
#include "../graph/grad.h"
#include "../graph/run.h"
#include "../ops/ops.h"
#include "small_stack.h"

using namespace opgrad;

namespace {

// Runs on a thread of its own, to its end.
template <class F>
void elsewhere(F f) {
  std::thread(std::move(f)).join();
}

std::size_t live_buffers() { return memory_stats().live_buffers; }

}  // namespace

TEST_CASE("a graph of a million nodes is built, differentiated and destroyed on a stack of 128 KiB") {
  static bool done = false;
  test::on_stack(128 << 10, [](void*) -> void* {
    const Tensor x = variable(tensor({1.0, 2.0}));
    Tensor y = x;
    for (int i = 0; i < 1'000'000; ++i) y = sin(y);
    done = static_cast<bool>(grad(sum(y), x));
    return nullptr;
  });
  CHECK(done);
}

TEST_CASE("a graph goes with its last handle") {
  const std::size_t before = live_buffers();
  Tensor y = tensor({1.0, 2.0}) * tensor({3.0, 4.0});
  const Tensor other = y;
  CHECK(y.node()->refs.load() == 2);
  y = sin(y) + y;
  CHECK(other.node()->refs.load() == 3);
  y = {};
  CHECK(other.node()->refs.load() == 1);
  CHECK(live_buffers() == before + 2);
  const_cast<Tensor&>(other) = {};
  CHECK(live_buffers() == before);
}

TEST_CASE("a graph whose last handle ends on another thread goes when its maker makes another node") {
  const std::size_t before = live_buffers();
  Tensor y = sin(tensor({1.0, 2.0})) + 1.0;
  elsewhere([y = std::move(y)]() mutable { y = {}; });
  static_cast<void>(full({}, 1));
  CHECK(live_buffers() == before);
}

TEST_CASE("a graph whose last handle ends on another thread goes when its maker ends") {
  const std::size_t before = live_buffers();
  std::promise<Tensor> made;
  std::promise<void> dropped;
  std::thread maker([&] {
    made.set_value(sin(tensor({1.0, 2.0})) + 1.0);
    dropped.get_future().wait();
  });
  made.get_future().get();
  dropped.set_value();
  maker.join();
  CHECK(live_buffers() == before);
}

TEST_CASE("a graph outlives the thread that made it and goes with its last handle") {
  const std::size_t before = live_buffers();
  Tensor y, same;
  elsewhere([&] {
    y = sin(tensor({0.0, 0.0})) + 1.0;
    same = y;
  });
  // Later threads, which may get the number of the first, take part in counting.
  for (int i = 0; i < 3; ++i) elsewhere([z = y * 2.0] { static_cast<void>(z * z); });
  CHECK(y.to_vector<double>() == std::vector<double>{1, 1});
  y = {};
  CHECK(same.evaluated());
  same = {};
  static_cast<void>(full({}, 1));
  CHECK(live_buffers() == before);
}

TEST_CASE("computed values and leaves that end on another thread go at once") {
  const std::size_t before = live_buffers();
  Tensor y = sin(tensor({1.0, 2.0}));
  eval(y);
  Tensor leaf = tensor({1.0});
  CHECK(live_buffers() == before + 2);
  elsewhere([y = std::move(y), leaf = std::move(leaf)]() mutable { y = leaf = {}; });
  CHECK(live_buffers() == before);
}

TEST_CASE("threads may copy and drop handles of one unevaluated node at the same time") {
  const std::size_t before = live_buffers();
  {
    const Tensor shared = sin(tensor({1.0, 2.0}));
    std::vector<Tensor> copies(4, shared);
    std::vector<std::thread> threads;
    for (Tensor& copy : copies)
      threads.emplace_back([mine = std::move(copy), &shared] {
        for (int i = 0; i < 1000; ++i) {
          const std::vector<Tensor> many(5, i % 2 ? mine : shared);
          static_cast<void>(many.front() * many.back());
        }
      });
    for (int i = 0; i < 1000; ++i) static_cast<void>(shared + shared);
    for (std::thread& t : threads) t.join();
    threads.clear();
    static_cast<void>(full({}, 1));
    CHECK(shared.node()->refs.load() == 1);
  }
  CHECK(live_buffers() == before);
}

TEST_CASE("Grads holds any number of gradients in order") {
  const Tensor a = full({}, 1), b = full({}, 2);
  CHECK(Grads().empty());
  CHECK(Grads{a, b}[1].node() == b.node());
  const Grads sized(5);
  CHECK(sized.size() == 5);
  CHECK_FALSE(sized[4]);
  Grads grown;
  for (int i = 0; i < 5; ++i) {
    grown.push_back(i % 2 ? a : b);
    CHECK(grown.size() == static_cast<std::size_t>(i) + 1);
    for (int k = 0; k <= i; ++k) CHECK(grown[static_cast<std::size_t>(k)].node() == (k % 2 ? a : b).node());
  }
  CHECK(Grads{a, b, a, b, b}[3].node() == b.node());
  CHECK(Grads(std::vector<Tensor>{a, b})[0].node() == a.node());
  CHECK(Grads(std::vector<Tensor>{a, b, b, b})[3].node() == b.node());
}
