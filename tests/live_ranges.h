// A second opinion on a plan's memory: the plan is run on names of elements instead of numbers.
#pragma once
#include <string>
#include <vector>

#include "../graph/plan.h"

namespace opgrad::test {

// What is wrong with a plan's memory, one sentence each, at most `most`; nothing where it is sound. Known of
// the plan are its steps, calls and operands, and of the program which item reads which; lifetimes and places
// are worked out anew. Faults are: a read of bytes that hold another value or none (overwritten before the
// last read, never written, wrong element), bytes out of bounds, a call that writes over what it reads in
// another order, tiles of a group that depend on each other's order, donated memory written before the tail
// or shared, a tail that may throw, an output that is not complete in time.
std::vector<std::string> memory_faults(const Plan& plan, std::size_t most = 1);

}  // namespace opgrad::test
