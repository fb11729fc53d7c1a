// A shared library that programs link as usual, and that may be loaded as a plug-in as well.
#include "idle.h"

constinit const opgrad::Op library_op = idle("test.library");
OPGRAD_REGISTER(library_op)

std::size_t operations_seen_by_the_library() { return opgrad::all_ops().size(); }
