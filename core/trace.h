// Traces: a kernel's lambda run on them writes down what it does to a number, line by line, so that several
// lambdas can be joined to one loop of machine code (compose.h). Nothing is computed.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace opgrad::kernel {

// What a line does. `input` names one by `a`; comparisons give masks, the others numbers.
enum class Do : std::uint8_t {
  input,
  number,
  add,
  subtract,
  multiply,
  divide,
  negate,
  abs,
  sqrt,
  max,
  min,
  less,
  less_equal,
  equal,
  not_equal,
  select
};

// The lines of a lambda; a, b and c are earlier lines. Not `known` when it does what no line can say, such as
// exp, or gives a mask.
struct Recipe {
  struct Line {
    Do what = Do::number;
    std::uint8_t a = 0, b = 0, c = 0;
    double number = 0;
  };
  static constexpr std::uint8_t most_lines = 24;
  std::array<Line, most_lines> lines;
  std::uint8_t count = 0, result = 0;
  bool known = true;

  std::uint8_t add(const Line& line) {
    if (count == most_lines) {
      known = false;
      return 0;
    }
    lines[count] = line;
    return count++;
  }
};

// The functions are those of packs (pack.h, vecmath.h) and dual numbers. A trace without a recipe is a plain
// number, or `lost`: what was done to plain numbers alone.
struct Trace {
  struct Mask {
    Recipe* recipe;
    std::uint8_t line;

    friend Mask operator!(const Mask& m) { return m.unknown(); }
    friend Mask operator&(const Mask& a, const Mask& b) { return both(a, b); }
    friend Mask operator|(const Mask& a, const Mask& b) { return both(a, b); }
    friend Mask operator^(const Mask& a, const Mask& b) { return both(a, b); }
    friend Mask operator&&(const Mask& a, const Mask& b) { return both(a, b); }
    friend Mask operator||(const Mask& a, const Mask& b) { return both(a, b); }
    friend Mask operator==(const Mask& a, const Mask& b) { return both(a, b); }
    friend Mask operator!=(const Mask& a, const Mask& b) { return both(a, b); }
    friend Mask select(const Mask& m, const Mask& a, const Mask& b) { return both(m, both(a, b)); }

   private:
    Mask unknown() const {
      if (recipe) recipe->known = false;
      return *this;
    }
    static Mask both(const Mask& a, const Mask& b) { return a.recipe ? a.unknown() : b.unknown(); }
  };

  Recipe* recipe = nullptr;
  std::uint8_t line = 0;
  double number = 0;
  bool lost = false;

  template <class S>
  requires std::is_arithmetic_v<S> Trace(S plain) : number(static_cast<double>(plain)) {}
  Trace(Recipe* r, std::uint8_t l) : recipe(r), line(l), lost(!r) {}

  friend Trace operator+(const Trace& a, const Trace& b) { return joined(Do::add, a, b); }
  friend Trace operator-(const Trace& a, const Trace& b) { return joined(Do::subtract, a, b); }
  friend Trace operator*(const Trace& a, const Trace& b) { return joined(Do::multiply, a, b); }
  friend Trace operator/(const Trace& a, const Trace& b) { return joined(Do::divide, a, b); }
  friend Trace max(const Trace& a, const Trace& b) { return joined(Do::max, a, b); }
  friend Trace min(const Trace& a, const Trace& b) { return joined(Do::min, a, b); }
  friend Mask operator<(const Trace& a, const Trace& b) { return compared(Do::less, a, b); }
  friend Mask operator<=(const Trace& a, const Trace& b) { return compared(Do::less_equal, a, b); }
  friend Mask operator>(const Trace& a, const Trace& b) { return compared(Do::less, b, a); }
  friend Mask operator>=(const Trace& a, const Trace& b) { return compared(Do::less_equal, b, a); }
  friend Mask operator==(const Trace& a, const Trace& b) { return compared(Do::equal, a, b); }
  friend Mask operator!=(const Trace& a, const Trace& b) { return compared(Do::not_equal, a, b); }
  friend Trace select(const Mask& m, const Trace& a, const Trace& b) {
    if (!m.recipe) return unknown(a, b);
    return {m.recipe, m.recipe->add({Do::select, m.line, a.in(*m.recipe), b.in(*m.recipe)})};
  }

  friend Trace operator-(const Trace& x) { return joined(Do::negate, x, x); }
  friend Trace abs(const Trace& x) { return joined(Do::abs, x, x); }
  friend Trace sqrt(const Trace& x) { return joined(Do::sqrt, x, x); }
  friend Trace copysign(const Trace& x, const Trace& y) { return unknown(x, y); }
  friend Trace pow(const Trace& x, const Trace& y) { return unknown(x, y); }
  friend Trace floor(const Trace& x) { return unknown(x, x); }
  friend Trace ceil(const Trace& x) { return unknown(x, x); }
  friend Trace round(const Trace& x) { return unknown(x, x); }
  friend Trace exp(const Trace& x) { return unknown(x, x); }
  friend Trace expm1(const Trace& x) { return unknown(x, x); }
  friend Trace log(const Trace& x) { return unknown(x, x); }
  friend Trace log1p(const Trace& x) { return unknown(x, x); }
  friend Trace sin(const Trace& x) { return unknown(x, x); }
  friend Trace cos(const Trace& x) { return unknown(x, x); }
  friend Trace tanh(const Trace& x) { return unknown(x, x); }
  friend Trace sigmoid(const Trace& x) { return unknown(x, x); }
  friend Trace erf(const Trace& x) { return unknown(x, x); }

  // The line of a value, a new one for a number.
  std::uint8_t in(Recipe& r) const {
    if (lost) r.known = false;
    return recipe ? line : r.add({.what = Do::number, .number = number});
  }

 private:
  static Trace unknown(const Trace& a, const Trace& b) {
    Recipe* const r = a.recipe ? a.recipe : b.recipe;
    if (r) r->known = false;
    return {r, 0};
  }
  static Trace joined(Do what, const Trace& a, const Trace& b) {
    Recipe* const r = a.recipe ? a.recipe : b.recipe;
    if (!r) return unknown(a, b);
    const std::uint8_t left = a.in(*r), right = b.in(*r);
    return {r, r->add({what, left, right})};
  }
  static Mask compared(Do what, const Trace& a, const Trace& b) {
    const Trace line = joined(what, a, b);
    return {line.recipe, line.line};
  }
};

// What F does to `arity` numbers.
template <auto F, std::size_t arity>
Recipe recipe_of() {
  Recipe r;
  const std::array<Trace, 3> in{Trace(&r, r.add({Do::input, 0})), Trace(&r, r.add({Do::input, 1})),
                                Trace(&r, r.add({Do::input, 2}))};
  const auto result = [&] {
    if constexpr (arity == 1)
      return F(in[0]);
    else if constexpr (arity == 2)
      return F(in[0], in[1]);
    else
      return F(in[0], in[1], in[2]);
  }();
  using Result = std::remove_cvref_t<decltype(result)>;
  if constexpr (std::is_arithmetic_v<Result>)
    r.result = r.add({.what = Do::number, .number = static_cast<double>(result)});
  else if constexpr (std::is_same_v<Result, Trace>)
    r.result = result.in(r);
  else
    r.known = false;
  return r;
}

}  // namespace opgrad::kernel
