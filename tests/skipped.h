// Cases that cannot run everywhere.
#pragma once
#include <cstdio>

// Says that a case cannot run here, and why, for the count of skipped tests.
inline void skipped(const char* test, const char* reason) { std::printf("[skipped] %s: %s\n", test, reason); }
