// The IR, differentiation and the executor: one test per promise.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "../core/buffer.h"
#include "../graph/grad.h"
#include "../graph/memory.h"
#include "../graph/passes.h"
#include "../graph/program.h"
#include "../graph/registry.h"
#include "../graph/run.h"
#include "../graph/scope.h"
#include "../ops/ops.h"
#include "errors.h"
#include "small_stack.h"

using namespace opgrad;
using test::contains;
using test::message;

TEST_CASE("a chain of a million nodes is built, differentiated, run and destroyed on an 8 MiB stack") {
  static double value = 0, slope = 0;
  test::on_stack(8 << 20, [](void*) -> void* {
    const Tensor x = variable(tensor({1.0, 2.0}));
    Tensor y = x;
    for (int i = 0; i < 1'000'000; ++i) y = y * 1.000001;
    const Tensor s = sum(y);
    const Tensor g = grad(s, x);
    value = s.item();
    slope = g.values<double>()[0];
    return nullptr;
  });
  CHECK(slope == doctest::Approx(std::exp(1.0)).epsilon(1e-5));
  CHECK(value == doctest::Approx(3 * std::exp(1.0)).epsilon(1e-5));
}

TEST_CASE("gradients of gradients") {
  const Tensor x = variable(tensor({0.5, -1.25, 2.0}));
  const Tensor y = sum(tanh(x) * x * x);
  const Tensor first = grad(y, x);
  const Tensor second = grad(sum(first * tensor({1.0, -2.0, 3.0})), x);
  const std::vector<double> at{0.5, -1.25, 2.0}, weight{1, -2, 3};
  const std::vector<double> got = second.to_vector<double>();
  for (std::size_t i = 0; i < 3; ++i) {
    const double t = std::tanh(at[i]), d = 1 - t * t;
    CHECK(got[i] ==
          doctest::Approx(weight[i] * (2 * t + 4 * at[i] * d - 2 * at[i] * at[i] * t * d)).epsilon(1e-12));
  }
}

TEST_CASE("a gradient cut by an operation without one is an error that names it, never a silent zero") {
  const Tensor x = variable(tensor({1.0, 2.0}));
  const std::string text = message([&] { grad(sum(cast(x > 1.5, DType::f64)), x); });
  CHECK(contains(text, "has no gradient"));
  CHECK(contains(text, "graph_test.cpp:"));
  CHECK(contains(message([&] { grad(sum(detach(x) * 2.0), x); }), "detach"));
  CHECK(contains(message([&] { grad(sum(tensor({1.0})), x); }), "does not depend on x"));
}

TEST_CASE("detach keeps the value and stops the gradient of its path only") {
  const Tensor x = variable(tensor({3.0}));
  const Tensor y = sum(x * detach(x));
  CHECK(y.item() == 9);
  CHECK(grad(sum(x * detach(x)), x).item() == 3);
}

TEST_CASE("value_and_grad") {
  const auto [y, g] = value_and_grad([](const Tensor& x) { return sum(x * x * x); }, tensor({1.0, 2.0}));
  CHECK(y.item() == 9);
  CHECK(g.to_vector<double>() == std::vector<double>{3, 12});
}

TEST_CASE("the gradient of anything but one float is refused with the shape and the way out") {
  const Tensor x = variable(tensor({1.0, 2.0}));
  CHECK(contains(message([&] { grad(x * x, x); }), "y must be one float, and is f64[2]; reduce it with sum"));
  CHECK(vjp(x * x, tensor({1.0, 10.0}), std::vector<Tensor>{x})[0].to_vector<double>() ==
        std::vector<double>{2, 40});
}

TEST_CASE("what is computed and depends on no parameter lets go of its inputs") {
  const std::size_t before = memory_stats().live_buffers;
  Tensor y = tensor({1.f, 2.f}) * 2.f;
  static_cast<void>(y.values<float>());
  CHECK(memory_stats().live_buffers == before + 1);
  const Tensor x = tensor({2.0});
  const Tensor z = x * x;
  CHECK(z.item() == 4);
  CHECK(contains(message([&] { grad(sum(z), x); }), "let go of its inputs"));
}

TEST_CASE("reading computes what is needed and nothing else") {
  const Tensor x = tensor({1.0, 2.0});
  const Tensor a = exp(x), b = a + 1.0;
  static_cast<void>(b.values<double>());
  CHECK(b.evaluated());
  CHECK_FALSE(a.evaluated());
}

TEST_CASE("errors name the user's line and the module path") {
  const PathScope outer("net"), inner("conv1");
  const std::string text = message([] { matmul(zeros({2, 3}), zeros({4, 5})); });
  CHECK(contains(text, "graph_test.cpp:" + std::to_string(__LINE__ - 1) + " (net/conv1)"));
}

TEST_CASE("tensors come in and go out simply") {
  const Tensor t = tensor<float>({{1.f, 2.f, 3.f}, {4.f, 5.f, 6.f}});
  CHECK(to_string(t) == "f32[2, 3] {{1, 2, 3}, {4, 5, 6}}");
  CHECK(to_string(t[1][-1]) == "f32[] 6");
  CHECK(to_string(tensor(std::vector<std::int64_t>(100, 7), {100})) == "i64[100] {7, 7, 7, ..., 7, 7, 7}");
  CHECK(contains(message([&] { static_cast<void>(t.item()); }), "has 6 elements and not one"));
  CHECK(contains(message([&] { static_cast<void>(t.values<double>()); }), "is f32 and was read as f64"));
  CHECK(contains(message([] {
                   tensor(std::vector<float>{1, 2}, {3});
                 }),
                 "2 elements were given for shape [3]"));
  Values<float> kept = [] { return (tensor({1.f, 2.f}) * 3.f).values<float>(); }();
  CHECK(kept[1] == 6);
}

TEST_CASE("two threads build and run graphs over shared parameters") {
  const Parameter p("p", tensor({1.0, 2.0, 3.0}));
  std::vector<double> results(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < results.size(); ++i)
    threads.emplace_back([&, i] {
      for (int k = 0; k < 50; ++k)
        results[i] =
            grad(sum(p.value() * p.value() * static_cast<double>(i + 1)), p.value()).values<double>()[2];
    });
  for (std::thread& t : threads) t.join();
  for (std::size_t i = 0; i < results.size(); ++i) CHECK(results[i] == 6.0 * static_cast<double>(i + 1));
}

TEST_CASE("the plan cache: numbers that change become slots, structure that changes misses") {
  clear_plan_cache();
  reset_plan_stats();
  const Tensor x = tensor({1.f, 2.f, 3.f});
  for (int i = 0; i < 6; ++i)
    CHECK((exp(x) * (10.0 + i)).values<float>()[0] == doctest::Approx(std::exp(1.0) * (10 + i)));
  CHECK(plan_stats().plans == 2);
  CHECK(plan_stats().hits == 4);
  static_cast<void>((exp(x) * 1.0).values<float>());
  CHECK(plan_stats().plans <= 3);
  const auto misses = plan_stats().plans;
  static_cast<void>((exp(tensor({1.f, 2.f})) * 10.0).values<float>());
  CHECK(plan_stats().plans == misses + 1);
  static_cast<void>((x * x).values<float>());
  static_cast<void>((x * tensor({1.f, 2.f, 3.f})).values<float>());
  CHECK(plan_stats().plans == misses + 3);
}

TEST_CASE("naive and optimised runs have equal bits") {
  const auto run = [](bool passes) {
    set_passes(passes ? PassSet::all() : PassSet::none());
    clear_plan_cache();
    const Tensor x = random_normal(random_key({7, 1}), {37, 65});
    const Tensor v = variable(x);
    const Tensor y =
        sum(sigmoid(tanh(v * 1.5 + sum(v, {0}, true)) / (square(v) + 1.0)) * transpose(transpose(v)));
    std::vector<float> out = grad(y, v).to_vector<float>();
    out.push_back(static_cast<float>(y.item()));
    set_passes(PassSet::all());
    return out;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("a block's scratch of a value that is read tile by tile is not taken over by its own tile group") {
  const auto numbers = [](const Shape& shape) {
    std::vector<float> x(static_cast<std::size_t>(shape.numel()));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 29 % 31) - 15;
    return tensor(x, shape);
  };
  const auto trained = [&](PassSet passes) {
    set_passes(passes);
    Parameter p("p", numbers({16, 2, 2, 2}));
    const auto loss = [&] {
      const Tensor y = max_pool2d(p, {2, 2}, {2, 2});
      return sum(abs(y + y));
    };
    const auto step = [&](const Tensor& l) {
      run_step(l, std::vector<Update>{{p, p.value() - 0.1 * grad(l, p.value())}});
      return l.item();
    };
    const float at = static_cast<float>(step(loss()));
    // Rows of two tiles, whose results take more memory than what they are made of.
    const Tensor x = numbers({16, 64, 64, 2});
    const auto wider = [&] {
      const Tensor y = max_pool2d(x, {2, 2}, {2, 2});
      return max_pool2d(cast(y + y, DType::f64) * 3.0, {2, 2}, {2, 2});
    };
    const std::vector<double> wide = wider().to_vector<double>();
    set_passes(PassSet::all());
    return std::tuple(at, p.value().to_vector<float>(), wide);
  };
  CHECK(trained(PassSet::all()) == trained(PassSet::none()));
}

TEST_CASE("a product of a permuted view has the same bits beside an operation that copies the view") {
  std::vector<double> numbers(19 * 2);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = std::sin(static_cast<double>(i) * 1.7) * std::pow(10.0, i % 7);
  const Tensor x = tensor(numbers, {19, 2});
  for (const PassSet passes : {PassSet::all(), PassSet::none()})
    for (const std::int64_t columns : {1, 3}) {
      set_passes(passes);
      const auto product = [&] { return matmul(transpose(x), ones({19, columns}, DType::f64)); };
      const Tensor s = log_softmax(x, 0), y = product();
      eval({s, y});
      CHECK(s.to_vector<double>() == log_softmax(x, 0).to_vector<double>());
      CHECK(y.to_vector<double>() == product().to_vector<double>());
      set_passes(PassSet::all());
    }
}

TEST_CASE("Boost.Graph's topological order brings inputs before users and refuses a cycle") {
  // A captured graph whose items are numbered users first: only a real sort brings inputs before users.
  Program p;
  const Op& add = *find_op("add_any");
  const ShapeId shape = intern({4});
  p.items = {{.kind = ItemKind::op, .dtype = DType::f32, .shape = shape, .op = &add, .first = 0, .count = 2},
             {.kind = ItemKind::op, .dtype = DType::f32, .shape = shape, .op = &add, .first = 2, .count = 2},
             {.kind = ItemKind::op, .dtype = DType::f32, .shape = shape, .op = &add, .first = 4, .count = 2},
             {.kind = ItemKind::slot, .dtype = DType::f32, .shape = shape, .place = 0}};
  p.inputs = {2, 1, 2, 3, 3, 3};
  p.slots = 1;
  p.outputs = {{0}, {1}, {2}};
  CHECK(topological_order(p) == std::vector<std::uint32_t>{3, 2, 1, 0});
  p.inputs = {2, 1, 2, 3, 0, 3};
  CHECK_THROWS_AS(topological_order(p), InternalError);
}

TEST_CASE("placed buffers never overlap while both live") {
  std::uint64_t seed = 1;
  const auto draw = [&](std::uint64_t n) {
    seed = fold_in(seed, 1);
    return seed % n;
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> all;
    for (int i = 0; i < 60; ++i) {
      const auto begin = static_cast<std::uint32_t>(draw(50));
      all.push_back({begin, begin + static_cast<std::uint32_t>(draw(10)), draw(4000)});
    }
    std::size_t bound = 0;
    const std::size_t arena = place(all, bound);
    CHECK(arena >= bound);
    for (const Lifetime& a : all) {
      CHECK(a.offset % 64 == 0);
      CHECK(a.offset + a.bytes <= arena);
      for (const Lifetime& b : all)
        if (&a != &b && a.begin <= b.end && b.begin <= a.end && a.bytes && b.bytes)
          CHECK((a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset));
    }
  }
}

TEST_CASE("the registry refuses a second record of a name, and incomplete ones") {
  static constexpr Op twin{.name = "add_any",
                           .arity = 1,
                           .about = "another",
                           .shape =
                               [](const Call& c) {
                                 return Result{c.dtype(0), c.shape_id(0)};
                               },
                           .forward = [](const KernelArgs&) {},
                           .backward = no_gradient};
  CHECK(contains(message([] { register_op(twin); }), "\"add_any\" is taken"));
  static constexpr Op bare{
      .name = "bare", .arity = 1, .about = "", .shape = nullptr, .forward = {}, .backward = nullptr};
  CHECK(contains(message([] { register_op(bare); }), "lacks a shape rule"));
  CHECK(find_op("bare") == nullptr);
  Op halves = twin;
  halves.name = "halves";
  halves.over_rows.rows = [](const Call&) -> std::int64_t { return 1; };
  CHECK(contains(message([&] { register_op(halves); }), "lacks some of .rows, .workspace, .part and .meet"));
}
