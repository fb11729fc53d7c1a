// Registers by hand and has no OPGRAD_REGISTER line.
#include "idle.h"

constinit const opgrad::Op undescribed_op = idle("test.undescribed");
const bool registered = (opgrad::register_op(undescribed_op), true);
