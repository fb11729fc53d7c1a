// opgrad bench: how long the standard works take.
#pragma once
#include "command.h"

namespace opgrad {

Command add_bench(CLI::App& app);

}  // namespace opgrad
