// Which vector instructions to use: chosen at run time, so that one binary runs everywhere and fast.
#pragma once
#include <atomic>
#include <cstdint>

namespace opgrad {

// In rising order. Elementwise results and reductions have the same bits on each of them: the compiler may
// not contract a*b+c into one rounding, and vector maths uses the variants without fused multiply-add.
// Products of f32 matrices and convolutions fuse where they can: equal bits with avx2 and avx512, others in
// baseline.
enum class Isa : std::uint8_t { baseline, avx2, avx512 };
inline constexpr int isa_count = 3;

// Bytes in one vector register: 16, 32, 64.
constexpr int vector_bytes(Isa i) { return 16 << static_cast<int>(i); }

const char* name_of(Isa);  // "baseline", "avx2", "avx512"

// The best this machine has: avx2 needs AVX2 and FMA; avx512 needs AVX-512 F, BW, DQ and VL besides.
Isa best_isa();

// Chooses the instructions for all threads; for tests. UserError when the machine lacks them.
void set_isa(Isa);

namespace detail {
extern std::atomic<int> chosen_isa;  // below zero until the first call of isa()
Isa choose_isa();
}  // namespace detail

// The instructions in use: set_isa, else the lower of best_isa() and the environment variable OPGRAD_ISA
// (baseline, avx2 or avx512; UserError when it is anything else).
inline Isa isa() {
  const int chosen = detail::chosen_isa.load(std::memory_order_relaxed);
  return chosen >= 0 ? static_cast<Isa>(chosen) : detail::choose_isa();
}

}  // namespace opgrad
