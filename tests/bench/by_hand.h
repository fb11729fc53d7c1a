// What an expert would write instead: one loop over plain arrays, with this processor's
// vector instructions. n is a multiple of 16.
#pragma once
#include <cstdint>

namespace opgrad::bench {

// out = 2, 5 or 12 operations on x, as chain_of<2>, <5>, <12> have them.
void chain_of_2_by_hand(const float* x, float* out, std::int64_t n);
void chain_of_5_by_hand(const float* x, float* out, std::int64_t n);
void chain_of_12_by_hand(const float* x, float* out, std::int64_t n);

// One step of Adam with the factor a.
void adam_by_hand(float* value, float* m, float* v, const float* gradient, float a, std::int64_t n);

}  // namespace opgrad::bench
