// A seam for those who test gradients: another backward rule for an operation, for a while.
#pragma once
#include <functional>

#include "ir.h"

namespace opgrad {

using BackwardRule = std::function<Grads(const Tensor& y, const Tensor& dy, Wanted wanted)>;

// While it lives on this thread, gradients use `rule` in place of the backward rule of `op`. The innermost of
// several for one operation counts. `rule` itself may call op.backward. An operation whose record says
// no_gradient stays without.
class BackwardOverride {
 public:
  BackwardOverride(const Op& op, BackwardRule rule);
  ~BackwardOverride();
  BackwardOverride(const BackwardOverride&) = delete;
  BackwardOverride& operator=(const BackwardOverride&) = delete;

  static bool any();
  static const BackwardRule* of(const Op& op);  // null: the record's own

 private:
  const Op& op_;
  BackwardRule rule_;
  BackwardOverride* outer_;
};

}  // namespace opgrad
