// Another file of the same program that takes the same name.
#include "idle.h"

constinit const opgrad::Op linked_twin_op = idle("test.linked");
OPGRAD_REGISTER(linked_twin_op)
