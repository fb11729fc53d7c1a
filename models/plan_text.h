// A plan as text and as a drawing: every value with its shape, bytes, arithmetic and line.
#pragma once
#include <string>

#include "../graph/plan.h"

namespace opgrad {

// One line for each value: inputs and numbers first, then the steps in the order in which they run, with a
// line above those of a step that is more than one kernel.
std::string plan_text(const Plan& plan);

// The same for Graphviz.
std::string plan_dot(const Plan& plan);

}  // namespace opgrad
