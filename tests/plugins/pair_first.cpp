// One of two files of a plug-in, each with its own line; this one has two records.
#include "idle.h"

constinit const opgrad::Op first_op = idle("test.first");
constinit const opgrad::Op second_op = idle("test.second");
OPGRAD_REGISTER(first_op, second_op)

extern "C" std::size_t operations_seen_by_the_pair() { return opgrad::all_ops().size(); }
