// Drawings by Graphviz.
#pragma once
#include <cstddef>
#include <string>

namespace opgrad {

// What Graphviz's `dot` makes of this text with `items` nodes. UserError where dot is not installed (it says
// what to install), fails, or would take too long: its layout is made for some thousand nodes.
std::string svg_of(const std::string& dot, std::size_t items);

}  // namespace opgrad
