// The passes, in the order in which they run. Each is one function in one file.
#pragma once
#include "program.h"

namespace opgrad {

// Decides the order of steps by Boost.Graph's topological sort of what the outputs reach (dead items get no
// step), then moves what can neither throw nor be needed by anything else to the tail, where donated memory
// may be overwritten. Sets order and tail. Throws InternalError on a cycle.
void schedule(Program& p);

// Gives neighbours in `order` that are pointwise, of equal shape and on the same side of the tail one group:
// they run tile by tile in cache. Values are unchanged bit for bit, since an element depends on its own index
// alone.
void fuse_pointwise(Program& p);

}  // namespace opgrad
