// Two records of one name.
#include "idle.h"

constinit const opgrad::Op twice_op = idle("test.twice");
constinit const opgrad::Op twice_again_op = idle("test.twice");
OPGRAD_REGISTER(twice_op, twice_again_op)
