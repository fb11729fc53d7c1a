// Packs: N numbers that are computed together, and masks of N truth values. Kernels are lambdas over packs
// and dual numbers, `[](auto x) { return x * exp(-x); }`; no plain float or double is ever passed to them, so
// that argument- dependent lookup finds every function here, in vecmath.h and in dual.h, whatever namespace
// the lambda is written in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

// Packs go to functions by address (their copy constructor is not trivial), so no vector argument's ABI is at
// stake.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace opgrad::kernel {

namespace detail {
template <std::size_t bytes>
using SignedOfSize = std::conditional_t<
    bytes == 1, std::int8_t,
    std::conditional_t<bytes == 2, std::int16_t, std::conditional_t<bytes == 4, std::int32_t, std::int64_t>>>;
template <class T, int N>
struct VectorOf {
  typedef T type __attribute__((vector_size(sizeof(T) * static_cast<std::size_t>(N))));
};
template <class T, int N>
using Vector = typename VectorOf<T, N>::type;
}  // namespace detail

template <class T>
concept Number = std::is_arithmetic_v<T>;

// N truth values, as wide as the numbers they choose between: I is int8_t ... int64_t, a lane is 0 or 1. (GCC
// 12 computes with the bare results of comparisons of 64 bytes lane by lane, but chooses 1 or 0 by them at
// once.) !m, a & b, a | b, a ^ b; && and || are & and | (both sides are computed); == and != compare lanes.
template <class I, int N>
struct Mask {
  using V = detail::Vector<I, N>;
  V v;

  Mask() = default;
  [[gnu::always_inline]] explicit Mask(const V& lanes) : v(lanes) {}
  // Not trivial: packs of every width are then passed by address, whatever instructions caller and callee
  // have.
  [[gnu::always_inline]] Mask(const Mask& o) : v(o.v) {}
  [[gnu::always_inline]] Mask& operator=(const Mask& o) {
    v = o.v;
    return *this;
  }
  bool operator[](int lane) const { return v[lane] != 0; }
  explicit operator bool() const = delete;  // no if, no ?: in a kernel: select(condition, a, b)

  [[gnu::always_inline]] friend Mask operator!(const Mask& a) { return Mask(a.v ^ 1); }
  [[gnu::always_inline]] friend Mask operator&(const Mask& a, const Mask& b) { return Mask(a.v & b.v); }
  [[gnu::always_inline]] friend Mask operator|(const Mask& a, const Mask& b) { return Mask(a.v | b.v); }
  [[gnu::always_inline]] friend Mask operator^(const Mask& a, const Mask& b) { return Mask(a.v ^ b.v); }
  [[gnu::always_inline]] friend Mask operator&&(const Mask& a, const Mask& b) { return a & b; }
  [[gnu::always_inline]] friend Mask operator||(const Mask& a, const Mask& b) { return a | b; }
  [[gnu::always_inline]] friend Mask operator==(const Mask& a, const Mask& b) { return !(a ^ b); }
  [[gnu::always_inline]] friend Mask operator!=(const Mask& a, const Mask& b) { return a ^ b; }
  [[gnu::always_inline]] friend Mask select(const Mask& m, const Mask& a, const Mask& b) {
    return Mask((m.v & a.v) | (~m.v & b.v));
  }

  // From and to N bytes in memory that are 0 or 1.
  [[gnu::always_inline]] static Mask load(const void* bytes) {
    detail::Vector<std::int8_t, N> b;
    std::memcpy(&b, bytes, sizeof b);
    return Mask(__builtin_convertvector(b, V));
  }
  [[gnu::always_inline]] void store(void* bytes) const {
    const auto b = __builtin_convertvector(v, detail::Vector<std::int8_t, N>);
    std::memcpy(bytes, &b, sizeof b);
  }
};

// N numbers of type T: float, double, int32_t, int64_t or uint8_t. Plain numbers mix in (`2 * x`, `max(x,
// 0)`) and are rounded to T first. Integers wrap around; an integer divided by 0 is 0 (lanes beyond the end
// of an array divide, too). Comparisons give a Mask; those with NaN are false, except !=. abs clears the
// sign, of -0 and NaN too. max and min are NaN if either side is; ties return a. select(m, a, b) is a where m
// holds, else b; a or b may be a plain number. floor, ceil and round (ties to even) are exact and keep the
// sign of zero; they are the identity on integers.
template <class T, int N>
struct Pack {
  using V = detail::Vector<T, N>;
  using I = detail::SignedOfSize<sizeof(T)>;
  using M = Mask<I, N>;
  V v;

  Pack() = default;
  template <Number S>
  [[gnu::always_inline]] Pack(S number) : v(static_cast<T>(number) - V{}) {}
  [[gnu::always_inline]] explicit Pack(const V& lanes) : v(lanes) {}
  [[gnu::always_inline]] Pack(const Pack& o) : v(o.v) {}
  [[gnu::always_inline]] Pack& operator=(const Pack& o) {
    v = o.v;
    return *this;
  }
  T operator[](int lane) const { return v[lane]; }
  explicit operator bool() const = delete;  // no if, no ?: in a kernel: select(x != 0, a, b)
  [[gnu::always_inline]] static Pack load(const void* numbers) {
    Pack p;
    std::memcpy(&p.v, numbers, sizeof p.v);
    return p;
  }
  [[gnu::always_inline]] void store(void* numbers) const { std::memcpy(numbers, &v, sizeof v); }

  [[gnu::always_inline]] friend Pack operator+(const Pack& a, const Pack& b) {
    if constexpr (std::is_integral_v<T>)
      return Pack((V)((U)a.v + (U)b.v));
    else
      return Pack(a.v + b.v);
  }
  [[gnu::always_inline]] friend Pack operator-(const Pack& a, const Pack& b) {
    if constexpr (std::is_integral_v<T>)
      return Pack((V)((U)a.v - (U)b.v));
    else
      return Pack(a.v - b.v);
  }
  [[gnu::always_inline]] friend Pack operator*(const Pack& a, const Pack& b) {
    if constexpr (std::is_integral_v<T>)
      return Pack((V)((U)a.v * (U)b.v));
    else
      return Pack(a.v * b.v);
  }
  [[gnu::always_inline]] friend Pack operator/(const Pack& a, const Pack& b) {
    if constexpr (std::is_integral_v<T>) {
      Pack q = -a;  // the quotient by -1, which the machine's division cannot do for the smallest number
      for (int i = 0; i < N; ++i)
        if (std::is_unsigned_v<T> || b.v[i] != static_cast<T>(-1))
          q.v[i] = b.v[i] == 0 ? T{0} : static_cast<T>(a.v[i] / b.v[i]);
      return q;
    } else {
      return Pack(a.v / b.v);
    }
  }
  [[gnu::always_inline]] friend Pack operator-(const Pack& a) {
    if constexpr (std::is_integral_v<T>)
      return Pack((V)(U{} - (U)a.v));
    else
      return Pack(-a.v);
  }
  [[gnu::always_inline]] friend M operator<(const Pack& a, const Pack& b) {
    return M(a.v < b.v ? 1 - MV{} : MV{});
  }
  [[gnu::always_inline]] friend M operator<=(const Pack& a, const Pack& b) {
    return M(a.v <= b.v ? 1 - MV{} : MV{});
  }
  [[gnu::always_inline]] friend M operator>(const Pack& a, const Pack& b) {
    return M(a.v > b.v ? 1 - MV{} : MV{});
  }
  [[gnu::always_inline]] friend M operator>=(const Pack& a, const Pack& b) {
    return M(a.v >= b.v ? 1 - MV{} : MV{});
  }
  [[gnu::always_inline]] friend M operator==(const Pack& a, const Pack& b) {
    return M(a.v == b.v ? 1 - MV{} : MV{});
  }
  [[gnu::always_inline]] friend M operator!=(const Pack& a, const Pack& b) {
    return M(a.v != b.v ? 1 - MV{} : MV{});
  }

  [[gnu::always_inline]] friend Pack select(const M& m, const Pack& a, const Pack& b) {
    return Pack(m.v != 0 ? a.v : b.v);
  }
  // Where b is NaN, a + b stands for b: with b itself GCC 12 merges the two choices and computes lane by
  // lane.
  [[gnu::always_inline]] friend Pack max(const Pack& a, const Pack& b) {
    if constexpr (std::is_integral_v<T>)
      return Pack(b.v > a.v ? b.v : a.v);
    else
      return Pack(b.v != b.v ? a.v + b.v : (b.v > a.v ? b.v : a.v));
  }
  [[gnu::always_inline]] friend Pack min(const Pack& a, const Pack& b) {
    if constexpr (std::is_integral_v<T>)
      return Pack(b.v < a.v ? b.v : a.v);
    else
      return Pack(b.v != b.v ? a.v + b.v : (b.v < a.v ? b.v : a.v));
  }
  [[gnu::always_inline]] friend Pack abs(const Pack& a) {
    if constexpr (std::is_unsigned_v<T>)
      return a;
    else if constexpr (std::is_integral_v<T>)
      return select(a < Pack(0), -a, a);
    else
      return Pack((V)((MV)a.v & std::numeric_limits<I>::max()));
  }
  // The magnitude of a with the sign of b, be they zeros or NaN.
  [[gnu::always_inline]] friend Pack copysign(const Pack& a,
                                              const Pack& b) requires std::is_floating_point_v<T> {
    return Pack((V)(((MV)a.v & std::numeric_limits<I>::max()) | ((MV)b.v & std::numeric_limits<I>::min())));
  }
  [[gnu::always_inline]] friend Pack round(const Pack& a) {
    if constexpr (std::is_integral_v<T>) {
      return a;
    } else {
      // Adding 2^23 (2^52) leaves no bits for a fraction; larger numbers have none, and NaN stays in the
      // comparison.
      const Pack big = T{1} / std::numeric_limits<T>::epsilon(), size = abs(a);
      return select(size < big, copysign((size + big) - big, a), a);
    }
  }
  [[gnu::always_inline]] friend Pack floor(const Pack& a) {
    if constexpr (std::is_integral_v<T>) {
      return a;
    } else {
      const Pack r = round(a);
      return copysign(select(r > a, r - Pack(1), r), a);
    }
  }
  [[gnu::always_inline]] friend Pack ceil(const Pack& a) { return -floor(-a); }

 private:
  using U = detail::Vector<std::make_unsigned_t<I>, N>;
  using MV = typename M::V;
};

// The pack whose lane i is lane (i + shift) mod N of a.
template <int shift, class T, int N>
[[gnu::always_inline]] inline Pack<T, N> rotate(const Pack<T, N>& a) {
  return [&]<int... lane>(std::integer_sequence<int, lane...>) __attribute__((always_inline)) {
    return Pack<T, N>(__builtin_shufflevector(a.v, a.v, ((lane + shift) % N)...));
  }
  (std::make_integer_sequence<int, N>{});
}

}  // namespace opgrad::kernel
