// The version of opgrad; CMake reads it from here.
#pragma once

namespace opgrad {

inline constexpr char library_version[] = "0.1.0";

}  // namespace opgrad
