// A program as Graphviz draws it.
#pragma once
#include <string>

#include "../core/parallel.h"
#include "program.h"

namespace opgrad {

// The program in Graphviz's language: one node for each item, named i0, i1, ... by its place, one edge for
// each use of a value, and a frame around what runs together: tile groups with the kernel on whose pieces
// they run, and blocks of rows. Outputs have a double border. What `note` says of an item stands below its
// type, one line for each of its lines.
std::string to_dot(const Program& p, FunctionRef<std::string(std::uint32_t item)> note);

}  // namespace opgrad
