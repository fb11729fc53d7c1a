// Passes broken on purpose: each mistake is noticed by the verifier, by the checker of live ranges, or by the
// bits.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <memory>
#include <string>

#include "errors.h"
#include "fuzz/damage.h"
#include "fuzz/draw.h"
#include "fuzz/task.h"
#include "live_ranges.h"

using namespace opgrad;
using namespace opgrad::fuzz;

namespace {

// Passes cannot be taken out again, so two are put in, which do nothing but what these ask for.
bool (*early_damage)(Program&) = nullptr;
bool (*late_damage)(Program&) = nullptr;
bool applied = false;

void put_in() {
  static const bool done = [] {
    add_pass({"test_early", "what a test asks for, before items have an order",
              [](Program& p) {
                if (early_damage) applied |= early_damage(p);
              }},
             "simplify");
    add_pass({"test_late", "what a test asks for, after all other passes",
              [](Program& p) {
                if (late_damage) applied |= late_damage(p);
              }},
             "in_place");
    return true;
  }();
  static_cast<void>(done);
}

struct Caught {
  int applied = 0, by_verify = 0, by_checker = 0, by_bits = 0;
  int all() const { return by_verify + by_checker + by_bits; }
};

std::uint32_t template_of(std::string_view op, bool example) {
  const auto& all = templates();
  for (std::uint32_t i = 0; i < all.size(); ++i)
    if (all[i].op->name == op && (all[i].call != nullptr) == example) return i;
  throw InternalError(fmt::format("{} has no template", op));
}

// Where algebra fails: NaN, infinities and zeros of both signs; two parts of one tensor; draws of two keys.
Graph exceptions() {
  Graph g;
  const auto add = [&](Record r) {
    g.records.push_back(std::move(r));
    return static_cast<std::uint32_t>(g.records.size() - 1);
  };
  const auto op = [&](const char* name, std::vector<std::uint32_t> in) {
    g.outputs.push_back(add({.what = What::node, .choice = template_of(name, false), .in = std::move(in)}));
    return g.outputs.back();
  };
  const Type type{DType::f32, {400}};
  const std::uint32_t x = add({.what = What::leaf, .type = type, .data = Data::special, .seed = 1});
  const std::uint32_t y = add({.what = What::leaf, .type = type, .data = Data::plain, .seed = 2});
  const std::uint32_t zero = add({.what = What::number, .type = type, .number = 0});
  const std::uint32_t minus = add({.what = What::number, .type = type, .number = -0.0});
  op("add", {x, zero});
  op("multiply", {x, zero});
  op("multiply", {y, minus});
  op("subtract", {x, x});
  op("divide", {x, x});
  op("equal", {x, x});
  op("exp", {op("subtract", {x, x})});
  op("add", {op("add", {x, y}), y});
  for (const std::int64_t begin : {0, 200})
    g.outputs.push_back(add({.what = What::slice, .in = {x}, .a = {begin}, .b = {begin + 200}, .c = {1}}));
  for (const std::uint64_t seed : {3u, 4u}) {
    const std::uint32_t key =
        add({.what = What::leaf, .type = {DType::i64, {2}}, .data = Data::bits, .seed = seed});
    g.outputs.push_back(
        add({.what = What::call, .choice = template_of("random_uniform", true), .in = {key}}));
  }
  return g;
}

// Few and small.
std::vector<Graph> graphs() {
  std::vector<Graph> all{exceptions()};
  for (std::uint64_t seed = 0; seed < 500; ++seed) all.push_back(random_graph(9'000'000 + seed, 0));
  return all;
}

Caught damaged(const Damage& d, const std::vector<std::pair<std::unique_ptr<Task>, Task::Answer>>& tasks) {
  Caught caught;
  set_verify(true);
  for (const auto& [task, truth] : tasks) {
    if (caught.all() >= 25) break;
    early_damage = d.early;
    late_damage = d.late;
    applied = false;
    try {
      Plan plan = task->plan(PassSet::all());
      if (d.plan) applied = d.plan(plan);
      if (!applied) continue;
      ++caught.applied;
      // A plan that the checker refuses is not run.
      if (!test::memory_faults(plan).empty())
        ++caught.by_checker;
      else if (!(task->run(plan) == truth))
        ++caught.by_bits;
    } catch (const InternalError&) {
      ++caught.applied;
      ++caught.by_verify;
    }
  }
  early_damage = late_damage = nullptr;
  set_verify(false);
  return caught;
}

}  // namespace

TEST_CASE("broken passes: each of more than thirty mistakes is noticed, and by which net") {
  put_in();
  std::vector<std::pair<std::unique_ptr<Task>, Task::Answer>> tasks;
  for (const Graph& g : graphs()) {
    auto task = std::make_unique<Task>(g);
    Task::Answer truth = task->run(task->plan(PassSet::none()));
    tasks.emplace_back(std::move(task), std::move(truth));
  }
  std::string list;
  int mistakes = 0;
  for (const auto& damages : {damages_of_algebra(), damages_of_structure(), damages_of_plans()})
    for (const Damage& d : damages) {
      const Caught c = damaged(d, tasks);
      ++mistakes;
      list += fmt::format("\n  {:<55} fits {:>3}; verify {:>3}, checker {:>3}, bits {:>3}", d.name, c.applied,
                          c.by_verify, c.by_checker, c.by_bits);
      const std::string name = d.name;
      CAPTURE(name);
      CHECK(c.applied > 0);
      CHECK(c.all() > 0);
    }
  MESSAGE(mistakes, " mistakes", list);
  CHECK(mistakes >= 30);

  const Damage control{"a pass that changes nothing", [](Program&) { return true; },
                       [](Program&) { return true; }, [](Plan&) { return true; }};
  const Caught nothing = damaged(control, tasks);
  CHECK(nothing.applied == static_cast<int>(tasks.size()));
  CHECK(nothing.all() == 0);
}
