// The other file of the plug-in, where the line stands in a namespace and ends with a semicolon.
#include "idle.h"

namespace other {
constinit const opgrad::Op third_op = idle("test.third");
OPGRAD_REGISTER(third_op);
}  // namespace other
