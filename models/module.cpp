// The tree of modules: names, weights, modes, files, the summary.
#include "module.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <typeinfo>

#include "../core/parallel.h"
#include "../optim/optimizer.h"
#include "safetensors.h"

namespace opgrad {

namespace {
constexpr ShapeId no_shape = std::numeric_limits<ShapeId>::max();

struct Weight {
  std::string name;
  Parameter parameter;
  bool statistic;
  Initializer initializer;
  std::int64_t fan_in, fan_out;
};
}  // namespace

// Shared by all handles of a module. The lock covers what inference from several threads may touch: weights,
// calls.
struct ModuleState {
  std::string type, name;
  std::weak_ptr<ModuleState> parent;
  std::vector<std::pair<std::string, std::shared_ptr<ModuleState>>> parts;
  std::mutex lock;
  std::vector<Weight> weights;
  std::optional<std::uint64_t> seed;
  bool training = true;
  bool frozen = false;
  std::atomic<ShapeId> output = no_shape;
  std::uint64_t call_step = 0, calls = 0;
};

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

std::string join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "/" + name;
}

// Calls f(path relative to `root`, state) for root and all below, in order, each state once.
using State = std::shared_ptr<ModuleState>;
void walk(const State& root, const std::function<void(const std::string&, const State&)>& f) {
  std::set<State> seen;
  const auto visit = [&](const auto& self, const std::string& path, const State& s) -> void {
    if (!seen.insert(s).second) return;
    f(path, s);
    for (const auto& [name, part] : s->parts) self(self, join(path, name), part);
  };
  visit(visit, "", root);
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

template <class T>
void fill(Initializer initializer, std::uint64_t stream, std::int64_t fan_in, std::int64_t fan_out,
          std::span<T> out) {
  const Key key{stream, 0};
  const auto in = static_cast<double>(fan_in), both = static_cast<double>(fan_in + fan_out);
  const auto uniform = [&](double limit) {
    parallel_ranges(std::ssize(out), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      T* x = out.data() + begin;
      fill_uniform(key, begin, end - begin, x);
      for (std::int64_t i = 0; i < end - begin; ++i)
        x[i] = static_cast<T>(limit * (2 * static_cast<double>(x[i]) - 1));
    });
  };
  switch (initializer) {
    case Initializer::glorot_uniform:
      return uniform(std::sqrt(6 / both));
    case Initializer::he_uniform:
      return uniform(std::sqrt(6 / in));
    case Initializer::he_normal: {
      // The deviation of a standard normal cut at +-2 is this much less than 1.
      const double scale = std::sqrt(2 / in) / 0.87962566103423978;
      const std::int64_t n = std::ssize(out);
      fill_normal(key, 0, n, out.data());
      for (std::int64_t i = 0; i < n; ++i) {
        T& x = out[static_cast<std::size_t>(i)];
        for (std::int64_t again = i + n; std::abs(x) > 2; again += n) fill_normal(key, again, 1, &x);
        x = static_cast<T>(scale * static_cast<double>(x));
      }
      return;
    }
    case Initializer::zeros:
      return std::fill(out.begin(), out.end(), T(0));
    case Initializer::ones:
      return std::fill(out.begin(), out.end(), T(1));
  }
}

// Drawn on the host, so that making weights runs no plan.
Tensor initial_value(const ModuleState& s, const Weight& w, const Shape& shape, DType dtype) {
  const auto count = static_cast<std::size_t>(shape.numel());
  BufferRef buffer = allocate(count * size_of(dtype));
  const std::uint64_t stream = fold_in(fold_in(seed_of(s), path_of(s)), w.name);
  dispatch_float(dtype, [&]<class T>() {
    fill(w.initializer, stream, w.fan_in, w.fan_out, std::span<T>(reinterpret_cast<T*>(buffer->data), count));
  });
  return leaf(std::move(buffer), dtype, shape, {});
}

std::span<const std::byte> bytes_of(const Tensor& x) {
  return dispatch(x.dtype(), [&]<class T>() {
    const auto values = x.values<T>();
    return std::as_bytes(std::span(values.data(), values.size()));
  });
}

std::string type_text(const Tensor& x) { return to_string(Type{x.dtype(), x.shape()}); }

std::string with_commas(std::int64_t n) {
  std::string s = std::to_string(n);
  for (auto i = std::ssize(s) - 3; i > 0; i -= 3) s.insert(static_cast<std::size_t>(i), 1, ',');
  return s;
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

// ------------------------------------------------------------------------------------------------ parts and
// weights

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

// ------------------------------------------------------------------------------------------------ modes

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

// ------------------------------------------------------------------------------------------------ files

void Module::save(const std::string& path) const {
  std::vector<Tensor> values;  // keep the bytes alive
  std::vector<NamedArrayView> arrays;
  for (const auto& [name, p] : parameters()) {
    values.push_back(p.value());
    arrays.push_back({name, {p.dtype(), p.shape()}, bytes_of(values.back())});
  }
  write_safetensors(path, arrays);
}

void Module::load(const std::string& path) {
  const std::vector<NamedArray> arrays = read_safetensors(path);
  std::map<std::string, const NamedArray*> given;
  for (const NamedArray& a : arrays) given[a.name] = &a;
  std::string faults;
  std::vector<Tensor> values;
  const auto wanted = parameters();
  if (wanted.empty())
    fail("it has no parameters before its first use; call build with the shape of the input, then load");
  for (const auto& [name, p] : wanted) {
    const auto found = given.find(name);
    const Type type{p.dtype(), p.shape()};
    if (found == given.end()) {
      faults += fmt::format("\n  missing: {} {}", name, to_string(type));
      continue;
    }
    const NamedArray& a = *found->second;
    if (a.type == type)
      values.push_back(tensor_from_bytes(a.bytes.data(), type.shape.numel(), type.dtype, type.shape, {}));
    else
      faults +=
          fmt::format("\n  misshaped: {} is {}, but must be {}", name, to_string(a.type), to_string(type));
    given.erase(found);
  }
  for (const NamedArray& a : arrays)
    if (given.contains(a.name)) faults += fmt::format("\n  extra: {} {}", a.name, to_string(a.type));
  if (!faults.empty())
    throw UserError(fmt::format("{} does not hold the weights of this model:{}", path, faults));
  set_weights(values);
}

void Module::set_weights(const std::vector<Tensor>& values) {
  const auto wanted = parameters();
  if (values.size() != wanted.size())
    fail(fmt::format("{} tensors were given for {} parameters", values.size(), wanted.size()));
  std::string faults;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Parameter& p = wanted[i].parameter;
    const std::string given = values[i] ? type_text(values[i]) : "an empty Tensor";
    if (const std::string type = to_string(Type{p.dtype(), p.shape()}); given != type)
      faults += fmt::format("\n  misshaped: {} was given {}, but must be {}", wanted[i].name, given, type);
  }
  if (!faults.empty()) fail("the tensors do not fit:" + faults);
  for (std::size_t i = 0; i < values.size(); ++i) {
    Parameter p = wanted[i].parameter;
    p.assign(values[i]);
  }
}

std::string Module::digest() const {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3;
  };
  for (const auto& [name, p] : parameters()) {
    const Tensor value = p.value();
    const std::string head = name + " " + type_text(value) + "\n";
    add(std::as_bytes(std::span(head)));
    add(bytes_of(value));
  }
  return fmt::format("{:016x}", hash);
}

// ------------------------------------------------------------------------------------------------ the
// summary

std::string Module::summary() const {
  struct Row {
    std::string layer, volume, parameters;
  };
  std::vector<Row> rows{{"layer", "output volume", "parameters"}};
  std::int64_t total = 0, frozen = 0;
  walk(state_, [&](const std::string& path, const State& state) {
    const ModuleState& s = *state;
    std::int64_t own = 0;
    for (const Weight& w : s.weights) {
      own += w.parameter.shape().numel();
      if (!w.parameter.trainable()) frozen += w.parameter.shape().numel();
    }
    total += own;
    if (path.empty() && s.weights.empty() && !s.parts.empty()) return;
    const std::string type = s.type.empty() ? type_name() : s.type;
    std::string layer = path.empty() ? type : path;
    if (const std::string last = layer.substr(layer.rfind('/') + 1); !last.starts_with(type))
      layer += " (" + type + ")";
    std::string volume;
    if (const ShapeId id = s.output.load(); id != no_shape)
      for (int axis = 1; axis < shape_of(id).rank(); ++axis)
        volume += (axis > 1 ? " x " : "") + std::to_string(shape_of(id)[axis]);
    rows.push_back({layer, volume, with_commas(own)});
  });
  rows.push_back({"total", "", with_commas(total)});
  if (frozen > 0) rows.push_back({"not trained", "", with_commas(frozen)});
  std::size_t first = 0, second = 0, third = 0;
  for (const Row& r : rows) {
    first = std::max(first, r.layer.size());
    second = std::max(second, r.volume.size());
    third = std::max(third, r.parameters.size());
  }
  const std::string rule = std::string(first + second + third + 4, '-') + "\n";
  std::string table;
  for (const Row& r : rows) {
    if (r.layer == "total") table += rule;
    table += fmt::format("{:<{}}  {:<{}}  {:>{}}\n", r.layer, first, r.volume, second, r.parameters, third);
    if (&r == rows.data()) table += rule;
  }
  return table;
}

// ------------------------------------------------------------------------------------------------ calls

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
