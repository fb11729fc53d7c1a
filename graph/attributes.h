// Attributes: one plain struct per operation with one fields() line, from which equality, hashing and
// printing follow.
//
//     struct Conv2DAttributes {
//       std::array<std::int64_t, 2> strides{1, 1};
//       static constexpr auto fields() { return std::tuple{field("strides", &Conv2DAttributes::strides)}; }
//     };
#pragma once
#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../core/shape.h"

namespace opgrad {

// A list of at most 8 axes or per-axis numbers.
struct Axes {
  std::array<std::int64_t, max_rank> values{};
  std::int64_t count = 0;
  Axes() = default;
  Axes(std::initializer_list<std::int64_t> list) {
    for (const std::int64_t v : list) push_back(v);
  }
  void push_back(std::int64_t v);  // UserError beyond 8
  std::int64_t operator[](int i) const { return values[static_cast<std::size_t>(i)]; }
  std::int64_t& operator[](int i) { return values[static_cast<std::size_t>(i)]; }
  int size() const { return static_cast<int>(count); }
  const std::int64_t* begin() const { return values.data(); }
  const std::int64_t* end() const { return values.data() + count; }
};

template <class A, class M>
struct Field {
  const char* name;
  M A::*member;
};
template <class A, class M>
constexpr Field<A, M> field(const char* name, M A::*member) {
  return {name, member};
}

// The words that stand for a field in keys, its text, and below the numbers it holds. Overload all three for
// a field type of your own.
using Words = std::vector<std::uint64_t>;
inline void append_words(Words& w, std::int64_t v) { w.push_back(static_cast<std::uint64_t>(v)); }
inline void append_words(Words& w, double v) { w.push_back(std::bit_cast<std::uint64_t>(v)); }
inline void append_words(Words& w, bool v) { w.push_back(v); }
inline void append_words(Words& w, DType v) { w.push_back(static_cast<std::uint64_t>(v)); }
void append_words(Words& w, const Axes& v);
void append_words(Words& w, const Shape& v);
std::string field_text(std::int64_t v);
std::string field_text(double v);
std::string field_text(bool v);
std::string field_text(DType v);
std::string field_text(const Axes& v);
std::string field_text(const Shape& v);
template <std::size_t N>
void append_words(Words& w, const std::array<std::int64_t, N>& v) {
  for (const std::int64_t x : v) append_words(w, x);
}
template <std::size_t N>
std::string field_text(const std::array<std::int64_t, N>& v) {
  Axes axes;
  for (const std::int64_t x : v) axes.push_back(x);
  return field_text(axes);
}

// One number within an attribute struct, to read or to change: what tests try wrong values on. One pointer is
// set; a shape is one entry.
struct AttributeRef {
  const char* field;
  int index;  // within a list; 0 for a single number
  std::int64_t* integer = nullptr;
  double* real = nullptr;
  bool* flag = nullptr;
  DType* dtype = nullptr;
  Shape* shape = nullptr;
};
using AttributeRefs = std::vector<AttributeRef>;
inline void append_refs(AttributeRefs& r, const char* f, std::int64_t& v) {
  r.push_back({.field = f, .index = 0, .integer = &v});
}
inline void append_refs(AttributeRefs& r, const char* f, double& v) {
  r.push_back({.field = f, .index = 0, .real = &v});
}
inline void append_refs(AttributeRefs& r, const char* f, bool& v) {
  r.push_back({.field = f, .index = 0, .flag = &v});
}
inline void append_refs(AttributeRefs& r, const char* f, DType& v) {
  r.push_back({.field = f, .index = 0, .dtype = &v});
}
inline void append_refs(AttributeRefs& r, const char* f, Shape& v) {
  r.push_back({.field = f, .index = 0, .shape = &v});
}
void append_refs(AttributeRefs& r, const char* f, Axes& v);
template <std::size_t N>
void append_refs(AttributeRefs& r, const char* f, std::array<std::int64_t, N>& v) {
  for (std::size_t i = 0; i < N; ++i)
    r.push_back({.field = f, .index = static_cast<int>(i), .integer = &v[i]});
}

// What the engine knows of an operation's attribute struct.
struct AttributeInfo {
  std::size_t size = 0;
  void (*words)(const void* attributes, Words& out) = nullptr;
  std::string (*text)(const void* attributes) = nullptr;  // "strides=[1, 1], padding=[0, 0]"
  AttributeRefs (*refs)(void* attributes) = nullptr;      // every number of every field, in order
};

template <class A>
inline constexpr AttributeInfo attribute_info = [] {
  static_assert(std::is_trivially_copyable_v<A> && alignof(A) <= 16, "attributes are plain structs");
  return AttributeInfo{
      sizeof(A),
      [](const void* p, Words& out) {
        const A& a = *static_cast<const A*>(p);
        std::apply([&](auto... f) { (append_words(out, a.*f.member), ...); }, A::fields());
      },
      [](const void* p) {
        const A& a = *static_cast<const A*>(p);
        std::string s;
        std::apply(
            [&](auto... f) {
              ((s += (s.empty() ? "" : ", ") + std::string(f.name) + "=" + field_text(a.*f.member)), ...);
            },
            A::fields());
        return s;
      },
      [](void* p) {
        A& a = *static_cast<A*>(p);
        AttributeRefs refs;
        std::apply([&](auto... f) { (append_refs(refs, f.name, a.*f.member), ...); }, A::fields());
        return refs;
      }};
}();

}  // namespace opgrad
