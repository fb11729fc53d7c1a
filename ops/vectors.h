// One loop body for every vector instruction set: written over packs of `bytes` bytes, compiled three times,
// chosen at run time.
#pragma once
#include "../core/isa.h"
#include "../core/pack.h"

namespace opgrad {

#ifndef __clang__
// Never defined: GCC knows the builtins below once it has met a function that is compiled for them.
[[gnu::target("avx512f,avx2,fma")]] void introduce_builtins();
#endif

// a * b + c, rounded once where the pack is that of AVX2 or AVX-512, which have an instruction for it, and
// twice in the baseline.
template <class T, int N>
[[gnu::always_inline]] inline kernel::Pack<T, N> multiply_add(const kernel::Pack<T, N>& a,
                                                              const kernel::Pack<T, N>& b,
                                                              const kernel::Pack<T, N>& c) {
#ifdef __clang__
  // Its builtins are refused here, for only what this is inlined into is compiled for the instructions.
#pragma clang fp contract(fast)
  return kernel::Pack<T, N>(a.v * b.v + c.v);
#else
  using P = kernel::Pack<T, N>;
  constexpr int bytes = N * static_cast<int>(sizeof(T));
  constexpr bool single = sizeof(T) == 4;
  [[maybe_unused]] constexpr int rounding_in_use = 4;
  if constexpr (bytes == 64 && single)
    return P(__builtin_ia32_vfmaddps512_mask(a.v, b.v, c.v, -1, rounding_in_use));
  else if constexpr (bytes == 64)
    return P(__builtin_ia32_vfmaddpd512_mask(a.v, b.v, c.v, 0xff, rounding_in_use));
  else if constexpr (bytes == 32 && single)
    return P(__builtin_ia32_vfmaddps256(a.v, b.v, c.v));
  else if constexpr (bytes == 32)
    return P(__builtin_ia32_vfmaddpd256(a.v, b.v, c.v));
  else
    return P(a.v * b.v + c.v);
#endif
}

// Body::run<bytes>(a...) compiled for the instructions in use, as a function. Body::run and all that it calls
// on packs have to be gnu::always_inline, since only what is inlined here is compiled for them.
template <class Body, class... A>
auto vector_function() -> void (*)(A...) {
  struct Compiled {
    static void baseline(A... b) { Body::template run<16>(b...); }
    [[gnu::target("avx2,fma")]] static void avx2(A... b) { Body::template run<32>(b...); }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] static void avx512(A... b) {
      Body::template run<64>(b...);
    }
  };
  switch (isa()) {
    case Isa::avx512:
      return Compiled::avx512;
    case Isa::avx2:
      return Compiled::avx2;
    case Isa::baseline:
      break;
  }
  return Compiled::baseline;
}

// Calls it.
template <class Body, class... A>
void in_vectors(A... a) {
  vector_function<Body, A...>()(a...);
}

}  // namespace opgrad
