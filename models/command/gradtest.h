// opgrad gradtest: tests the gradients of registered operations, those of plug-ins included.
#pragma once
#include "command.h"

namespace opgrad {

// Exit codes: 0 passed, 1 a wrong gradient, 2 inconclusive, 3 a rule or examples are missing, 4 wrong usage.
Command add_gradtest(CLI::App& app);

}  // namespace opgrad
