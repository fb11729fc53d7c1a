// The step that all optimizers share, the published updates, and clipping.
#include "optimizer.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "../graph/run.h"
#include "../graph/scope.h"
#include "../ops/ops.h"

namespace opgrad {
namespace {

Tensor zero_leaf(DType dtype, const Shape& shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  BufferRef buffer = allocate(bytes);
  if (bytes) std::memset(buffer->data, 0, bytes);
  return leaf(std::move(buffer), dtype, shape, {});
}

void check_option(const char* optimizer, const char* option, double value, double low, double high) {
  if (value >= low && value < high) return;
  throw UserError(fmt::format("{}: {} is {}, but must be at least {} and less than {}", optimizer, option,
                              value, low, high));
}

constexpr double infinity = std::numeric_limits<double>::infinity();

thread_local std::uint64_t steps_of_thread = 0;

}  // namespace

std::uint64_t training_step() { return steps_of_thread; }
void set_training_step(std::uint64_t step) { steps_of_thread = step; }

// ------------------------------------------------------------------------------------------------ what all
// share

struct Optimizer::State {
  // A parameter's slots, and what of them a step that succeeded has left: the others go with a step that
  // fails.
  struct Kept {
    Slots slots;
    std::size_t settled = 0;
    bool moved = false;
  };
  LearningRate rate;
  std::int64_t steps = 0;
  double rate_now = 0;  // during apply
  bool applying = false;
  std::map<const ParameterState*, Kept> slots;  // a Slots holds its parameter, so no address comes twice
};

Slots::Remembered& Slots::operator()(const std::string& name) {
  for (const auto& s : slots_)
    if (s->name == name) {
      if (!s->value) s->value = s->state.value();
      return s->value;
    }
  Parameter state(owner_.name() + "/" + name, zero_leaf(owner_.dtype(), owner_.shape()), false);
  slots_.push_back(std::make_unique<Slot>(name, state, state.value()));
  return slots_.back()->value;
}

Optimizer::Optimizer(LearningRate rate)
    : state_(std::make_unique<State>(State{std::move(rate), 0, 0, false, {}})) {}
Optimizer::~Optimizer() = default;

std::int64_t Optimizer::steps() const { return state_->steps; }

double Optimizer::learning_rate() const {
  if (state_->applying) return state_->rate_now;
  return state_->rate(state_->steps);
}

void Optimizer::set_learning_rate(LearningRate rate) { state_->rate = std::move(rate); }

Tensor Optimizer::slot(const Parameter& parameter, const std::string& name) const {
  const auto found = state_->slots.find(parameter.state().get());
  if (found == state_->slots.end()) return zeros(parameter.shape(), parameter.dtype());
  std::string known;
  for (const auto& s : found->second.slots.slots_) {
    if (s->name == name) return s->state.value();
    known += (known.empty() ? "" : ", ") + s->name;
  }
  throw UserError(fmt::format("slot: the optimizer keeps no '{}' of {}; it keeps: {}", name, parameter.name(),
                              known.empty() ? "nothing" : known));
}

Tensor Optimizer::step(const Operand& loss) {
  const CallScope line(loss.where());
  return apply(gradients(loss), loss.where().file, loss.where().line);
}

Tensor Optimizer::step(const Operand& loss, std::span<const Parameter> parameters) {
  const CallScope line(loss.where());
  return apply(gradients(loss, parameters), loss.where().file, loss.where().line);
}

Tensor Optimizer::apply(Gradients given, const char* file, int line) {
  const CallScope scope({file, line});
  const auto fail = [&](const std::string& message) {
    throw UserError(fmt::format("step: {}\n  at {}", message, to_string(*origin_at({file, line}))));
  };
  if (given.parameters.size() != given.gradients.size())
    fail(fmt::format("{} gradients were given for {} parameters", given.gradients.size(),
                     given.parameters.size()));
  if (!given.loss) fail("the gradients come without the loss they belong to; set Gradients::loss");

  // Marks the step as under way, and as not taken unless it succeeds.
  struct Progress {
    State& s;
    bool done = false;
    explicit Progress(State& state) : s(state) {
      s.rate_now = s.rate(s.steps);
      s.applying = true;
      ++s.steps;
    }
    ~Progress() {
      s.applying = false;
      if (!done) {
        --s.steps;
        std::erase_if(s.slots, [](const auto& entry) { return !entry.second.moved; });
      }
      for (auto& [owner, kept] : s.slots) {
        auto& slots = kept.slots.slots_;
        if (!done) slots.erase(slots.begin() + static_cast<std::ptrdiff_t>(kept.settled), slots.end());
        kept.settled = slots.size();
        kept.moved = true;
        for (auto& slot : slots) slot->value = Tensor();
      }
    }
  } progress(*state_);
  const double rate = state_->rate_now;
  if (!(rate >= 0 && rate < infinity))
    fail(fmt::format("the learning rate of step {} is {}; it must be a finite number, 0 or more",
                     state_->steps - 1, rate));

  std::vector<Update> updates;
  std::set<const ParameterState*> seen;
  for (std::size_t i = 0; i < given.parameters.size(); ++i) {
    const Parameter& p = given.parameters[i];
    const Tensor& g = given.gradients[i];
    if (!seen.insert(p.state().get()).second) fail(fmt::format("parameter {} is given twice", p.name()));
    if (!g || g.dtype() != p.dtype() || g.shape() != p.shape())
      fail(
          fmt::format("the gradient for parameter {} of type {}{} is {}", p.name(), name_of(p.dtype()),
                      to_string(p.shape()),
                      g ? fmt::format("{}{}", name_of(g.dtype()), to_string(g.shape())) : "an empty Tensor"));
    const PathScope path(p.name());
    Slots& slots = state_->slots.try_emplace(p.state().get(), State::Kept{Slots(p)}).first->second.slots;
    Tensor next = update(p.value(), g, slots);
    if (!next || next.dtype() != p.dtype() || next.shape() != p.shape())
      fail(fmt::format(
          "update gave {} for parameter {} of type {}{}; it must give a tensor of the parameter's type",
          next ? fmt::format("{}{}", name_of(next.dtype()), to_string(next.shape())) : "an empty Tensor",
          p.name(), name_of(p.dtype()), to_string(p.shape())));
    const auto replace = [&](const Parameter& parameter, Tensor value) {
      if (value.node() != parameter.value().node()) updates.push_back({parameter, std::move(value)});
    };
    replace(p, std::move(next));
    for (const auto& slot : slots.slots_)
      if (Tensor& value = slot->value) replace(slot->state, std::exchange(value, {}));
  }

  const Tensor loss = std::move(given.loss);
  given = {};  // what the caller does not hold need not be kept
  try {
    run_step(loss, updates);
  } catch (const Error& e) {
    const std::string_view message = e.what();
    constexpr std::string_view head = "step: the loss is not finite";
    if (!message.starts_with(head)) throw;
    throw UserError(
        fmt::format("step {}{}\n  a smaller learning rate, clip_by_global_norm or scaled inputs often help",
                    state_->steps, message.substr(4)));
  }
  progress.done = true;
  ++steps_of_thread;
  return loss;
}

// ------------------------------------------------------------------------------------------------ published
// updates

SGD::SGD(SGDOptions options) : Optimizer(options.learning_rate), options_(std::move(options)) {
  check_option("SGD", "momentum", options_.momentum, 0, 1);
  check_option("SGD", "weight_decay", options_.weight_decay, 0, infinity);
  if (options_.nesterov && options_.momentum == 0)
    throw UserError(
        "SGD: nesterov needs a momentum above 0, for example {.momentum = 0.9, .nesterov = true}");
}

Tensor SGD::update(const Tensor& value, const Tensor& gradient, Slots& slots) {
  const Tensor g = options_.weight_decay != 0 ? gradient + options_.weight_decay * value : gradient;
  if (options_.momentum == 0) return value - rate(value) * g;
  const Tensor move = rate(value) * g;
  Tensor& speed = slots("momentum");
  speed = options_.momentum * speed - move;
  return options_.nesterov ? value + options_.momentum * speed - move : value + speed;
}

namespace {

template <class Options>
void check_adam(const char* name, const Options& o) {
  check_option(name, "beta1", o.beta1, 0, 1);
  check_option(name, "beta2", o.beta2, 0, 1);
  check_option(name, "epsilon", o.epsilon, 0, infinity);
}

// What Adam takes away from the value, up to the factor a, which changes from step to step.
Tensor adam_direction(double beta1, double beta2, double epsilon, const Tensor& gradient, Slots& slots) {
  Tensor& m = slots("m");
  Tensor& v = slots("v");
  m = beta1 * m + (1 - beta1) * gradient;
  v = beta2 * v + (1 - beta2) * square(gradient);
  return m / (sqrt(v) + epsilon);
}

double adam_rate(double rate, double beta1, double beta2, std::int64_t t) {
  const auto step = static_cast<double>(t);
  return rate * std::sqrt(1 - std::pow(beta2, step)) / (1 - std::pow(beta1, step));
}

}  // namespace

Adam::Adam(AdamOptions options) : Optimizer(options.learning_rate), options_(std::move(options)) {
  check_adam("Adam", options_);
}

Tensor Adam::update(const Tensor& value, const Tensor& gradient, Slots& slots) {
  const auto& o = options_;
  const double a = adam_rate(learning_rate(), o.beta1, o.beta2, steps());
  return value - changing(a, value) * adam_direction(o.beta1, o.beta2, o.epsilon, gradient, slots);
}

AdamW::AdamW(AdamWOptions options) : Optimizer(options.learning_rate), options_(std::move(options)) {
  check_adam("AdamW", options_);
  check_option("AdamW", "weight_decay", options_.weight_decay, 0, infinity);
}

Tensor AdamW::update(const Tensor& value, const Tensor& gradient, Slots& slots) {
  const auto& o = options_;
  const double a = adam_rate(learning_rate(), o.beta1, o.beta2, steps());
  const Tensor kept = changing(1 - learning_rate() * o.weight_decay, value) * value;
  return kept - changing(a, value) * adam_direction(o.beta1, o.beta2, o.epsilon, gradient, slots);
}

// ------------------------------------------------------------------------------------------------ clipping

Gradients clip_by_global_norm(Gradients given, double limit) {
  if (!(limit > 0))
    throw UserError(fmt::format("clip_by_global_norm: the limit is {}, but must be above 0", limit));
  Tensor total;
  for (const Tensor& g : given.gradients) {
    if (total && g.dtype() != total.dtype())
      throw UserError(
          fmt::format("clip_by_global_norm: gradients of {} and {} do not share one norm; clip them apart",
                      name_of(total.dtype()), name_of(g.dtype())));
    total = total ? total + sum(square(g)) : sum(square(g));
  }
  if (!total) return given;
  // limit / max(norm, limit) is min(1, limit / norm) without a division by zero.
  const Tensor factor = limit / maximum(sqrt(total), limit);
  for (Tensor& g : given.gradients) g = g * factor;
  return given;
}

}  // namespace opgrad
