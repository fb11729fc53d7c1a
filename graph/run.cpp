// eval and run_step: capture, find or make the plan, execute, commit.
#include "run.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <list>
#include <memory>
#include <mutex>

#include "key.h"
#include "pieces.h"
#include "plan.h"
#include "reused.h"
#include "scope.h"
#include "state.h"

namespace opgrad {
namespace {

// ------------------------------------------------------------------------------------------------ plan cache

// Bounded in plans and in items, so that varying shapes cannot fill the memory.
constexpr std::size_t most_plans = 64;
constexpr std::size_t most_items = 4'000'000;

struct Cache {
  std::mutex lock;
  std::list<std::shared_ptr<const Plan>> plans;  // most recently used first
  std::size_t items = 0;
  PlanStats stats;
};
Cache& cache() {
  static auto& c = *new Cache;
  return c;
}

bool special(double number) {
  return number == 0 || number == 1 || number == -1 || number == 2 || number == 0.5;
}
bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

bool same_structure(const Plan& p, const Capture& c, PassSet passes) {
  return p.hash == c.hash && p.passes == passes && p.key == c.key;
}
bool same_numbers(const Plan& p, const Capture& c) {
  for (std::size_t i = 0; i < p.numbers.size(); ++i)
    if (p.number_fixed[i] && !same_bits(p.numbers[i], c.numbers[i])) return false;
  return true;
}

std::string item_text(const key::Reader& r) {
  const std::string_view name = r.kind() == ItemKind::slot     ? "input"
                                : r.kind() == ItemKind::number ? "number"
                                                               : r.op()->name;
  return fmt::format("{} {}", name, to_string(Type{r.dtype(), shape_of(r.shape())}));
}

std::string wiring_text(const key::Reader& r) {
  std::string text;
  for (std::uint32_t k = 0; k < r.arity(); ++k) text += fmt::format("{}{}", k ? ", " : "", r.input(k));
  return text;
}

// The first difference to this plan, in words.
std::string difference(const Plan& p, const Capture& c) {
  const std::size_t before = p.nodes, now = c.nodes.size();
  const std::uint64_t *a = p.key.data(), *b = c.key.data();
  std::size_t inputs = 0;
  for (std::size_t i = 0; i < std::min(before, now); ++i) {
    const key::Reader x(a), y(b);
    const bool same_head = a[0] == b[0] && (x.kind() != ItemKind::op || x.op() == y.op());
    if (!same_head && x.kind() == ItemKind::slot && y.kind() == ItemKind::slot)
      return fmt::format("input {} was {}, now {}", inputs, to_string(Type{x.dtype(), shape_of(x.shape())}),
                         to_string(Type{y.dtype(), shape_of(y.shape())}));
    if (!same_head) return fmt::format("value {} was {}, now {}", i, item_text(x), item_text(y));
    if (!std::equal(a, x.next(), b)) {
      if (x.kind() == ItemKind::slot)
        return fmt::format("input {} shares its memory with another one or no longer does", inputs);
      if (x.kind() == ItemKind::number)
        return fmt::format("value {} was a number, now a slot, or the reverse", i);
      if (wiring_text(x) != wiring_text(y))
        return fmt::format("value {}, {}, read the values {}, now {}", i, item_text(x), wiring_text(x),
                           wiring_text(y));
      return fmt::format("the attributes of value {}, {}, differ", i, item_text(x));
    }
    inputs += x.kind() == ItemKind::slot;
    a = x.next();
    b = y.next();
  }
  if (before != now) return fmt::format("the graph had {} values, now {}", before, now);
  if (p.key != c.key) return "the set of outputs, or which of them may take over an input's memory, differs";
  for (std::size_t i = 0; i < c.numbers.size(); ++i)
    if (p.number_fixed[i] && !same_bits(p.numbers[i], c.numbers[i]))
      return fmt::format("number {} was {}, now {}", i, p.numbers[i], c.numbers[i]);
  return "the set of passes differs";
}

// Why no plan fits, told of the one that fits longest.
std::string reason(const std::list<std::shared_ptr<const Plan>>& plans, const Capture& c) {
  constexpr std::size_t most_compared = 8;
  const Plan* nearest = nullptr;
  std::ptrdiff_t longest = -1;
  std::size_t compared = 0;
  for (const auto& p : plans) {
    if (++compared > most_compared) break;
    const auto end = std::ranges::mismatch(p->key, c.key).in1;
    if (const auto common = end - p->key.begin(); common > longest) {
      longest = common;
      nearest = p.get();
    }
  }
  return nearest ? difference(*nearest, c) : "the first plan";
}

// What is met again is worth being compiled as a whole; takes the place of the plan in the cache.
std::shared_ptr<const Plan> worth_keeping(std::shared_ptr<const Plan> known) {
  std::shared_ptr<const Plan> better = compiled(*known);
  if (!better) return known;
  Cache& k = cache();
  const std::scoped_lock hold(k.lock);
  std::ranges::replace(k.plans, known, better);
  return better;
}

// Finds the plan or makes it; a capture that differs from a known plan in numbers only makes slots of those.
std::shared_ptr<const Plan> plan_for(Capture& c) {
  Cache& k = cache();
  std::vector<bool> fixed(c.numbers.size());
  for (std::size_t i = 0; i < fixed.size(); ++i) fixed[i] = !c.number_is_slot[i];
  const PassSet passes = current_passes();
  std::shared_ptr<const Plan> known;
  {
    const std::scoped_lock hold(k.lock);
    for (auto it = k.plans.begin(); it != k.plans.end(); ++it) {
      const Plan& p = **it;
      if (!same_structure(p, c, passes)) continue;
      if (same_numbers(p, c)) {
        ++k.stats.hits;
        k.plans.splice(k.plans.begin(), k.plans, it);
        known = k.plans.front();
        break;
      }
      for (std::size_t i = 0; i < fixed.size(); ++i)
        if (!p.number_fixed[i] ||
            (!same_bits(p.numbers[i], c.numbers[i]) && !special(p.numbers[i]) && !special(c.numbers[i])))
          fixed[i] = false;
    }
    if (!known) {
      k.stats.last_miss = reason(k.plans, c);
      ++k.stats.plans;
    }
  }
  if (known) return worth_keeping(std::move(known));
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  auto plan = std::make_shared<const Plan>(make_plan(c, fixed, passes));
  const std::chrono::duration<double, std::milli> took = Clock::now() - begin;
  const std::scoped_lock hold(k.lock);
  k.stats.last_milliseconds = took.count();
  k.plans.push_front(plan);
  k.items += plan->nodes;
  while (k.plans.size() > 1 && (k.plans.size() > most_plans || k.items > most_items)) {
    k.items -= k.plans.back()->nodes;
    k.plans.pop_back();
  }
  return plan;
}

// ------------------------------------------------------------------------------------------------ commit

// Lets go of a node's inputs. Its attributes stay for printing.
void release_inputs(Node* n) noexcept {
  const auto inputs = n->inputs();
  std::array<Node*, 2> few{};
  std::span<Node* const> gone = inputs;
  if (inputs.size() <= 2) {
    std::ranges::copy(inputs, few.begin());
    gone = {few.data(), inputs.size()};
  }
  n->flags |= node_flag::released;
  n->arity = 0;
  for (Node* input : gone)
    if (input->refs.drop()) destroy(input);
}

// ------------------------------------------------------------------------------------------------ not finite

struct NotFinite {};
class FoundNaN : public Error {
 public:
  using Error::Error;
};
thread_local std::string* first_infinite = nullptr;  // of the run that looks for it
thread_local const StepWatcher* step_watcher = nullptr;

struct Run;
std::shared_ptr<const Plan>* plan_run_last() { return of_thread<std::shared_ptr<const Plan>, Run>(); }

// The loss is the first output of a step.
void check_loss(std::span<const BufferRef> outputs, DType dtype) {
  const bool finite = dtype == DType::f64 ? std::isfinite(*reinterpret_cast<const double*>(outputs[0]->data))
                                          : std::isfinite(*reinterpret_cast<const float*>(outputs[0]->data));
  if (!finite) throw NotFinite{};
}

void look(const View& result, const Node& n) {
  if (!is_float(result.dtype())) return;
  dispatch_float(result.dtype(), [&]<class T>() {
    const T* x = result.as<T>();
    for (std::int64_t i = 0; i < result.numel(); ++i) {
      if (std::isfinite(x[i])) continue;
      std::string text = fmt::format(
          "step: the loss is not finite; no parameter was changed. The first {} is element {} of {} {}\n  at "
          "{}",
          std::isnan(x[i]) ? "NaN" : "infinity", i, n.op->name, to_string(result.type), to_string(*n.origin));
      if (std::isnan(x[i])) throw FoundNaN(text);
      if (first_infinite->empty()) *first_infinite = std::move(text);
      return;
    }
  });
}

struct Run {
  std::vector<Wish> wishes;
  std::vector<std::shared_ptr<ParameterState>> states;  // by wish; null for plain tensors
  std::vector<Tensor> keep;                             // what the wishes point to

  void want(const Tensor& t) {
    if (!t) throw UserError("eval: an empty Tensor cannot be computed");
    wishes.push_back({t.node()});
    states.emplace_back();
    keep.push_back(t);
  }
  void want(const std::shared_ptr<ParameterState>& state, const Tensor& value, bool donate) {
    wishes.push_back({value.node(), donate ? state->leaf.node() : nullptr});
    states.push_back(state);
    keep.push_back(value);
  }

  // Everything up to `commit` may throw and changes nothing that anybody can see.
  void go(bool consume) {
    try {
      attempt(consume, true);
    } catch (const NotFinite&) {
      throw UserError(diagnose());
    }
  }

 private:
  std::vector<Tensor> early;  // what pieces have computed: it keeps its inputs until the step succeeds

  // With `release` what is computed lets go of its inputs, unless its gradient may be asked yet.
  void attempt(bool consume, bool release) {
    std::uint64_t missed = 0;
    Capture c = capture(wishes, consume, missed, most_nodes_at_once);
    if (c.nodes.empty()) {
      const std::vector<std::uint32_t> uses = run_pieces(consume, release);
      c = capture(wishes, consume, missed);
      if (consume) donate_behind_pieces(c, wishes, uses, missed);
    }
    const std::shared_ptr<const Plan> plan = plan_for(c);
    const std::vector<Output>& outputs = c.outputs;
    std::vector<std::unique_ptr<Value>> values;
    for (std::size_t i = 0; i < outputs.size(); ++i) values.push_back(std::make_unique<Value>());
    std::vector<Tensor> leaves(wishes.size());
    for (std::size_t i = 0; i < wishes.size(); ++i)
      if (states[i]) {
        const Tensor& old = states[i]->leaf;
        leaves[i] = leaf({}, old.dtype(), old.shape(), old.node()->origin->where);
        leaves[i].node()->flags = leaf_flags(*states[i]);
      }
    std::vector<Tensor> computed;
    if (consume) computed = std::move(early);
    computed.reserve(computed.size() + outputs.size());
    Watch watch;
    if (consume)
      watch.before_tail = keep[0].dtype() == DType::f64
                              ? +[](std::span<const BufferRef> o) { check_loss(o, DType::f64); }
                              : +[](std::span<const BufferRef> o) { check_loss(o, DType::f32); };
    watch.step = step_watcher;
    std::vector<BufferRef> buffers = execute(*plan, c, watch);
    if (auto* const last = plan_run_last()) *last = plan;

    // Commit: from here on nothing throws.
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (plan->outputs[i].donor != no_index) {
        Node* donor = c.leaves[plan->outputs[i].donor];
        delete donor->value;
        donor->value = nullptr;
      }
      Node* n = c.nodes[outputs[i].item];
      if (i < wishes.size() && states[i]) {
        leaves[i].node()->value->buffer = buffers[i];
        set_leaf(*states[i], std::move(leaves[i]));
      }
      if (n->value) continue;
      values[i]->buffer = std::move(buffers[i]);
      n->value = values[i].release();
      computed.push_back(Tensor::share(n));
    }
    for (const Tensor& t : computed) {
      Node* n = t.node();
      if (consume && n->has(node_flag::tracked)) n->flags |= node_flag::consumed;
      if (release && (consume || !n->has(node_flag::tracked))) release_inputs(n);
    }
    drop_settled();
    const std::scoped_lock hold(cache().lock);
    cache().stats.missed_donations += missed;
  }

  // Computes what later pieces of a very large graph need of the earlier ones; of a step also what is held.
  // Returns how often the graph refers to each donor.
  std::vector<std::uint32_t> run_pieces(bool of_step, bool release) {
    std::vector<Node*> roots, donors;
    for (const Wish& w : wishes) {
      roots.push_back(w.node);
      donors.push_back(w.donor);
    }
    return for_each_piece(roots, of_step, donors, [&](std::span<Node* const> needed) {
      Run piece;
      for (Node* n : needed) piece.want(Tensor::share(n));
      piece.attempt(false, release && !of_step);
      if (release && !of_step) return;
      early.insert(early.end(), piece.early.begin(), piece.early.end());
      early.insert(early.end(), piece.keep.begin(), piece.keep.end());
    });
  }

  // Runs once more, every node by itself, and names the first whose result is not finite: a NaN if there is
  // one.
  std::string diagnose() const {
    std::string first;
    first_infinite = &first;
    std::uint64_t missed = 0;
    Capture c = capture(wishes, false, missed);
    for (Output& o : c.outputs) o.donor = no_index;
    try {
      for (const Node* n : c.nodes)
        if (n->value) look({n->value->buffer->data, {n->dtype, shape_of(n->shape)}}, *n);
      execute(make_plan(c, std::vector<bool>(c.numbers.size()), PassSet::none()), c, {.after_call = look});
    } catch (const FoundNaN& e) {
      return e.what();
    }
    return first;
  }
};

}  // namespace

void eval(std::span<const Tensor> tensors) {
  if (std::ranges::all_of(tensors, [](const Tensor& t) { return t.evaluated(); })) return;
  Run run;
  for (const Tensor& t : tensors)
    if (!t.evaluated()) run.want(t);
  for (const auto& p : pending_parameters()) run.want(p, p->pending, false);
  run.go(false);
}

void run_step(const Tensor& loss, std::span<const Update> updates) {
  if (!loss || !is_float(loss.dtype()) || loss.numel() != 1)
    throw UserError(fmt::format("step: the loss must be one float, and is {}; reduce it with mean or sum",
                                loss ? to_string(Type{loss.dtype(), loss.shape()}) : "an empty Tensor"));
  Run run;
  run.want(loss);
  for (const Update& u : updates) {
    const ParameterState& p = *u.parameter.state();
    if (!u.value || u.value.dtype() != p.leaf.dtype() || !(u.value.shape() == p.leaf.shape()))
      throw UserError(
          fmt::format("step: the new value of \"{}\" is {}, the parameter is {}", p.name,
                      u.value ? to_string(Type{u.value.dtype(), u.value.shape()}) : "an empty Tensor",
                      to_string(Type{p.leaf.dtype(), p.leaf.shape()})));
    for (const Update& other : updates.first(static_cast<std::size_t>(&u - updates.data())))
      if (other.parameter == u.parameter)
        throw UserError(fmt::format("step: the parameter \"{}\" is updated twice", p.name));
    run.want(u.parameter.state(), u.value, true);
  }
  for (const auto& p : pending_parameters())
    if (std::ranges::none_of(updates, [&](const Update& u) { return u.parameter.state() == p; }))
      run.want(p, p->pending, true);
  run.go(true);
  Node* n = loss.node();
  if (n->arity) release_inputs(n);
  if (n->has(node_flag::tracked)) n->flags |= node_flag::consumed;
}

PlanStats plan_stats() {
  const std::scoped_lock hold(cache().lock);
  return cache().stats;
}
void reset_plan_stats() {
  const std::scoped_lock hold(cache().lock);
  cache().stats = {};
}
std::shared_ptr<const Plan> last_plan() {
  const auto* const last = plan_run_last();
  return last ? *last : nullptr;
}
void watch_steps(const StepWatcher* watcher) { step_watcher = watcher; }
void clear_plan_cache() {
  const std::scoped_lock hold(cache().lock);
  cache().plans.clear();
  cache().items = 0;
}

}  // namespace opgrad
