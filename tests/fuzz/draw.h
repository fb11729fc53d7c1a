// Random well-typed graphs over all registered operations.
#pragma once
#include "graph.h"

namespace opgrad::fuzz {

// The graph of a seed: 3 to 25 operations on small tensors, now and then (with this probability) on tensors
// large enough for several threads. The same seed gives the same graph as long as no operation and no example
// is added.
Graph random_graph(std::uint64_t seed, double large = 0.01);

}  // namespace opgrad::fuzz
