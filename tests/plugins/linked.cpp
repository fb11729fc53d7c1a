// A file that is linked into a program.
#include "idle.h"

constinit const opgrad::Op linked_op = idle("test.linked");
OPGRAD_REGISTER(linked_op)
