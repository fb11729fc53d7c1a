// A program with opgrad linked in statically tries to load the plug-in that is its argument.
#include <fmt/format.h>

#include "../../graph/plugin.h"
#include "../../graph/registry.h"

int main(int, char** arguments) {
  try {
    opgrad::load_plugin(arguments[1]);
    fmt::print("loaded\n");
  } catch (const opgrad::UserError& e) {
    fmt::print("{}\n", e.what());
  }
}
