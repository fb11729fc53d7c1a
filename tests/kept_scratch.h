// Whether this build keeps scratch memory: under AddressSanitizer every array has memory of its own.
#pragma once
#include <thread>

#include "../core/buffer.h"
#include "../core/scratch.h"

namespace opgrad::test {

inline bool keeps_scratch() {
  bool kept = false;
  // In a thread that is new, and so is its memory.
  std::thread([&] {
    const void* const first = Scratch<char>(100).data();
    const std::uint64_t before = memory_stats().requests;
    kept = Scratch<char>(100).data() == first && memory_stats().requests == before;
  }).join();
  return kept;
}
inline constexpr const char* no_scratch_kept = "AddressSanitizer gives every array of scratch memory its own";

}  // namespace opgrad::test
