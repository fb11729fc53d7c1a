// This program's operator new: it counts its calls and bytes, and can be told to fail.
#pragma once
#include <cstddef>
#include <cstdint>

namespace opgrad::test {

// The n-th request from now fails, of all threads' together, and all after it if `persistent`. Ended by
// disarm(), which says how many have failed.
void arm(std::int64_t n, bool persistent);
std::uint64_t disarm();

// Bytes that it has given and that have not come back, and the most that there have been since the last
// reset.
std::size_t live_bytes();
std::size_t peak_live_bytes();
void reset_peak_live_bytes();

// Requests of all threads since the program began.
std::uint64_t requests_of_new();

}  // namespace opgrad::test
