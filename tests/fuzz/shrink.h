// A failing graph made smaller.
#pragma once
#include <functional>

#include "graph.h"

namespace opgrad::fuzz {

// The smallest graph found that still fails: without outputs, nodes, elements and peculiar numbers that do
// not matter. `fails` is asked of graphs that can be built only.
Graph shrink(Graph g, const std::function<bool(const Graph&)>& fails);

}  // namespace opgrad::fuzz
