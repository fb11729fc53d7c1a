// The name of an operation that comes with opgrad.
#include "idle.h"

constinit const opgrad::Op tanh_again_op = idle("tanh");
OPGRAD_REGISTER(tanh_again_op)
