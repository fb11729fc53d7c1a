// Calls what nobody defines.
#include "idle.h"

void defined_nowhere();

constinit const opgrad::Op calling_op = idle("test.calling");
OPGRAD_REGISTER(calling_op)

void call_it() { defined_nowhere(); }
