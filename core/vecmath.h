// Vector maths on packs. Results have the same bits for every width of pack, and so on every instruction set.
// The error claimed beside each function is in units of the last place of the true result (ULP), over all
// finite results; tests check it. Every function but pow is NaN at NaN. Source: SLEEF 3.5 (Shibata,
// Petrogalli, IEEE TPDS 31(6), 2020), its variants without fused multiply-add, unless said otherwise.
#pragma once
#include <numbers>
#include <type_traits>

#include "pack.h"

namespace opgrad::kernel {

namespace detail {
enum class Fn { exp, expm1, log, log1p, sin, cos, tanh, erf, sqrt };

// y[i] = f(x[i]) for one pack of 16, 32 or 64 bytes, aligned to its size; defined in vecmath_*.cpp.
template <Fn f, class T, int N>
void call(const T* x, T* y);
template <class T, int N>
void call_pow(const T* x, const T* y, T* z);

template <Fn f, class T, int N>
[[gnu::always_inline]] inline Pack<T, N> apply(const Pack<T, N>& x) {
  Pack<T, N> y;
  call<f, T, N>(reinterpret_cast<const T*>(&x.v), reinterpret_cast<T*>(&y.v));
  return y;
}
}  // namespace detail

template <class T>
concept Real = std::is_floating_point_v<T>;

// Square root: correctly rounded (0.5 ULP). sqrt(-0) = -0, NaN below 0.
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> sqrt(const Pack<T, N>& x) {
  return detail::apply<detail::Fn::sqrt>(x);
}
// 1 ULP. exp(-inf) = 0, exp(inf) = inf; denormal results are not flushed.
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> exp(const Pack<T, N>& x) {
  return detail::apply<detail::Fn::exp>(x);
}
// exp(x) - 1: 1 ULP. expm1(+-0) = +-0, expm1(-inf) = -1.
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> expm1(const Pack<T, N>& x) {
  return detail::apply<detail::Fn::expm1>(x);
}
// Natural logarithm: 1 ULP. log(+-0) = -inf, NaN below 0.
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> log(const Pack<T, N>& x) {
  return detail::apply<detail::Fn::log>(x);
}
// log(1 + x): 1 ULP. log1p(+-0) = +-0, log1p(-1) = -inf, NaN below -1. SLEEF overflows near the greatest
// numbers, so large ones are scaled by 2^-48 (2^-427); the multiple of log(2) that puts this right is close
// to a float (double).
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> log1p(const Pack<T, N>& x) {
  constexpr bool f32 = std::is_same_v<T, float>;
  constexpr T large = f32 ? T(0x1p100) : T(0x1p1000), scale = f32 ? T(0x1p-48) : T(0x1p-427);
  constexpr T back = f32 ? T(33.27106475830078) : T(295.97384609909665);
  const auto huge = x > large;
  const Pack<T, N> r = detail::apply<detail::Fn::log1p>(select(huge, x * scale, x));
  return select(huge, r + back, r);
}
// 1 ULP for all finite x; NaN at +-inf. sin(+-0) = +-0.
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> sin(const Pack<T, N>& x) {
  return detail::apply<detail::Fn::sin>(x);
}
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> cos(const Pack<T, N>& x) {
  return detail::apply<detail::Fn::cos>(x);
}
// 1 ULP. erf(+-0) = +-0, erf(+-inf) = +-1. SLEEF loses bits of denormal results, so tiny x are multiplied by
// erf'(0) = 2 / sqrt(pi), less 1 to keep more of its bits.
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> erf(const Pack<T, N>& x) {
  constexpr T tiny = std::is_same_v<T, float> ? T(0x1p-90) : T(0x1p-900);
  return select(abs(x) < tiny, x + x * (2 * std::numbers::inv_sqrtpi - 1), detail::apply<detail::Fn::erf>(x));
}
// tanh(+-0) = +-0, tanh(+-inf) = +-1. double: 1 ULP. float: 1.5 ULP, by the polynomial of Cephes (Moshier,
// tanhf.c) below 0.625 and 1 - 2 / (exp(2 |x|) + 1) above, at a third of SLEEF's time.
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> tanh(const Pack<T, N>& x) {
  if constexpr (std::is_same_v<T, float>) {
    const Pack<T, N> a = abs(x), z = x * x;
    Pack<T, N> p = z * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    p = p * z * a + a;
    return copysign(select(a < 0.625f, p, 1 - 2 / (exp(a + a) + 1)), x);
  } else {
    // Below 2^-28, x - x^3 / 3 rounds to x; SLEEF is off by a little more than 1 ULP there.
    return select(abs(x) < 0x1p-28, x, detail::apply<detail::Fn::tanh>(x));
  }
}
// 1 / (1 + exp(-x)): 2.5 ULP, denormal results included, since below 0 it is computed as exp(x) / (1 +
// exp(x)).
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> sigmoid(const Pack<T, N>& x) {
  const Pack<T, N> e = exp(-abs(x));
  return select(x < 0, e, 1) / (1 + e);
}
// x to the power y: 1 ULP, special values as in C (pow(x, 0) = 1 and pow(1, y) = 1 even for NaN; NaN where x
// < 0 and y is not whole).
template <Real T, int N>
[[gnu::always_inline]] inline Pack<T, N> pow(const Pack<T, N>& x, const Pack<T, N>& y) {
  Pack<T, N> z;
  detail::call_pow<T, N>(reinterpret_cast<const T*>(&x.v), reinterpret_cast<const T*>(&y.v),
                         reinterpret_cast<T*>(&z.v));
  return z;
}
template <Real T, int N, Number S>
[[gnu::always_inline]] inline Pack<T, N> pow(const Pack<T, N>& x, S y) {
  return pow(x, Pack<T, N>(y));
}
template <Real T, int N, Number S>
[[gnu::always_inline]] inline Pack<T, N> pow(S x, const Pack<T, N>& y) {
  return pow(Pack<T, N>(x), y);
}

}  // namespace opgrad::kernel
