// Inside the room: graphs too large for one plan are run piece by piece.
#pragma once
#include <span>
#include <vector>

#include "../core/parallel.h"
#include "ir.h"

namespace opgrad {

// A plan for more nodes than this would cost more memory than the nodes themselves, and more time than many
// plans for parts of them, which are often alike and then one plan.
inline constexpr std::size_t most_nodes_at_once = std::size_t{1} << 14;

// Cuts what the roots depend on and has no value yet, in the order in which it can be computed, into pieces
// of so many nodes, and calls run(needed) for each but the last: `needed` are the nodes of that piece that
// nodes of later pieces read. The roots themselves are left to the caller.
void for_each_piece(std::span<Node* const> roots, FunctionRef<void(std::span<Node* const> needed)> run);

}  // namespace opgrad
