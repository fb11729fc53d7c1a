// The truth about passes and plans: on random graphs over all operations, values, gradients and updated
// parameters have the same bits as in the naive executor, whatever passes run and however many threads.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <map>
#include <string>

#include "../core/isa.h"
#include "../core/parallel.h"
#include "../graph/grad.h"
#include "../graph/run.h"
#include "../models/lecture.h"
#include "../ops/ops.h"
#include "../optim/optimizer.h"
#include "fuzz/draw.h"
#include "fuzz/shrink.h"
#include "fuzz/task.h"
#include "live_ranges.h"
#include "nodes_behind.h"

using namespace opgrad;
using namespace opgrad::fuzz;
using test::memory_faults;

namespace {

struct Verified {
  Verified() {
    set_verify(true);
    set_thorough(true);
  }
  ~Verified() {
    set_verify(false);
    set_thorough(false);
  }
};

struct Choice {
  std::string name;  // "all", "only merge", "without merge", "some"
  std::string pass;  // of those with one name
  PassSet set;
};

// The passes to try on a graph: all, some, two alone, two left out. Tests' own passes do not count.
std::vector<Choice> choices(std::uint64_t seed) {
  std::vector<std::string> names;
  for (const Pass& p : passes())
    if (!std::string_view(p.name).starts_with("test")) names.emplace_back(p.name);
  Random random(seed * 2 + 1);
  PassSet some = PassSet::none();
  for (const std::string& n : names)
    if (random.chance(0.5)) some = some.with(n);
  std::vector<Choice> all{{"all", "", PassSet::all()}, {"some", "", some}};
  for (const std::uint64_t k : {seed, seed / names.size() + 3}) {
    const std::string& name = names[k % names.size()];
    all.push_back({"only " + name, name, PassSet::none().with(name)});
  }
  for (const std::uint64_t k : {seed + 5, seed / names.size()}) {
    const std::string& name = names[k % names.size()];
    all.push_back({"without " + name, name, PassSet::all().without(name)});
  }
  return all;
}

// What distinguishes two plans of one program.
std::string shape_of_plan(const Plan& p) {
  std::string s = fmt::format("{} {} {} {} {}|", p.program.items.size(), p.arena_bytes, p.tail,
                              p.program.constants.size(), p.loops.size());
  for (const auto& list : {p.steps, p.parts})
    for (const PlanStep& x : list)
      s += fmt::format("{} {} {} {} {};", x.head, x.first, x.count, x.rows, x.block);
  for (const PlanCall& c : p.calls) s += fmt::format("{} {};", c.item, c.op ? c.op->name : "copy");
  for (const PlanOperand& o : p.operands)
    s += fmt::format("{} {} {} {} {};", static_cast<int>(o.base), o.index, o.offset, o.shape, o.layout);
  return s;
}

struct Coverage {
  std::map<std::string, int> ops, changed, alone, without, outputs;
  int graphs = 0, plans = 0, refused = 0;
  double worst_ratio = 1, sum_of_ratios = 0;
  int ratios = 0;

  void see(const Task& task, const Plan& naive) {
    for (const Node* n : task.capture().nodes)
      if (!n->value && n->op != &structural::number) ++ops[n->op->name];
    for (std::size_t k = 0; k < naive.outputs.size(); ++k) {
      const Item& item = naive.program.items[naive.program.outputs[k].item];
      const Shape& shape = shape_of(item.shape);
      const bool view = item.kind == ItemKind::op && has(item.op->traits, Traits::movement);
      ++outputs[view                          ? "a view"
                : item.kind == ItemKind::op   ? "a kernel's"
                : item.kind == ItemKind::slot ? "an input"
                                              : "a number"];
      ++outputs[std::string(name_of(item.dtype))];
      if (shape.rank() == 0) ++outputs["rank 0"];
      if (shape.numel() == 0) ++outputs["empty"];
      if (naive.outputs[k].donor != no_index) ++outputs["donated"];
    }
    if (naive.outputs.size() > 1) ++outputs["several"];
    if (naive.tail < naive.steps.size()) ++outputs["a tail"];
  }
};

// What is wrong with this graph under these passes; empty where nothing is.
std::string fault(const Graph& g, const std::vector<Choice>& sets, Coverage* coverage = nullptr) {
  try {
    const Task task(g);
    const Plan naive = task.plan(PassSet::none());
    if (const auto faults = memory_faults(naive); !faults.empty()) return "no passes: " + faults[0];
    const Task::Answer truth = task.run(naive);
    std::string naive_shape, full_shape;
    if (coverage) {
      coverage->see(task, naive);
      coverage->refused += truth.refused;
      naive_shape = shape_of_plan(naive);
    }
    for (const Choice& c : sets) {
      const Plan plan = task.plan(c.set);
      if (const auto faults = memory_faults(plan); !faults.empty()) return c.name + ": " + faults[0];
      if (!(task.run(plan) == truth)) return c.name + ": other bits than without passes";
      if (!coverage) continue;
      ++coverage->plans;
      const std::string shape = shape_of_plan(plan);
      if (c.name == "all") {
        full_shape = shape;
        if (plan.live_bytes_bound > 0) {
          const double ratio =
              static_cast<double>(plan.arena_bytes) / static_cast<double>(plan.live_bytes_bound);
          coverage->worst_ratio = std::max(coverage->worst_ratio, ratio);
          coverage->sum_of_ratios += ratio;
          ++coverage->ratios;
        }
      } else if (!c.pass.empty()) {
        const bool only = c.name.starts_with("only");
        ++(only ? coverage->alone : coverage->without)[c.pass];
        coverage->changed[c.pass] += shape != (only ? naive_shape : full_shape);
      }
    }
  } catch (const std::exception& e) {
    return fmt::format("an exception: {}", e.what());
  }
  return {};
}

// The report of a failure: the smallest graph that fails, by the same kind of fault.
std::string report(const Graph& g, const std::vector<Choice>& sets, const std::string& what) {
  const Graph small = shrink(g, [&](const Graph& s) { return !fault(s, sets).empty(); });
  return fmt::format("{}\nseed {}, made smaller: {}\n{}", what, g.seed, fault(small, sets), to_text(small));
}

// The first `count` graphs from `first` on; stops at the third that fails.
Coverage try_graphs(std::uint64_t first, std::uint64_t count) {
  const Verified verified;
  Coverage coverage;
  int failures = 0;
  for (std::uint64_t seed = first; seed < first + count && failures < 3; ++seed) {
    const Graph g = random_graph(seed);
    const std::vector<Choice> sets = choices(seed);
    ++coverage.graphs;
    const std::string what = fault(g, sets, &coverage);
    if (what.empty()) continue;
    ++failures;
    FAIL_CHECK(report(g, sets, what));
  }
  return coverage;
}

std::string text(const std::map<std::string, int>& counts) {
  std::string s;
  for (const auto& [name, count] : counts) s += fmt::format("{}{} {}", s.empty() ? "" : ", ", name, count);
  return s;
}

}  // namespace

TEST_CASE("truth: 20,000 random graphs have the bits of the naive executor under all kinds of pass sets") {
  const Coverage c = try_graphs(0, 20000);
  MESSAGE("changed by each pass: ", text(c.changed));
  MESSAGE("outputs: ", text(c.outputs));
  MESSAGE("arena / live bytes: worst ", c.worst_ratio, ", mean ", c.sum_of_ratios / std::max(c.ratios, 1));
  for (const Template& t : templates()) {
    const std::string name = t.op->name;
    CAPTURE(name);
    CHECK(c.ops.contains(name));
    if (c.ops.contains(name)) CHECK(c.ops.at(name) >= 100);
  }
  for (const auto& [name, count] : c.changed) {
    const std::string pass = name;
    CAPTURE(pass);
    // Loops are made of machine code that the baseline lacks.
    CHECK(count >= (pass == "compile" && isa() == Isa::baseline ? 0 : 100));
    CHECK(c.alone.at(pass) >= 500);
    CHECK(c.without.at(pass) >= 500);
  }
  for (const char* kind : {"a view", "a kernel's", "an input", "a number", "f32", "f64", "i32", "i64", "u8",
                           "bool", "rank 0", "empty", "donated", "several", "a tail"}) {
    const std::string name = kind;
    CAPTURE(name);
    CHECK((c.outputs.contains(name) && c.outputs.at(name) >= 50));
  }
  CHECK(c.refused >= 20);
  CHECK(c.worst_ratio <= 1.5);
}

TEST_CASE("truth: as many random graphs as OPGRAD_GRAPHS says, a million by default" * doctest::skip()) {
  using Clock = std::chrono::steady_clock;
  const char* given = std::getenv("OPGRAD_GRAPHS");
  const std::uint64_t count = given ? std::strtoull(given, nullptr, 10) : 1'000'000;
  const auto begin = Clock::now();
  const Coverage c = try_graphs(1'000'000, count);
  CHECK(c.graphs == static_cast<int>(count));
  MESSAGE(c.graphs, " graphs, ", c.plans, " plans in ",
          std::chrono::duration<double>(Clock::now() - begin).count(), " s");
}

TEST_CASE("truth: 1, 2, 3, 4 and 8 threads agree bit for bit") {
  const int before = threads();
  int large = 0;
  for (std::uint64_t seed = 0; seed < 240; ++seed) {
    const Graph g = random_graph(5'000'000 + seed, 0.5);
    const Task task(g);
    const Plan naive = task.plan(PassSet::none()), full = task.plan(PassSet::all());
    for (const PlanOperand& o : full.operands)
      if (shape_of(o.shape).numel() > 16384) {
        ++large;
        break;
      }
    set_threads(1);
    const Task::Answer truth = task.run(naive);
    for (const int n : {1, 2, 3, 4, 8}) {
      set_threads(n);
      CAPTURE(n);
      CHECK_MESSAGE(task.run(full) == truth, to_text(g));
      CHECK_MESSAGE(task.run(naive) == truth, to_text(g));
    }
  }
  set_threads(before);
  CHECK(large >= 40);
}

TEST_CASE("truth: graphs built and run the public way, two steps of an optimizer included, give equal bits") {
  const Verified verified;
  int stepped = 0;
  for (std::uint64_t seed = 0; seed < 1200; ++seed) {
    const Graph g = random_graph(6'000'000 + seed);
    set_passes(PassSet::none());
    const Task::Answer truth = run_publicly(g);
    stepped += g.step && !truth.refused;
    for (const Choice& c : choices(seed)) {
      set_passes(c.set);
      CHECK_MESSAGE(run_publicly(g) == truth, c.name, "\n", to_text(g));
    }
  }
  set_passes(PassSet::all());
  CHECK(stepped >= 100);
}

TEST_CASE("truth: a loss that only its own update reads is there before the parameter is overwritten") {
  const Parameter p("p", full({}, 1000.0));
  SGD sgd{{.learning_rate = 0.1}};
  CHECK_THROWS_AS(sgd.step(exp(p)), UserError);
  CHECK(p.value().item() == 1000);
  const Parameter q("q", full({}, 0.0));
  for (int i = 0; i < 3; ++i) CHECK(std::isfinite(sgd.step(exp(q)).item()));
}

TEST_CASE("truth: a result does not take over memory whose elements have another size") {
  std::vector<float> numbers(20000);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i % 97);
  const Tensor x = tensor(numbers, {20000});
  const std::vector<std::int64_t> whole =
      cast(slice(maximum(x, 0.0), {0}, {10000}), DType::i64).to_vector<std::int64_t>();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) wrong += whole[i] != static_cast<std::int64_t>(i % 97);
  CHECK(wrong == 0);
}

TEST_CASE("truth: a seed gives the same graph, whose text does not change by being built") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Graph g = random_graph(seed);
    const std::string text = to_text(g);
    CHECK(to_text(random_graph(seed)) == text);
    const Task once(g), twice(g);
    CHECK(once.run(once.plan(PassSet::all())) == twice.run(twice.plan(PassSet::all())));
    CHECK(to_text(g) == text);
  }
}

TEST_CASE("truth: the shrinker finds the two nodes that matter") {
  const auto has_both = [](const Graph& g) {
    bool exponential = false, folded = false;
    const Built b = build(g);
    for (const std::uint32_t o : g.outputs)
      for (const Tensor& t : test::nodes_behind(b.values[o])) {
        exponential |= t.node()->op->name == std::string_view("exp");
        folded |= t.node()->op->name == std::string_view("sum");
      }
    return exponential && folded;
  };
  int found = 0, alone = 0;
  for (std::uint64_t seed = 0; seed < 2000 && found < 5; ++seed) {
    const Graph g = random_graph(seed);
    if (!has_both(g) || g.records.size() < 12) continue;
    ++found;
    const Graph small = shrink(g, has_both);
    // Views and casts between the two may have to stay, so that shapes and types fit.
    CHECK_MESSAGE(small.records.size() <= 8, to_text(small));
    alone += small.records.size() <= 5;
    CHECK(has_both(small));
  }
  CHECK(found == 5);
  CHECK(alone >= 3);
}

namespace {

// One step of Adam on a classifier, captured as run_step does.
struct TrainingStep {
  std::vector<Tensor> keep;
  std::vector<Parameter> states;
  std::vector<Wish> wishes;

  TrainingStep(const Sequential& net, std::int64_t batch) {
    Tensor images = random_uniform(random_key({1, 2}), {batch, 28, 28, 1});
    Tensor labels = tensor(std::vector<std::int64_t>(static_cast<std::size_t>(batch), 3), {batch});
    eval({images, labels});
    Gradients g = gradients(cross_entropy(net(images), labels));
    want(g.loss);
    for (std::size_t i = 0; i < g.parameters.size(); ++i) {
      const Parameter& p = g.parameters[i];
      const Tensor& d = g.gradients[i];
      const Parameter m("m", zeros(p.shape()), false), v("v", zeros(p.shape()), false);
      const Tensor m1 = 0.9 * m + 0.1 * d, v1 = 0.999 * v + 0.001 * square(d);
      update(p, p - slot_number(p.shape(), 1e-3) * m1 / (sqrt(v1) + 1e-7));
      update(m, m1);
      update(v, v1);
      states.insert(states.end(), {p, m, v});
    }
  }
  Plan plan(PassSet passes) const {
    std::uint64_t missed = 0;
    Capture c = capture(wishes, true, missed);
    CHECK(missed == 0);
    std::vector<bool> fixed;
    for (const auto slot : c.number_is_slot) fixed.push_back(!slot);
    return make_plan(c, fixed, passes);
  }

 private:
  void want(const Tensor& t) {
    keep.push_back(t);
    wishes.push_back({t.node()});
  }
  void update(const Parameter& p, const Tensor& value) {
    want(value);
    wishes.back().donor = p.value().node();
  }
};

}  // namespace

TEST_CASE("truth: the arena of the lecture's training step is at most 1.05 times what lives at once") {
  const TrainingStep step(lecture_network(), 128);
  const Plan plan = step.plan(PassSet::all());
  const double ratio = static_cast<double>(plan.arena_bytes) / static_cast<double>(plan.live_bytes_bound);
  MESSAGE("arena ", plan.arena_bytes, " bytes, ", ratio, " times the bound");
  CHECK(ratio <= 1.05);
  int donated = 0;
  for (const PlanOutput& o : plan.outputs) donated += o.donor != no_index;
  CHECK(donated == 24);
}

TEST_CASE("truth: the plan of a training step has sound memory under any passes") {
  const Sequential net{Conv2D(4, 3, relu), MaxPool2D(2, 2), Conv2D(6, 3, relu), MaxPool2D(2, 2),
                       Flatten(),          Dense(8, relu),  Dense(10, softmax)};
  const TrainingStep step(net, 4);
  for (std::uint64_t seed = 0; seed < 100; ++seed)
    for (const Choice& c : choices(seed))
      CHECK(memory_faults(step.plan(c.set)) == std::vector<std::string>());
}
