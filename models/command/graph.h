// opgrad graph: the captured graph of the lecture's network, or of a standard work, after any of the passes.
#pragma once
#include "command.h"

namespace opgrad {

Command add_graph(CLI::App& app);

}  // namespace opgrad
