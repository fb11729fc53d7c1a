// A new name, and one that another plug-in has.
#include "idle.h"

constinit const opgrad::Op fresh_op = idle("test.fresh");
constinit const opgrad::Op cube_again_op = idle("test.cube");
OPGRAD_REGISTER(fresh_op, cube_again_op)
