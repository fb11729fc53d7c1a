// Operations that come into a running program as shared objects.
#pragma once
#include <string>
#include <vector>

#include "ir.h"

namespace opgrad {

// Registers the operations of a shared object whose sources hold OPGRAD_REGISTER lines (registry.h), and
// returns its records. Loading it again, by whatever path, changes nothing and returns the same. May be
// called from any thread. UserError, with nothing registered, when there is no such file; when it cannot be
// loaded (the system's words are passed on: no shared object, a symbol that is missing); when it is no
// plug-in, was built for another version of opgrad, or brings a copy of opgrad of its own; when a record
// lacks a part or has a name that is taken. What was loaded once stays in memory, refused or not, and is not
// read again when the file changes: its code has run, and others may refer to it. Build one with: g++
// -std=c++20 -shared -fPIC mine.cpp -o mine.so $(pkg-config --cflags opgrad)
std::vector<const Op*> load_plugin(const std::string& path);

}  // namespace opgrad
