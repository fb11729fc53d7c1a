// Dual numbers v + d e with e*e = 0: a formula run on them yields its value and its exact derivative at once,
// without a step size. They are the oracle that the gradient tests compare backward rules with.
#pragma once
#include <cmath>
#include <numbers>
#include <type_traits>

namespace opgrad::kernel {

// v is the value, d the derivative along the direction that was seeded. The functions are those of packs
// (pack.h, vecmath.h). Comparisons look at values only and give bool; select(bool, a, b), max, min and abs
// pass on the derivative of what they return: of a in a tie, and at abs(0) the derivative is 0. floor, ceil
// and round have derivative 0. Source: Wengert, "A simple automatic derivative evaluation program", CACM
// 7(8), 1964.
struct Dual {
  double v = 0, d = 0;

  constexpr Dual() = default;
  template <class S>
  requires std::is_arithmetic_v<S>
  constexpr Dual(S number) : v(static_cast<double>(number)) {}
  constexpr Dual(double value, double derivative) : v(value), d(derivative) {}

  friend Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.d + b.d}; }
  friend Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.d - b.d}; }
  friend Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
  friend Dual operator/(Dual a, Dual b) { return {a.v / b.v, (a.d - a.v / b.v * b.d) / b.v}; }
  friend Dual operator-(Dual a) { return {-a.v, -a.d}; }
  friend bool operator<(Dual a, Dual b) { return a.v < b.v; }
  friend bool operator<=(Dual a, Dual b) { return a.v <= b.v; }
  friend bool operator>(Dual a, Dual b) { return a.v > b.v; }
  friend bool operator>=(Dual a, Dual b) { return a.v >= b.v; }
  friend bool operator==(Dual a, Dual b) { return a.v == b.v; }
  friend bool operator!=(Dual a, Dual b) { return a.v != b.v; }

  friend Dual select(bool m, Dual a, Dual b) { return m ? a : b; }
  friend Dual max(Dual a, Dual b) { return b.v > a.v || std::isnan(b.v) ? b : a; }
  friend Dual min(Dual a, Dual b) { return b.v < a.v || std::isnan(b.v) ? b : a; }
  friend Dual abs(Dual a) { return {std::fabs(a.v), a.v > 0 ? a.d : a.v < 0 ? -a.d : 0 * a.d}; }
  friend Dual copysign(Dual a, Dual b) {
    const double r = std::copysign(a.v, b.v);
    return {r, std::signbit(r) == std::signbit(a.v) ? a.d : -a.d};
  }
  friend Dual floor(Dual a) { return std::floor(a.v); }
  friend Dual ceil(Dual a) { return std::ceil(a.v); }
  friend Dual round(Dual a) { return std::nearbyint(a.v); }

  friend Dual sqrt(Dual a) {
    const double r = std::sqrt(a.v);
    return {r, a.d / (2 * r)};
  }
  friend Dual exp(Dual a) { return {std::exp(a.v), a.d * std::exp(a.v)}; }
  friend Dual expm1(Dual a) { return {std::expm1(a.v), a.d * std::exp(a.v)}; }
  friend Dual log(Dual a) { return {std::log(a.v), a.d / a.v}; }
  friend Dual log1p(Dual a) { return {std::log1p(a.v), a.d / (1 + a.v)}; }
  friend Dual sin(Dual a) { return {std::sin(a.v), a.d * std::cos(a.v)}; }
  friend Dual cos(Dual a) { return {std::cos(a.v), -a.d * std::sin(a.v)}; }
  friend Dual tanh(Dual a) {
    const double c = std::cosh(a.v);  // 1 / c^2 keeps the accuracy that 1 - tanh^2 loses
    return {std::tanh(a.v), a.d / c / c};
  }
  friend Dual sigmoid(Dual a) {
    const double e = std::exp(-std::fabs(a.v));
    return {(a.v < 0 ? e : 1.0) / (1 + e), a.d * e / ((1 + e) * (1 + e))};
  }
  friend Dual erf(Dual a) {
    return {std::erf(a.v), a.d * 2 * std::numbers::inv_sqrtpi * std::exp(-a.v * a.v)};
  }
  // The term of a side whose derivative is 0 is left out: pow(x, 2) needs no log(x).
  friend Dual pow(Dual a, Dual b) {
    const double r = std::pow(a.v, b.v);
    double d = 0;
    if (a.d != 0 && b.v != 0) d += a.d * b.v * std::pow(a.v, b.v - 1);
    if (b.d != 0) d += a.v == 0 && b.v > 0 ? 0.0 : b.d * r * std::log(a.v);
    return {r, d};
  }
};

}  // namespace opgrad::kernel
