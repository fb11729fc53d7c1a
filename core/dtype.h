// Element types, their names and sizes, and the one table that says which of them mix.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

namespace opgrad {

enum class DType : std::uint8_t { f32, f64, i32, i64, u8, bool_ };
inline constexpr int dtype_count = 6;

constexpr std::size_t size_of(DType t) {
  constexpr std::size_t bytes[dtype_count] = {4, 8, 4, 8, 1, 1};
  return bytes[static_cast<int>(t)];
}

constexpr std::string_view name_of(DType t) {
  constexpr std::string_view names[dtype_count] = {"f32", "f64", "i32", "i64", "u8", "bool"};
  return names[static_cast<int>(t)];
}

constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::f64; }
constexpr bool is_integer(DType t) { return t == DType::i32 || t == DType::i64 || t == DType::u8; }

// The promotion table: the type in which two tensors meet in one operation, or nothing where a cast must be
// written. Equal types meet in themselves; bool meets anything as 0 and 1; integers meet in the wider one.
// Floats of different width, and floats with integers, do not meet.
//         f32  f64  i32  i64  u8   bool
//   f32   f32   -    -    -    -   f32
//   f64    -   f64   -    -    -   f64
//   i32    -    -   i32  i64  i32  i32
//   i64    -    -   i64  i64  i64  i64
//   u8     -    -   i32  i64  u8   u8
//   bool  f32  f64  i32  i64  u8   bool
constexpr std::optional<DType> promote(DType a, DType b) {
  if (a == b) return a;
  if (a == DType::bool_) return b;
  if (b == DType::bool_) return a;
  if (is_float(a) || is_float(b)) return std::nullopt;
  if (a == DType::i64 || b == DType::i64) return DType::i64;
  return DType::i32;
}

// The DType of a C++ type: dtype_of<float> is DType::f32.
template <class T>
inline constexpr DType dtype_of = [] {
  if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return DType::i64;
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return DType::u8;
  else {
    static_assert(std::is_same_v<T, bool>,
                  "element types are float, double, int32_t, int64_t, uint8_t, bool");
    return DType::bool_;
  }
}();

// Calls f.template operator()<T>() with the C++ type of t.
template <class F>
decltype(auto) dispatch(DType t, F&& f) {
  switch (t) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::u8:
      return f.template operator()<std::uint8_t>();
    case DType::bool_:
      break;
  }
  return f.template operator()<bool>();
}

// The same for float and double only; the shape rule of the caller has refused everything else.
template <class F>
decltype(auto) dispatch_float(DType t, F&& f) {
  if (t == DType::f64) return f.template operator()<double>();
  return f.template operator()<float>();
}

}  // namespace opgrad
