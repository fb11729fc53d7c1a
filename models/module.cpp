// The tree of modules: names, parts, weights, modes, calls.
#include "module.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <typeinfo>

#include "../optim/optimizer.h"
#include "initial_value.h"
#include "module_state.h"

namespace opgrad {

std::string join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "/" + name;
}

void walk(const State& root, const std::function<void(const std::string&, const State&)>& f) {
  std::set<State> seen;
  const auto visit = [&](const auto& self, const std::string& path, const State& s) -> void {
    if (!seen.insert(s).second) return;
    f(path, s);
    for (const auto& [name, part] : s->parts) self(self, join(path, name), part);
  };
  visit(visit, "", root);
}

namespace {

thread_local const LayerCall* current_call = nullptr;

std::string path_of(const ModuleState& s) {
  std::string path = s.name;
  for (auto up = s.parent.lock(); up; up = up->parent.lock())
    if (!up->name.empty()) path = up->name + "/" + path;
  return path;
}

std::uint64_t seed_of(const ModuleState& s) {
  if (s.seed) return *s.seed;
  for (auto up = s.parent.lock(); up; up = up->parent.lock())
    if (up->seed) return *up->seed;
  return 0;
}

// Keras's rule from class names to layer names: Conv2D -> conv2d, BatchNormalization -> batch_normalization.
std::string snake_case(const std::string& name) {
  const auto at = [&](std::size_t i) { return i < name.size() ? static_cast<unsigned char>(name[i]) : 0; };
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool word_begins =
        std::isupper(at(i)) && (std::islower(at(i + 1)) || (i > 0 && std::islower(at(i - 1))));
    if (i > 0 && word_begins) out += '_';
    out += static_cast<char>(std::tolower(at(i)));
  }
  return out;
}

// A layer that is part of nothing is called by its type and a number that is its own in this process.
void name_lone_module(ModuleState& s, const std::string& type) {
  static std::mutex table_lock;
  static std::map<std::string, int> count;
  if (!s.name.empty() || !s.parts.empty() || s.parent.lock()) return;
  const std::scoped_lock hold(table_lock);
  const int n = count[type]++;
  s.name = n == 0 ? type : fmt::format("{}_{}", type, n);
}

// Follows from the seed and the path alone, not from the order in which layers are used.
Tensor initial_value(const ModuleState& s, const Weight& w, const Shape& shape, DType dtype) {
  const std::uint64_t stream = fold_in(fold_in(seed_of(s), path_of(s)), w.name);
  return initial_value(w.initializer, stream, w.fan_in, w.fan_out, shape, dtype);
}

}  // namespace

Module::Module() : state_(std::make_shared<ModuleState>()) {}
Module::~Module() = default;

std::string Module::type_name() const {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> readable(
      abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status), std::free);
  std::string name = status == 0 ? readable.get() : typeid(*this).name();
  name = name.substr(0, name.find('<'));
  if (const auto colon = name.rfind(':'); colon != name.npos) name = name.substr(colon + 1);
  return snake_case(name);
}

std::string Module::path() const { return path_of(*state_); }

void Module::fail(const std::string& message) const {
  throw UserError(fmt::format("{}: {}\n  at {}", type_name(), message, to_string(*origin_at({}))));
}

// -------------------------------------------------------------------------------- parts and weights

void Module::add_part(const std::string& name, const Module& part) const {
  ModuleState& s = *state_;
  ModuleState& p = *part.state_;
  if (name.empty() || name.find('/') != name.npos)
    fail(fmt::format(
        "a part cannot be named '{}'; names stand in paths, so they are not empty and have no '/'", name));
  for (const auto& [taken, other] : s.parts)
    if (taken == name) fail(fmt::format("two parts are named '{}'; each needs a name of its own", name));
  for (auto up = state_; up; up = up->parent.lock())
    if (up == part.state_) fail(fmt::format("part '{}' contains the module it is added to", name));
  s.parts.emplace_back(name, part.state_);
  if (p.parent.lock()) return;  // shared with another module, whose path it keeps
  p.parent = state_;
  p.name = name;
  p.type = part.type_name();
  walk(part.state_, [](const std::string&, const State& below) {
    for (Weight& w : below->weights) w.parameter.rename(join(path_of(*below), w.name));
  });
}

Parameter Module::existing(const std::string& name) const {
  const std::scoped_lock hold(state_->lock);
  for (const Weight& w : state_->weights)
    if (w.name == name) return w.parameter;
  return {};
}

Parameter Module::weight(const std::string& name, const Shape& shape, DType dtype, Initializer initializer,
                         std::int64_t fan_in, std::int64_t fan_out) const {
  return make_weight(name, shape, dtype, initializer, fan_in, fan_out, false);
}

Parameter Module::statistic(const std::string& name, const Shape& shape, DType dtype,
                            Initializer initializer) const {
  return make_weight(name, shape, dtype, initializer, 1, 1, true);
}

Parameter Module::make_weight(const std::string& name, const Shape& shape, DType dtype,
                              Initializer initializer, std::int64_t fan_in, std::int64_t fan_out,
                              bool statistic) const {
  ModuleState& s = *state_;
  const std::scoped_lock hold(s.lock);
  for (const Weight& w : s.weights) {
    if (w.name != name) continue;
    if (w.parameter.dtype() != dtype || w.parameter.shape() != shape)
      fail(fmt::format("{} is {} from the first use on, but {} is wanted now", name,
                       to_string(Type{w.parameter.dtype(), w.parameter.shape()}),
                       to_string(Type{dtype, shape})));
    return w.parameter;
  }
  if (!is_float(dtype))
    fail(
        fmt::format("weights are f32 or f64, but the input is {}; write cast(x, DType::f32), for bytes / 255",
                    name_of(dtype)));
  const LayerCall* caller = current_call;
  if (caller && caller->module_.state_ == state_) caller = caller->outer_;
  if (caller && !s.parent.lock())
    fail(fmt::format(
        "it is called by {}, but is not one of its parts, so its weights would not be found there; "
        "write add(\"name\", ...) where the member is initialised",
        caller->module_.type_name()));
  name_lone_module(s, type_name());
  Weight w{name, {}, statistic, initializer, fan_in, fan_out};
  w.parameter = Parameter(join(path_of(s), name), initial_value(s, w, shape, dtype), !statistic && !s.frozen);
  s.weights.push_back(w);
  return w.parameter;
}

std::vector<NamedParameter> Module::parameters() const {
  std::vector<NamedParameter> all;
  walk(state_, [&](const std::string& path, const State& s) {
    const std::scoped_lock hold(s->lock);
    for (const Weight& w : s->weights) all.push_back({join(path, w.name), w.parameter});
  });
  return all;
}

Parameter Module::parameter(const std::string& name) const {
  std::string known;
  for (const auto& [path, p] : parameters()) {
    if (path == name) return p;
    known += (known.empty() ? "" : ", ") + path;
  }
  fail(fmt::format("there is no parameter '{}'; there are: {}", name,
                   known.empty() ? "none before the first use (see build)" : known));
}

std::int64_t Module::parameter_count() const {
  std::int64_t n = 0;
  for (const auto& p : parameters()) n += p.parameter.shape().numel();
  return n;
}

void Module::initialize(std::uint64_t seed) {
  state_->seed = seed;
  walk(state_, [&](const std::string&, const State& s) {
    if (s != state_) s->seed.reset();
    s->calls = 0;
    for (Weight& w : s->weights)
      w.parameter.assign(initial_value(*s, w, w.parameter.shape(), w.parameter.dtype()));
  });
}

// -------------------------------------------------------------------------------- modes

void Module::set_frozen(bool on) {
  walk(state_, [&](const std::string&, const State& s) {
    s->frozen = on;
    for (Weight& w : s->weights)
      if (!w.statistic) w.parameter.set_trainable(!on);
  });
}
void Module::freeze() { set_frozen(true); }
void Module::unfreeze() { set_frozen(false); }

void Module::train(bool on) {
  walk(state_, [&](const std::string&, const State& s) { s->training = on; });
}
bool Module::training() const { return state_->training; }

Mode::Mode(const Module& module, bool training) {
  walk(module.state_, [&](const std::string&, const State& s) {
    before_.emplace_back(s, s->training);
    s->training = training;
  });
}
Mode::~Mode() {
  for (const auto& [state, training] : before_)
    if (const auto s = state.lock()) s->training = training;
}

void Module::build(const Shape& input, DType dtype, const char* file, int line) const {
  const Mode mode(*this, false);
  call(Operand(full(input, 0, dtype), file, line));
}

Key Module::call_key() const {
  ModuleState& s = *state_;
  const std::scoped_lock hold(s.lock);
  name_lone_module(s, type_name());
  const std::uint64_t step = training_step();
  if (s.call_step != step) s.calls = 0;
  s.call_step = step;
  return {fold_in(fold_in(fold_in(seed_of(s), path_of(s)), "call"), s.calls++), step};
}

// -------------------------------------------------------------------------------- calls

LayerCall::LayerCall(const Module& module, Location where)
    : module_(module), outer_(std::exchange(current_call, this)), line_(where) {
  ModuleState& s = *module.state_;
  std::string name;
  {
    const std::scoped_lock hold(s.lock);
    if (s.type.empty()) s.type = module.type_name();
    name = s.name.empty() && s.parts.empty() ? s.type : s.name;
  }
  if (!name.empty()) path_.emplace(name);
}

LayerCall::~LayerCall() { current_call = outer_; }

Tensor LayerCall::result(Tensor y) const {
  if (!y) module_.fail("forward returned an empty Tensor");
  module_.state_->output.store(y.node()->shape, std::memory_order_relaxed);
  return y;
}

void Sequential::append(std::shared_ptr<Module> layer) {
  const auto& parts = state_->parts;
  const bool shared =
      std::any_of(parts.begin(), parts.end(), [&](const auto& p) { return p.second == layer->state_; });
  layers_.push_back(layer);
  if (shared) return;
  const std::string type = layer->type_name();
  const auto taken = [&](const std::string& name) {
    return std::any_of(parts.begin(), parts.end(), [&](const auto& p) { return p.first == name; });
  };
  std::string name = type;
  for (int i = 1; taken(name); ++i) name = fmt::format("{}_{}", type, i);
  add_part(name, *layer);
}

Tensor Sequential::forward(const Tensor& x) const {
  Tensor y = x;
  for (const auto& layer : layers_) y = (*layer)(y);
  return y;
}

}  // namespace opgrad
