// Inside the room: how a run replaces the leaves of parameters.
#pragma once
#include <memory>
#include <vector>

#include "parameter.h"

namespace opgrad {

// Puts a new leaf (made with leaf_flags) into the parameter and marks the old one as replaced. Cannot fail.
void set_leaf(ParameterState& p, Tensor new_leaf) noexcept;
std::uint16_t leaf_flags(const ParameterState& p);

// The parameters of this thread that wait for a pending value: outputs of its next plan.
void remember_pending(const std::shared_ptr<ParameterState>& p);
std::vector<std::shared_ptr<ParameterState>> pending_parameters();
// Forgets those that wait no longer.
void drop_settled() noexcept;

}  // namespace opgrad
