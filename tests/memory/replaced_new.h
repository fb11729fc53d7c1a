// This program's operator new: it counts its calls, and can be told to fail.
#pragma once
#include <cstdint>

namespace opgrad::test {

// The n-th request from now fails, of all threads' together, and all after it if `persistent`. Ended by
// disarm(), which says how many have failed.
void arm(std::int64_t n, bool persistent);
std::uint64_t disarm();

// Requests of all threads since the program began.
std::uint64_t requests_of_new();

}  // namespace opgrad::test
