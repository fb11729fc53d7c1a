// Loaded by many threads at once.
#include "idle.h"

constinit const opgrad::Op threads_op = idle("test.threads");
OPGRAD_REGISTER(threads_op)
