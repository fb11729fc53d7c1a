// A record that is complete, and one without a kernel.
#include "idle.h"

constinit const opgrad::Op whole_op = idle("test.whole");
constinit const opgrad::Op lacking_op{
    .name = "test.lacking",
    .arity = 1,
    .about = "",
    .shape = idle("").shape,
    .forward = {},
    .backward = opgrad::no_gradient,
};
OPGRAD_REGISTER(whole_op, lacking_op)
