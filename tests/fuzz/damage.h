// Ways to break a program or a plan, each the mistake that a pass might make: to see that it is noticed.
#pragma once
#include <vector>

#include "../../graph/plan.h"

namespace opgrad::fuzz {

// Breaks what it is given wherever its mistake fits; false where it fits nowhere.
struct Damage {
  const char* name;
  bool (*early)(Program&) = nullptr;  // before items have an order
  bool (*late)(Program&) = nullptr;   // after all passes
  bool (*plan)(Plan&) = nullptr;
};

std::vector<Damage> damages_of_algebra();    // damage_algebra.cpp: items, their inputs and numbers
std::vector<Damage> damages_of_structure();  // damage_structure.cpp: types, outputs, donors, order, groups
std::vector<Damage> damages_of_plans();      // damage_plan.cpp

}  // namespace opgrad::fuzz
