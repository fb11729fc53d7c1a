// Parameters: handles to leaves that are replaced.
#include "parameter.h"

#include <fmt/format.h>

#include "reused.h"
#include "run.h"
#include "scope.h"
#include "state.h"

namespace opgrad {
namespace {

// A fresh leaf over the same memory, so that no two parameters or variables share a node.
Tensor fresh_leaf(const Tensor& evaluated, std::uint16_t flags, ParameterState* state) {
  Tensor t = leaf(evaluated.node()->value->buffer, evaluated.dtype(), evaluated.shape(),
                  evaluated.node()->origin->where);
  t.node()->flags = flags;
  if (state) t.node()->u.parameter = state;
  return t;
}

using Pending = std::vector<std::weak_ptr<ParameterState>>;
Pending* pending() { return of_thread<Pending, ParameterState>(); }

}  // namespace

void set_leaf(ParameterState& p, Tensor new_leaf) noexcept {
  if (p.leaf) {
    p.leaf.node()->flags |= node_flag::replaced;
    p.leaf.node()->u.parameter = nullptr;
  }
  p.leaf = std::move(new_leaf);
  p.leaf.node()->u.parameter = &p;
  p.pending = {};
}

std::uint16_t leaf_flags(const ParameterState& p) {
  return static_cast<std::uint16_t>(node_flag::parameter | (p.trainable ? node_flag::tracked : 0));
}

void remember_pending(const std::shared_ptr<ParameterState>& p) {
  Pending* const all = pending();
  if (!all) return;
  for (const auto& known : *all)
    if (known.lock() == p) return;
  all->push_back(p);
}

std::vector<std::shared_ptr<ParameterState>> pending_parameters() {
  std::vector<std::shared_ptr<ParameterState>> alive;
  if (const Pending* const all = pending())
    for (const auto& weak : *all)
      if (auto p = weak.lock(); p && p->pending) alive.push_back(std::move(p));
  return alive;
}

void drop_settled() noexcept {
  Pending* const all = pending();
  if (!all) return;
  std::erase_if(*all, [](const std::weak_ptr<ParameterState>& weak) {
    const auto p = weak.lock();
    return !p || !p->pending;
  });
}

ParameterState::~ParameterState() {
  if (leaf) leaf.node()->u.parameter = nullptr;
}

Parameter::Parameter(std::string name, const Tensor& initial, bool trainable) {
  if (!initial) throw UserError(fmt::format("Parameter \"{}\": the initial value is an empty Tensor", name));
  eval(initial);
  state_ = std::make_shared<ParameterState>();
  state_->name = std::move(name);
  state_->trainable = trainable;
  state_->leaf = fresh_leaf(initial, leaf_flags(*state_), state_.get());
}

void Parameter::set_trainable(bool on) {
  if (state_->trainable == on) return;
  // Graphs already built keep the old leaf, with the tracking they were built with.
  const bool before = std::exchange(state_->trainable, on);
  try {
    Tensor next = fresh_leaf(state_->leaf, leaf_flags(*state_), state_.get());
    Tensor pending = std::move(state_->pending);
    set_leaf(*state_, std::move(next));
    state_->pending = std::move(pending);
  } catch (...) {
    state_->trainable = before;
    throw;
  }
}

void Parameter::assign(const Tensor& value) {
  if (!value || value.dtype() != dtype() || !(value.shape() == shape()))
    throw UserError(fmt::format("Parameter \"{}\" is {} and was assigned {}; cast or reshape the value first",
                                name(), to_string(Type{dtype(), shape()}),
                                value ? to_string(Type{value.dtype(), value.shape()}) : "an empty Tensor"));
  if (value.evaluated()) {
    set_leaf(*state_, fresh_leaf(value, leaf_flags(*state_), nullptr));
    return;
  }
  remember_pending(state_);
  state_->pending = value;
}

Tensor variable(const Tensor& x) {
  eval(x);
  return fresh_leaf(x, node_flag::tracked, nullptr);
}

}  // namespace opgrad
