// The built-in operations reach the registry of every program that includes ops.h, static archive or not.
#pragma once

namespace opgrad {

// Puts every record of this room into the registry, once; true.
bool register_builtin_ops();

inline const bool builtins_registered = register_builtin_ops();

}  // namespace opgrad
