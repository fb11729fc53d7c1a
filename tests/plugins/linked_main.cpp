// The program that the linked files make; it says where their operation comes from.
#include <cstdio>

#include "../../graph/registry.h"

int main() { std::puts(opgrad::source_of(*opgrad::find_op("test.linked")).c_str()); }
