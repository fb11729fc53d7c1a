// Inside the room: graphs too large for one plan are run piece by piece.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "../core/parallel.h"
#include "capture.h"

namespace opgrad {

// A plan for more nodes than this would cost more memory than the nodes themselves, and more time than many
// plans for parts of them, which are often alike and then one plan.
inline constexpr std::size_t most_nodes_at_once = std::size_t{1} << 14;
// What is cut has smaller pieces: a plan takes several times the memory of its nodes while it is made.
inline constexpr std::size_t nodes_of_piece = std::size_t{1} << 11;
static_assert(nodes_of_piece < most_nodes_at_once);

// Cuts what the roots depend on and has no value yet, in the order in which it can be computed, into pieces
// of nodes_of_piece nodes, and calls run(needed) for each but the last: `needed` are the nodes of that piece
// that nodes of later pieces read, `with_held` also those that somebody outside the graph holds. The roots
// themselves are left to the caller. Returns how often the graph referred to each of `counted` at first.
std::vector<std::uint32_t> for_each_piece(std::span<Node* const> roots, bool with_held,
                                          std::span<Node* const> counted,
                                          FunctionRef<void(std::span<Node* const> needed)> run);

// For the capture that is left when the pieces of a step have run: donations that were missed only since
// nodes of those pieces, which go with the step, still refer to the donor. uses[i] says how often the whole
// graph does to that of wish i.
void donate_behind_pieces(Capture& c, std::span<const Wish> wishes, std::span<const std::uint32_t> uses,
                          std::uint64_t& missed);

}  // namespace opgrad
