// One loop body for every vector instruction set: written over packs of `bytes` bytes, compiled three times,
// chosen at run time.
#pragma once
#include "../core/isa.h"
#include "../core/pack.h"

namespace opgrad {

// Calls Body::run<bytes>(a...) compiled for the instructions in use. Body::run and all that it calls on packs
// have to be gnu::always_inline, since only what is inlined here is compiled for them.
template <class Body, class... A>
void in_vectors(A... a) {
  struct Compiled {
    static void baseline(A... b) { Body::template run<16>(b...); }
    [[gnu::target("avx2")]] static void avx2(A... b) { Body::template run<32>(b...); }
    [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] static void avx512(A... b) {
      Body::template run<64>(b...);
    }
  };
  switch (isa()) {
    case Isa::avx512:
      return Compiled::avx512(a...);
    case Isa::avx2:
      return Compiled::avx2(a...);
    case Isa::baseline:
      break;
  }
  Compiled::baseline(a...);
}

}  // namespace opgrad
