// Arithmetic on two numbers or one, element by element.
#include "define.h"

namespace opgrad {
namespace {

using Binary = Tensor (*)(const Operand&, const Operand&);

// maximum and minimum: where both are equal.
template <Binary f>
Kinks first_wins() {
  return {{"the first of two equal numbers gets it all",
           {{{2}, {0.5, -1}, {1, 1}}, {{2}, {0.5, -1}, {0, 0}}},
           [](std::span<const Tensor> x) { return f(x[0], x[1]); }}};
}

template <Binary f>
BadCalls two_bad() {
  return {
      {"the shapes [2, 3] and [4] do not broadcast",
       [] {
         f(zeros({2, 3}), zeros({4}));
       }},
      {"f32[2] and f64[2] have element types that do not mix", [] { f(zeros({2}), zeros({2}, DType::f64)); }},
      {"f32[2] and i32[2] have element types that do not mix", [] { f(zeros({2}), zeros({2}, DType::i32)); }},
      {"the number 0.5 does not fit the elements of i64[2]", [] { f(zeros({2}, DType::i64), 0.5); }},
      {"the number 2147483648 does not fit the elements of i32[2]",
       [] { f(2147483648.0, zeros({2}, DType::i32)); }},
      {"and was given bool[2]", [] { f(zeros({2}, DType::bool_), zeros({2}, DType::bool_)); }},
      {"an operand is an empty Tensor", [] { f(zeros({2}), Tensor()); }}};
}

template <Binary f>
BadCalls two_floats_bad() {
  BadCalls bad = two_bad<f>();
  bad.push_back(
      {"needs f32 or f64 and was given i32[2]", [] { f(zeros({2}, DType::i32), zeros({2}, DType::i32)); }});
  return bad;
}

bool is_number(const Tensor& x, double number) { return number_of(x) == number; }

}  // namespace

constinit const Op records::add_op{
    .name = "add",
    .arity = 2,
    .traits = Traits::pointwise | Traits::nothrow | Traits::commutative | Traits::linear,
    .about = "a + b; integers wrap around",
    .shape = same_number,
    .forward = map2<[](auto a, auto b) { return a + b; }, Types::numbers>,
    .backward =
        [](const Tensor&, const Tensor& dy, Wanted) {
          return Grads{dy, dy};
        },
    .examples = examples_of<add>,
    .bad_calls = two_bad<add>};
Tensor add(const Operand& a, const Operand& b) { return binary(records::add_op, a, b); }

constinit const Op records::subtract_op{.name = "subtract",
                                        .arity = 2,
                                        .traits = Traits::pointwise | Traits::nothrow | Traits::linear,
                                        .about = "a - b; integers wrap around",
                                        .shape = same_number,
                                        .forward = map2<[](auto a, auto b) { return a - b; }, Types::numbers>,
                                        .backward =
                                            [](const Tensor&, const Tensor& dy, Wanted wanted) {
                                              return Grads{dy, wanted(1) ? -dy : Tensor()};
                                            },
                                        .examples = examples_of<subtract>,
                                        .bad_calls = two_bad<subtract>};
Tensor subtract(const Operand& a, const Operand& b) { return binary(records::subtract_op, a, b); }

constinit const Op records::multiply_op{
    .name = "multiply",
    .arity = 2,
    .traits = Traits::pointwise | Traits::nothrow | Traits::commutative | Traits::multilinear,
    .about = "a b; integers wrap around",
    .shape = same_number,
    .forward = map2<[](auto a, auto b) { return a * b; }, Types::numbers>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          return Grads{wanted(0) ? dy * y.input(1) : Tensor(), wanted(1) ? dy * y.input(0) : Tensor()};
        },
    .simplify =
        [](const Tensor& y) {
          if (is_number(y.input(0), 1)) return y.input(1);
          return is_number(y.input(1), 1) ? y.input(0) : y;
        },
    .examples = examples_of<multiply>,
    .bad_calls = two_bad<multiply>};
Tensor multiply(const Operand& a, const Operand& b) { return binary(records::multiply_op, a, b); }

constinit const Op records::divide_op{
    .name = "divide",
    .arity = 2,
    .traits = Traits::pointwise | Traits::nothrow,
    .about = "a / b by IEEE 754: 1/0 = inf, 0/0 = NaN",
    .shape = same_float,
    .forward = map2<[](auto a, auto b) { return a / b; }>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor da = dy / y.input(1);
          return Grads{da, wanted(1) ? -(da * y) : Tensor()};
        },
    .simplify = [](const Tensor& y) { return is_number(y.input(1), 1) ? y.input(0) : y; },
    .examples = examples_of<divide, 1, 3>,
    .bad_calls = two_floats_bad<divide>};
Tensor divide(const Operand& a, const Operand& b) { return binary(records::divide_op, a, b); }

constinit const Op records::negate_op{
    .name = "negate",
    .arity = 1,
    .traits = Traits::pointwise | Traits::nothrow | Traits::linear,
    .about = "-x; integers wrap around",
    .shape = same_number,
    .forward = map1<[](auto x) { return -x; }, Types::numbers>,
    .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{-dy}; },
    .simplify =
        [](const Tensor& y) {
          const Tensor x = y.input(0);
          return made_by(x, records::negate_op) ? x.input(0) : y;
        },
    .examples =
        [] {
          return Examples{{{sample({2, 3})}, [](std::span<const Tensor> x) { return negate(x[0]); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"negate: needs numbers and was given bool[2]", [] { negate(zeros({2}, DType::bool_)); }},
              {"negate: an operand is an empty Tensor", [] { negate(Tensor()); }}};
        }};
Tensor negate(const Operand& x) { return unary(records::negate_op, x); }

constinit const Op records::square_op{
    .name = "square",
    .arity = 1,
    .traits = Traits::pointwise | Traits::nothrow,
    .about = "x x; integers wrap around",
    .shape = same_number,
    .forward = map1<[](auto x) { return x * x; }, Types::numbers>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * (2 * y.input(0))}; },
    .examples =
        [] {
          return Examples{{{sample({2, 3}, -3, 3)}, [](std::span<const Tensor> x) { return square(x[0]); }},
                          {{sample({4}, -3, 3)}, [](std::span<const Tensor> x) { return pow(x[0], 2); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"square: needs numbers and was given bool[2]", [] { square(zeros({2}, DType::bool_)); }}};
        }};
Tensor square(const Operand& x) { return unary(records::square_op, x); }

// d(a^b)/da = b a^(b-1). Where b = 0 that is 0 times a^-1; a^0 is put in place of a^-1, so that a = 0 gives 0
// and not NaN in any order. d(a^b)/db = a^b log a, where log is 0 for a <= 0: the limit at a = 0 for b > 0,
// and a convention else.
namespace {
Grads pow_backward(const Tensor& y, const Tensor& dy, Wanted wanted) {
  const Tensor a = y.input(0), b = y.input(1);
  Grads grads(2);
  if (wanted(0)) {
    if (const auto n = number_of(b))
      grads[0] = *n == 0 ? zeros_like(a) : dy * (*n * pow(a, *n - 1));
    else
      // 0 0^-1 is NaN; elsewhere b stays as it is, for the sake of the second derivative.
      grads[0] = dy * (b * pow(where(equal(abs(a) + abs(b), 0), 1, a), b - 1));
  }
  if (wanted(1)) grads[1] = dy * (y * log(where(a > 0, a, 1)));
  return grads;
}
}  // namespace

constinit const Op records::pow_op{
    .name = "pow",
    .arity = 2,
    .traits = Traits::pointwise | Traits::nothrow,
    .about = "a^b, special values as in C (0^0 = 1, NaN for a < 0 unless b is whole); d/db is 0 where a <= 0",
    .shape = same_float,
    .forward = map2<[](auto a, auto b) { return pow(a, b); }>,
    .backward = pow_backward,
    .examples =
        [] {
          return Examples{{{sample({2, 3}, 0.5, 2), sample({3}, -2, 2)},
                           [](std::span<const Tensor> x) { return pow(x[0], x[1]); }},
                          {{sample({3}, 0.5, 2), sample({3}, 0, 0)},
                           [](std::span<const Tensor> x) { return pow(x[0], x[1]); }},
                          {{sample({3}, 0, 0)},
                           [](std::span<const Tensor> x) {
                             const std::vector<Tensor> b{zeros({1}, x[0].dtype()), ones({1}, x[0].dtype()),
                                                         full({1}, 2, x[0].dtype())};
                             return pow(x[0], concatenate(b, 0));
                           }},
                          {{sample({2, 3}, -2, 2)}, [](std::span<const Tensor> x) { return pow(x[0], 3); }},
                          {{sample({4}, 0.5, 2)}, [](std::span<const Tensor> x) { return pow(x[0], -1.5); }},
                          {{sample({4}, -1, 1)}, [](std::span<const Tensor> x) { return pow(2, x[0]); }}};
        },
    .bad_calls = two_floats_bad<pow>};
Tensor pow(const Operand& a, const Operand& b) {
  if (b.is_number() && !a.is_number() && a.node() && is_float(a.node()->dtype)) {
    if (b.number() == 1) return Tensor::share(a.node());
    if (b.number() == 2) return square(a);
  }
  return binary(records::pow_op, a, b);
}

constinit const Op records::maximum_op{
    .name = "maximum",
    .arity = 2,
    .traits = Traits::pointwise | Traits::nothrow,
    .about = "the greater of a and b; NaN if either is NaN; the gradient goes to a at ties",
    .shape = same_number,
    .forward = map2<[](auto a, auto b) { return max(a, b); }, Types::numbers>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor a_wins = y.input(0) >= y.input(1);
          return Grads{wanted(0) ? where(a_wins, dy, 0) : Tensor(),
                       wanted(1) ? where(a_wins, 0, dy) : Tensor()};
        },
    .examples = examples_of<maximum>,
    .kinks = first_wins<maximum>,
    .bad_calls = two_bad<maximum>};
Tensor maximum(const Operand& a, const Operand& b) { return binary(records::maximum_op, a, b); }

constinit const Op records::minimum_op{
    .name = "minimum",
    .arity = 2,
    .traits = Traits::pointwise | Traits::nothrow,
    .about = "the lesser of a and b; NaN if either is NaN; the gradient goes to a at ties",
    .shape = same_number,
    .forward = map2<[](auto a, auto b) { return min(a, b); }, Types::numbers>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          const Tensor a_wins = y.input(0) <= y.input(1);
          return Grads{wanted(0) ? where(a_wins, dy, 0) : Tensor(),
                       wanted(1) ? where(a_wins, 0, dy) : Tensor()};
        },
    .examples = examples_of<minimum>,
    .kinks = first_wins<minimum>,
    .bad_calls = two_bad<minimum>};
Tensor minimum(const Operand& a, const Operand& b) { return binary(records::minimum_op, a, b); }

}  // namespace opgrad
