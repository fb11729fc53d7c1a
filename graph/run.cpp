// eval and run_step: capture, find or make the plan, execute, commit.
#include "run.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <list>
#include <memory>
#include <mutex>

#include "plan.h"
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
  bool passes = true;
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

bool same_structure(const Plan& p, const Capture& c, bool passes) {
  return p.hash == c.hash && p.passes == passes && p.key == c.key;
}
bool same_numbers(const Plan& p, const Capture& c) {
  for (std::size_t i = 0; i < p.numbers.size(); ++i)
    if (p.number_fixed[i] && !same_bits(p.numbers[i], c.numbers[i])) return false;
  return true;
}

std::string item_text(const Item& i) {
  const std::string_view name = i.kind == ItemKind::slot     ? "input"
                                : i.kind == ItemKind::number ? "number"
                                                             : i.op->name;
  return fmt::format("{} {}", name, to_string(Type{i.dtype, shape_of(i.shape)}));
}

// The first difference to the plan last used, in words.
std::string reason(const Plan* last, const Capture& c) {
  if (!last) return "the first plan";
  const auto& before = last->program.items;
  const auto& now = c.program.items;
  for (std::size_t i = 0; i < std::min(before.size(), now.size()); ++i) {
    if (before[i].kind == now[i].kind && before[i].op == now[i].op && before[i].dtype == now[i].dtype &&
        before[i].shape == now[i].shape)
      continue;
    if (now[i].kind == ItemKind::slot && before[i].kind == ItemKind::slot)
      return fmt::format("input {} was {}, now {}", now[i].place,
                         to_string(Type{before[i].dtype, shape_of(before[i].shape)}),
                         to_string(Type{now[i].dtype, shape_of(now[i].shape)}));
    return fmt::format("value {} was {}, now {}", i, item_text(before[i]), item_text(now[i]));
  }
  if (before.size() != now.size())
    return fmt::format("the graph had {} values, now {}", before.size(), now.size());
  for (std::size_t i = 0; i < c.numbers.size(); ++i)
    if (!same_bits(last->numbers[i], c.numbers[i]))
      return fmt::format("number {} was {}, now {}", i, last->numbers[i], c.numbers[i]);
  return "attributes, wiring, sharing of memory or the set of outputs differ";
}

// Finds the plan or makes it; a capture that differs from a known plan in numbers only makes slots of those.
std::shared_ptr<const Plan> plan_for(Capture& c) {
  Cache& k = cache();
  std::vector<bool> fixed(c.numbers.size());
  for (std::size_t i = 0; i < fixed.size(); ++i) fixed[i] = !c.number_is_slot[i];
  bool passes = true;
  {
    const std::scoped_lock hold(k.lock);
    passes = k.passes;
    for (auto it = k.plans.begin(); it != k.plans.end(); ++it) {
      const Plan& p = **it;
      if (!same_structure(p, c, passes)) continue;
      if (same_numbers(p, c)) {
        ++k.stats.hits;
        k.plans.splice(k.plans.begin(), k.plans, it);
        return k.plans.front();
      }
      for (std::size_t i = 0; i < fixed.size(); ++i)
        if (!p.number_fixed[i] ||
            (!same_bits(p.numbers[i], c.numbers[i]) && !special(p.numbers[i]) && !special(c.numbers[i])))
          fixed[i] = false;
    }
    k.stats.last_miss = reason(k.plans.empty() ? nullptr : k.plans.front().get(), c);
    ++k.stats.plans;
  }
  auto plan = std::make_shared<Plan>(make_plan(c, passes));
  plan->number_fixed = std::move(fixed);
  const std::scoped_lock hold(k.lock);
  k.plans.push_front(plan);
  k.items += plan->program.items.size();
  while (k.plans.size() > 1 && (k.plans.size() > most_plans || k.items > most_items)) {
    k.items -= k.plans.back()->program.items.size();
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
    if (input->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(input);
}

// ------------------------------------------------------------------------------------------------ not finite

struct NotFinite {};
class FoundNaN : public Error {
 public:
  using Error::Error;
};
thread_local std::string first_infinite;

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
      if (first_infinite.empty()) first_infinite = std::move(text);
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
      attempt(consume);
    } catch (const NotFinite&) {
      throw UserError(diagnose());
    }
  }

 private:
  void attempt(bool consume) {
    std::uint64_t missed = 0;
    Capture c = capture(wishes, consume, missed);
    const std::shared_ptr<const Plan> plan = plan_for(c);
    const auto& outputs = plan->program.outputs;
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
    computed.reserve(outputs.size());
    Watch watch;
    if (consume)
      watch.before_tail = keep[0].dtype() == DType::f64
                              ? +[](std::span<const BufferRef> o) { check_loss(o, DType::f64); }
                              : +[](std::span<const BufferRef> o) { check_loss(o, DType::f32); };
    std::vector<BufferRef> buffers = execute(*plan, c, watch);

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
      if (consume || !n->has(node_flag::tracked)) release_inputs(n);
    }
    drop_settled();
    const std::scoped_lock hold(cache().lock);
    cache().stats.missed_donations += missed;
  }

  // Runs once more, every node by itself, and names the first whose result is not finite: a NaN if there is
  // one.
  std::string diagnose() const {
    first_infinite.clear();
    std::uint64_t missed = 0;
    Capture c = capture(wishes, false, missed);
    for (Output& o : c.program.outputs) o.donor = no_index;
    try {
      for (const Node* n : c.nodes)
        if (n->value) look({n->value->buffer->data, {n->dtype, shape_of(n->shape)}}, *n);
      execute(make_plan(c, false), c, {.after_call = look});
    } catch (const FoundNaN& e) {
      return e.what();
    }
    return first_infinite;
  }
};

thread_local std::vector<std::weak_ptr<ParameterState>> pending;

}  // namespace

void remember_pending(const std::shared_ptr<ParameterState>& p) {
  for (const auto& known : pending)
    if (known.lock() == p) return;
  pending.push_back(p);
}

std::vector<std::shared_ptr<ParameterState>> pending_parameters() {
  std::vector<std::shared_ptr<ParameterState>> alive;
  for (const auto& weak : pending)
    if (auto p = weak.lock(); p && p->pending) alive.push_back(std::move(p));
  return alive;
}

void drop_settled() noexcept {
  std::erase_if(pending, [](const std::weak_ptr<ParameterState>& weak) {
    const auto p = weak.lock();
    return !p || !p->pending;
  });
}

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
void clear_plan_cache() {
  const std::scoped_lock hold(cache().lock);
  cache().plans.clear();
  cache().items = 0;
}
void set_passes(bool on) {
  const std::scoped_lock hold(cache().lock);
  cache().passes = on;
}

}  // namespace opgrad
