// Placing buffers with known lifetimes in one arena.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace opgrad {

// Alive from step `begin` to step `end`, both included.
struct Lifetime {
  std::uint32_t begin, end;
  std::size_t bytes;
  std::size_t offset = 0;  // the answer, 64-byte aligned
};

// Sets the offsets so that lifetimes that overlap in time do not overlap in memory; returns the arena's size.
// The best of several orders of placing for up to 2000 lifetimes, best fit in order of begin beyond (in
// O(n log n), for chains of millions). lower_bound becomes the largest sum of live bytes.
std::size_t place(std::vector<Lifetime>& lifetimes, std::size_t& lower_bound);

}  // namespace opgrad
