// The plan cache: a plan is found again exactly when the structure is the same, and a miss says what differs.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "../graph/grad.h"
#include "../graph/passes.h"
#include "../graph/run.h"
#include "../ops/ops.h"
#include "../optim/optimizer.h"
#include "errors.h"
#include "fuzz/draw.h"
#include "fuzz/task.h"
#include "nodes_behind.h"

using namespace opgrad;
using namespace opgrad::fuzz;
using test::contains;

namespace {

// All that a plan may depend on, worked out from the nodes alone: operations, attributes, types, wiring,
// numbers, which leaves share memory, and which nodes are asked for.
std::string structure(const Graph& g) {
  const Built b = build(g);
  std::map<const Node*, std::size_t> number;
  std::map<const Buffer*, std::size_t> memory;
  std::string text;
  std::vector<const Node*> stack;
  const auto visit = [&](const Node* root) {
    stack.push_back(root);
    while (!stack.empty()) {
      const Node* const n = stack.back();
      if (number.contains(n)) {
        stack.pop_back();
        continue;
      }
      const std::size_t height = stack.size();
      if (!n->value)
        for (std::size_t k = n->inputs().size(); k-- > 0;)
          if (!number.contains(n->inputs()[k])) stack.push_back(n->inputs()[k]);
      if (stack.size() != height) continue;
      stack.pop_back();
      const std::size_t id = number.size();
      number.emplace(n, id);
      text += to_string(Type{n->dtype, shape_of(n->shape)});
      if (n->value) {
        text +=
            fmt::format(" leaf {}\n", memory.emplace(n->value->buffer.get(), memory.size()).first->second);
      } else if (n->op == &structural::number) {
        text += fmt::format(" {} {}\n", n->has(node_flag::slot) ? "slot" : "number",
                            n->has(node_flag::slot) ? 0.0 : n->u.number);
      } else {
        text += fmt::format(" {}(", n->op->name);
        for (const Node* in : n->inputs()) text += fmt::format("{} ", number.at(in));
        text += n->op->attributes ? n->op->attributes->text(n->attributes()) + ")\n" : ")\n";
      }
    }
  };
  // The run asks for what is not there yet.
  for (const std::uint32_t o : g.outputs)
    if (!b.values[o].evaluated()) visit(b.values[o].node());
  for (const std::uint32_t o : g.outputs)
    if (!b.values[o].evaluated()) text += fmt::format("{} ", number.at(b.values[o].node()));
  return text;
}

// False when nothing had to be run, or when a kernel refused.
bool run(const Graph& g) {
  const Built b = build(g);
  std::vector<Tensor> wanted;
  for (const std::uint32_t o : g.outputs)
    if (!b.values[o].evaluated()) wanted.push_back(b.values[o]);
  if (wanted.empty()) return false;
  try {
    eval(wanted);
  } catch (const UserError&) {
    return false;
  }
  return true;
}

bool builds(const Graph& g) {
  try {
    build(g);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

// ------------------------------------------------------------------------------------------------ changes

using Change = std::optional<Graph> (*)(Graph, Random&);

// A record that `fits`, drawn at random.
template <class F>
std::optional<std::uint32_t> some_record(const Graph& g, Random& random, F&& fits) {
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 0; i < g.records.size(); ++i)
    if (fits(g.records[i])) all.push_back(i);
  if (all.empty()) return {};
  return random.of(all);
}

std::optional<Graph> other_attribute(Graph g, Random& random) {
  const auto i =
      some_record(g, random, [](const Record& r) { return r.a.size() > 0 && r.what != What::permute; });
  if (!i) return {};
  Axes& axes = g.records[*i].a;
  const int k = static_cast<int>(random.below(static_cast<std::uint64_t>(axes.size())));
  axes[k] = axes[k] > 0 ? axes[k] - 1 : axes[k] + 1;
  return g;
}

std::optional<Graph> other_dtype(Graph g, Random&) {
  for (Record& r : g.records)
    if (r.type.dtype == DType::f32 || r.type.dtype == DType::f64)
      r.type.dtype = r.type.dtype == DType::f32 ? DType::f64 : DType::f32;
  return g;
}

std::optional<Graph> other_size(Graph g, Random& random) {
  const auto i = some_record(g, random, [](const Record& r) { return r.type.shape.numel() > 1; });
  if (!i) return {};
  const std::int64_t from = g.records[*i].type.shape[0];
  for (Record& r : g.records) {
    std::vector<std::int64_t> dims(r.type.shape.begin(), r.type.shape.end());
    std::ranges::replace(dims, from, from + 1);
    r.type.shape = Shape(std::span<const std::int64_t>(dims));
  }
  return g;
}

// One input of one record seen through a view.
std::optional<Graph> another_view(Graph g, Random& random) {
  const Built b = build(g);
  const auto i =
      some_record(g, random, [&](const Record& r) { return !r.in.empty() && b.values[r.in[0]].rank() > 0; });
  if (!i) return {};
  const auto later = [&](std::uint32_t& x) { x += x >= *i; };
  const Record view{.what = What::flip, .in = {g.records[*i].in[0]}, .a = Axes{0}};
  for (Record& r : g.records) std::ranges::for_each(r.in, later);
  std::ranges::for_each(g.outputs, later);
  g.records[*i].in[0] = *i;
  g.records.insert(g.records.begin() + *i, view);
  return g;
}

// A leaf over the memory of another one of its type.
std::optional<Graph> shared_memory(Graph g, Random& random) {
  const auto leaf = [](const Record& r) {
    return (r.what == What::leaf || r.what == What::parameter) && is_float(r.type.dtype);
  };
  const auto i = some_record(g, random, leaf);
  if (!i) return {};
  for (std::uint32_t k = 0; k < *i; ++k)
    if (leaf(g.records[k]) && g.records[k].type.dtype == g.records[*i].type.dtype &&
        g.records[k].type.shape.numel() == g.records[*i].type.shape.numel()) {
      g.records[*i].what = What::alias;
      g.records[*i].in = {k};
      return g;
    }
  return {};
}

std::optional<Graph> other_wiring(Graph g, Random& random) {
  const Built b = build(g);
  const auto i = some_record(g, random, [](const Record& r) { return !r.in.empty(); });
  if (!i) return {};
  std::uint32_t& in = g.records[*i].in.back();
  for (std::uint32_t k = *i; k-- > 0;)
    if (k != in && b.values[k].dtype() == b.values[in].dtype() &&
        b.values[k].shape() == b.values[in].shape()) {
      in = k;
      return g;
    }
  return {};
}

std::optional<Graph> other_outputs(Graph g, Random&) {
  if (g.outputs.size() < 2) return {};
  g.outputs.pop_back();
  return g;
}

std::optional<Graph> slot_or_number(Graph g, Random& random) {
  const auto i =
      some_record(g, random, [](const Record& r) { return r.what == What::number || r.what == What::slot; });
  if (!i) return {};
  g.records[*i].what = g.records[*i].what == What::slot ? What::number : What::slot;
  return g;
}

constexpr std::pair<const char*, Change> changes[] = {{"attribute", other_attribute},
                                                      {"dtype", other_dtype},
                                                      {"size", other_size},
                                                      {"view", another_view},
                                                      {"shared memory", shared_memory},
                                                      {"wiring", other_wiring},
                                                      {"outputs", other_outputs},
                                                      {"slot or number", slot_or_number}};

constexpr const char* words[] = {"input {} was",      "value {} was",  "shares its memory", "read the values",
                                 "the attributes of", "the graph had", "the set of outputs"};

bool documented(const std::string& miss) {
  return std::ranges::any_of(words, [&](std::string_view w) {
    const auto hole = w.find("{}");
    return hole == w.npos ? contains(miss, w)
                          : miss.starts_with(w.substr(0, hole)) && contains(miss, w.substr(hole + 2));
  });
}

}  // namespace

TEST_CASE(
    "plan cache: a plan is found exactly when the structure is the same; a miss says why, in known words") {
  std::map<std::string, int> missed, hit;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Graph g = random_graph(7'000'000 + seed, 0);
    g.step = g.gradients = false;
    Random random(seed);
    const std::string name = changes[seed % std::size(changes)].first;
    const Change change = changes[seed % std::size(changes)].second;
    const std::optional<Graph> other = change(g, random);
    if (!other || !builds(*other)) continue;
    clear_plan_cache();
    reset_plan_stats();
    if (!run(g)) continue;
    CHECK(plan_stats().plans == 1);
    CHECK(run(g));
    CHECK(plan_stats().plans == 1);
    CHECK(plan_stats().hits == 1);
    const bool same = structure(g) == structure(*other);
    reset_plan_stats();
    if (!run(*other)) continue;
    CAPTURE(name);
    const std::string graph = to_text(g), changed = to_text(*other);
    CAPTURE(graph);
    CAPTURE(changed);
    CHECK(plan_stats().plans == (same ? 0 : 1));
    CHECK(plan_stats().hits == (same ? 1 : 0));
    if (!same) {
      const std::string miss = plan_stats().last_miss;
      CAPTURE(miss);
      CHECK(documented(miss));
    }
    ++(same ? hit : missed)[name];
  }
  for (const auto& [name, change] : changes) {
    const std::string what = name;
    CAPTURE(what);
    CHECK(missed[what] >= 20);
  }
}

TEST_CASE("plan cache: the words of a miss") {
  const Tensor x = tensor({1.f, 2.f, 3.f, 4.f}), z = tensor({4.f, 3.f, 2.f, 1.f});
  const auto miss = [](const Tensor& first, const Tensor& second) {
    clear_plan_cache();
    eval(first);
    eval(second);
    return plan_stats().last_miss;
  };
  const auto images = [](std::int64_t n) {
    const Tensor t = random_uniform(random_key({}), {n, 28, 28, 1});
    eval(t);
    return t;
  };
  CHECK(miss(exp(images(128)), exp(images(96))) == "input 0 was f32[128, 28, 28, 1], now f32[96, 28, 28, 1]");
  CHECK(miss(exp(x), sin(x)) == "value 1 was exp f32[4], now sin f32[4]");
  const Tensor twin = leaf(x.node()->value->buffer, DType::f32, {4}, {});
  CHECK(miss(x * z, x * twin) == "input 1 shares its memory with another one or no longer does");
  CHECK(contains(miss(slice(x, {0}, {2}) + slice(z, {0}, {2}), slice(x, {1}, {3}) + slice(z, {0}, {2})),
                 "the attributes of value 1, slice f32[2], differ"));
  CHECK(contains(miss(x - exp(x), exp(x) - x), "read the values 0, 1, now 1, 0"));
  CHECK(miss(x * 3.0, x * slot_number({4}, 3.0)) == "value 1 was a number, now a slot, or the reverse");
  clear_plan_cache();
  eval(exp(x));
  eval(tanh(exp(x)));
  CHECK(plan_stats().last_miss == "the graph had 2 values, now 3");
  const Tensor a = exp(x), b = tanh(a);
  clear_plan_cache();
  eval(b);
  const Tensor c = exp(x), d = tanh(c);
  eval({c, d});
  CHECK(contains(plan_stats().last_miss, "the set of outputs"));
  clear_plan_cache();
  eval(x * 1.0);
  eval(x * 2.0);
  CHECK(plan_stats().last_miss == "number 0 was 1, now 2");
}

TEST_CASE(
    "plan cache: a rate that changes each step costs no plan, a factor costs one more, then all steps hit") {
  const Tensor x = tensor<float>({{1.f, 2.f}, {3.f, -1.f}}), t = tensor<float>({{1.f, 0.f}, {0.f, 1.f}});
  for (const bool adam : {false, true}) {
    const Parameter w("w", tensor<float>({{0.5f, -0.25f}, {0.125f, 1.f}}));
    std::unique_ptr<Optimizer> optimizer;
    if (adam)
      optimizer = std::make_unique<Adam>();
    else
      optimizer = std::make_unique<SGD>(SGDOptions{.momentum = 0.9});
    clear_plan_cache();
    reset_plan_stats();
    for (int step = 1; step <= 8; ++step) {
      CAPTURE(step);
      optimizer->set_learning_rate(0.03 / step);
      const auto plans = plan_stats().plans, hits = plan_stats().hits;
      optimizer->step(mean(square(matmul(x, w) - t)) * (1.0 / (step + 2)));
      CHECK(plan_stats().plans - plans == (step <= 2 ? 1 : 0));
      CHECK(plan_stats().hits - hits == (step <= 2 ? 0 : 1));
    }
  }
}

TEST_CASE("plan cache: eight threads run the same structures at once and all get the right values") {
  std::vector<Graph> graphs;
  std::vector<Task::Answer> answers;
  for (std::uint64_t seed = 0; graphs.size() < 48; ++seed) {
    Graph g = random_graph(8'000'000 + seed, 0);
    g.step = false;
    set_passes(PassSet::none());
    Task::Answer a = run_publicly(g);
    if (a.refused) continue;
    graphs.push_back(std::move(g));
    answers.push_back(std::move(a));
  }
  set_passes(PassSet::all());
  clear_plan_cache();
  std::vector<int> wrong(8, 0);
  std::vector<std::thread> threads;
  for (std::size_t n = 0; n < wrong.size(); ++n)
    threads.emplace_back([&, n] {
      Random random(n);
      for (int round = 0; round < 150; ++round) {
        const std::size_t k = random.below(graphs.size());
        wrong[n] += !(run_publicly(graphs[k]) == answers[k]);
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(wrong == std::vector<int>(8, 0));
}
