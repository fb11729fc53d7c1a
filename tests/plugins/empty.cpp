// The line without a record.
#include "../../graph/registry.h"

OPGRAD_REGISTER()
