#include "by_hand.h"

#include "../../core/isa.h"
#include "../../core/pack.h"
#include "../../core/vecmath.h"

namespace opgrad::bench {
namespace {

// The loop of a body that takes the place of its next pack, for the processor's instructions.
template <auto body, class... Arrays>
struct Loop {
  template <int lanes>
  [[gnu::always_inline]] static void run(std::int64_t n, Arrays... arrays) {
    for (std::int64_t i = 0; i < n; i += lanes)
      body.template operator()<kernel::Pack<float, lanes>>(i, arrays...);
  }
  [[gnu::flatten]] static void baseline(std::int64_t n, Arrays... arrays) { run<4>(n, arrays...); }
  [[gnu::target("avx2"), gnu::flatten]] static void avx2(std::int64_t n, Arrays... arrays) {
    run<8>(n, arrays...);
  }
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::flatten]] static void avx512(std::int64_t n,
                                                                                         Arrays... arrays) {
    run<16>(n, arrays...);
  }
};
template <auto body, class... Arrays>
void loop(std::int64_t n, Arrays... arrays) {
  using L = Loop<body, Arrays...>;
  const Isa now = isa();
  (now == Isa::avx512 ? L::avx512 : now == Isa::avx2 ? L::avx2 : L::baseline)(n, arrays...);
}

}  // namespace

void chain_of_2_by_hand(const float* x, float* out, std::int64_t n) {
  loop<[]<class P>(std::int64_t i, const float* from, float* to) {
    (P::load(from + i) * 1.01 + 0.5).store(to + i);
  }>(n, x, out);
}

void chain_of_5_by_hand(const float* x, float* out, std::int64_t n) {
  loop<[]<class P>(std::int64_t i, const float* from, float* to) {
    (max(0, P::load(from + i) * 1.01 + 0.5) * 0.99 - 0.25).store(to + i);
  }>(n, x, out);
}

void chain_of_12_by_hand(const float* x, float* out, std::int64_t n) {
  loop<[]<class P>(std::int64_t i, const float* from, float* to) {
    P y = P::load(from + i);
    for (int k = 0; k < 4; ++k) y = max(0, y * 1.01) - 0.25;
    y.store(to + i);
  }>(n, x, out);
}

void adam_by_hand(float* value, float* m, float* v, const float* gradient, float a, std::int64_t n) {
  loop<[]<class P>(std::int64_t i, float* w, float* first, float* second, const float* dw, float rate) {
    const P g = P::load(dw + i), m1 = 0.9 * P::load(first + i) + 0.1 * g,
            v1 = 0.999 * P::load(second + i) + 0.001 * (g * g);
    m1.store(first + i);
    v1.store(second + i);
    (P::load(w + i) - rate * (m1 / (sqrt(v1) + 1e-7))).store(w + i);
  }>(n, value, m, v, gradient, a);
}

}  // namespace opgrad::bench
