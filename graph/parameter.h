// A parameter: a named leaf whose tensor is replaced, never written into. A node refers to the leaf as it was
// when the node was built.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "ir.h"

namespace opgrad {

struct ParameterState : std::enable_shared_from_this<ParameterState> {
  std::string name;
  bool trainable = true;
  Tensor leaf;     // the current value; always evaluated
  Tensor pending;  // what `assign` has given and no plan has computed yet
  ~ParameterState();
};

// A shared handle: copies name the same parameter. Empty when default constructed.
class Parameter {
 public:
  Parameter() = default;
  // Evaluates `initial` and keeps its value. Trainable parameters get gradients; others are state (batch
  // statistics).
  Parameter(std::string name, const Tensor& initial, bool trainable = true);

  const std::string& name() const { return state_->name; }
  void rename(std::string name) { state_->name = std::move(name); }
  const Shape& shape() const { return state_->leaf.shape(); }
  DType dtype() const { return state_->leaf.dtype(); }
  bool trainable() const { return state_->trainable; }
  // Freezes or thaws: a frozen parameter gets no gradient from `step`. The value is untouched.
  void set_trainable(bool on);

  // The tensor to compute with: what was last assigned, even if still pending.
  const Tensor& value() const { return state_->pending ? state_->pending : state_->leaf; }
  operator const Tensor&() const { return value(); }

  // Replaces the value by one of the same type (UserError otherwise). A pending tensor is not computed now:
  // it becomes an output of the next plan that this thread runs, so nothing grows from step to step.
  void assign(const Tensor& value);

  explicit operator bool() const { return state_ != nullptr; }
  bool operator==(const Parameter& o) const = default;
  const std::shared_ptr<ParameterState>& state() const { return state_; }
  explicit Parameter(std::shared_ptr<ParameterState> s) : state_(std::move(s)) {}

 private:
  std::shared_ptr<ParameterState> state_;
};

// A tensor one may differentiate with respect to: a leaf that keeps the graph built on it. It shares x's
// value.
Tensor variable(const Tensor& x);

inline Operand::Operand(const Parameter& p, const char* file, int line)
    : node_(p.value().node()), where_{file, line} {}

}  // namespace opgrad
