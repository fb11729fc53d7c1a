// The rules in force, innermost first, one list per thread.
#include "override.h"

#include <utility>

namespace opgrad {
namespace {

thread_local BackwardOverride* innermost = nullptr;

}  // namespace

BackwardOverride::BackwardOverride(const Op& op, BackwardRule rule)
    : op_(op), rule_(std::move(rule)), outer_(innermost) {
  innermost = this;
}

BackwardOverride::~BackwardOverride() { innermost = outer_; }

bool BackwardOverride::any() { return innermost != nullptr; }

const BackwardRule* BackwardOverride::of(const Op& op) {
  for (const BackwardOverride* o = innermost; o; o = o->outer_)
    if (&o->op_ == &op) return &o->rule_;
  return nullptr;
}

}  // namespace opgrad
