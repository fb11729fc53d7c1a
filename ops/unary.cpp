// Functions of one float, element by element.
#include <numbers>

#include "define.h"
#include "pool2d_kernels.h"

namespace opgrad {
namespace {

using Unary = Tensor (*)(const Operand&);

template <Unary f>
BadCalls one_bad() {
  return {{"needs f32 or f64 and was given i32[2]", [] { f(zeros({2}, DType::i32)); }},
          {"needs f32 or f64 and was given bool[]", [] { f(zeros({}, DType::bool_)); }},
          {"an operand is an empty Tensor", [] { f(Tensor()); }}};
}

constexpr Traits pointwise = Traits::pointwise | Traits::nothrow;

// g where x > 0, else 0: relu's gradient in one step. Linear in g, and constant in x.
Tensor gate(const Tensor& x, const Tensor& g) { return make(records::gate_op, {x.node(), g.node()}, {}); }

}  // namespace

constinit const Op records::exp_op{
    .name = "exp",
    .arity = 1,
    .traits = pointwise,
    .about = "e^x, within 1 ULP",
    .shape = same_float,
    .forward = map1<[](auto x) { return exp(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * y}; },
    .examples = examples_of<exp, -3, 3>,
    .bad_calls = one_bad<exp>};
Tensor exp(const Operand& x) { return unary(records::exp_op, x); }

constinit const Op records::expm1_op{
    .name = "expm1",
    .arity = 1,
    .traits = pointwise,
    .about = "e^x - 1 without cancellation near 0, within 1 ULP; -1 at -inf; dx = dy e^x",
    .shape = same_float,
    .forward = map1<[](auto x) { return expm1(x); }>,
    // y + 1 would lose the digits of e^x far below 0.
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * exp(y.input(0))}; },
    .examples = examples_of<expm1, -3, 3>,
    .bad_calls = one_bad<expm1>};
Tensor expm1(const Operand& x) { return unary(records::expm1_op, x); }

constinit const Op records::log_op{
    .name = "log",
    .arity = 1,
    .traits = pointwise,
    .about = "the natural logarithm, within 1 ULP; -inf at 0, NaN below",
    .shape = same_float,
    .forward = map1<[](auto x) { return log(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy / y.input(0)}; },
    .examples = examples_of<log, 1, 4>,
    .bad_calls = one_bad<log>};
Tensor log(const Operand& x) { return unary(records::log_op, x); }

constinit const Op records::log1p_op{
    .name = "log1p",
    .arity = 1,
    .traits = pointwise,
    .about = "log(1 + x) without the rounding of 1 + x, within 1 ULP; -inf at -1, NaN below",
    .shape = same_float,
    .forward = map1<[](auto x) { return log1p(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy / (1 + y.input(0))}; },
    .examples =
        [] {
          const auto call = [](std::span<const Tensor> x) { return log1p(x[0]); };
          return Examples{{{sample({3, 3}, -0.75, 3)}, call}, {{sample({}, -0.75, 3)}, call}};
        },
    .bad_calls = one_bad<log1p>};
Tensor log1p(const Operand& x) { return unary(records::log1p_op, x); }

constinit const Op records::sqrt_op{
    .name = "sqrt",
    .arity = 1,
    .traits = pointwise,
    .about = "the square root, correctly rounded; NaN below 0; the gradient at 0 is infinite",
    .shape = same_float,
    .forward = map1<[](auto x) { return sqrt(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * 0.5 / y}; },
    .examples = examples_of<sqrt, 1, 4>,
    .bad_calls = one_bad<sqrt>};
Tensor sqrt(const Operand& x) { return unary(records::sqrt_op, x); }

constinit const Op records::sin_op{
    .name = "sin",
    .arity = 1,
    .traits = pointwise,
    .about = "the sine of x in radians, within 1 ULP for every finite x; NaN at +-inf",
    .shape = same_float,
    .forward = map1<[](auto x) { return sin(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * cos(y.input(0))}; },
    .examples = examples_of<sin, -4, 4>,
    .bad_calls = one_bad<sin>};
Tensor sin(const Operand& x) { return unary(records::sin_op, x); }

constinit const Op records::cos_op{
    .name = "cos",
    .arity = 1,
    .traits = pointwise,
    .about = "the cosine of x in radians, within 1 ULP for every finite x; NaN at +-inf",
    .shape = same_float,
    .forward = map1<[](auto x) { return cos(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{-dy * sin(y.input(0))}; },
    .examples = examples_of<cos, -4, 4>,
    .bad_calls = one_bad<cos>};
Tensor cos(const Operand& x) { return unary(records::cos_op, x); }

constinit const Op records::tanh_op{
    .name = "tanh",
    .arity = 1,
    .traits = pointwise,
    .about = "the hyperbolic tangent, within 2 ULP; dx = dy (1 - y^2)",
    .shape = same_float,
    .forward = map1<[](auto x) { return tanh(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * (1 - y * y)}; },
    .examples = examples_of<tanh, -3, 3>,
    .bad_calls = one_bad<tanh>};
Tensor tanh(const Operand& x) { return unary(records::tanh_op, x); }

constinit const Op records::sigmoid_op{
    .name = "sigmoid",
    .arity = 1,
    .traits = pointwise,
    .about = "1 / (1 + e^-x), within 3 ULP; dx = dy y (1 - y)",
    .shape = same_float,
    .forward = map1<[](auto x) { return sigmoid(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * (y * (1 - y))}; },
    .examples = examples_of<sigmoid, -3, 3>,
    .bad_calls = one_bad<sigmoid>};
Tensor sigmoid(const Operand& x) { return unary(records::sigmoid_op, x); }

constinit const Op records::erf_op{
    .name = "erf",
    .arity = 1,
    .traits = pointwise,
    .about = "2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x, within 1 ULP; +-1 at +-inf",
    .shape = same_float,
    .forward = map1<[](auto x) { return erf(x); }>,
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{dy * (2 * std::numbers::inv_sqrtpi) * exp(-square(y.input(0)))}; },
    .examples = examples_of<erf, -3, 3>,
    .bad_calls = one_bad<erf>};
Tensor erf(const Operand& x) { return unary(records::erf_op, x); }

constinit const Op records::relu_op{
    .name = "relu",
    .arity = 1,
    .traits = pointwise,
    .about = "max(0, x); NaN at NaN; the gradient at 0 is 0",
    .shape = same_float,
    .forward = map1<[](auto x) { return max(0, x); }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{gate(y, dy)}; },
    .examples = examples_of<relu, -3, 3>,
    .kinks =
        [] {
          return Kinks{{"0 at 0", {{{3}, {-0.5, 0, 0.5}, {0, 0, 1}}}, [](std::span<const Tensor> x) {
                          return relu(x[0]);
                        }}};
        },
    .bad_calls = one_bad<relu>};
Tensor relu(const Operand& x) { return unary(records::relu_op, x); }

constinit const Op records::gate_op{
    .name = "gate",
    .arity = 2,
    .traits = pointwise,
    .about = "g where x > 0, else 0, for inputs x and g; its derivative by x is 0 wherever it has one",
    .shape = same_float,
    .forward = map2<[](auto x, auto g) { return select(x > 0, g, 0); }>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          return Grads{wanted(0) ? zeros_like(dy) : Tensor(), wanted(1) ? gate(y.input(0), dy) : Tensor()};
        },
    .simplify =
        [](const Tensor& y) {
          // A pooling's gradient is 0 but at winners, whose x is the pooling's result: the gate may stand
          // before it, where there are fewer elements.
          const Tensor x = y.input(0), g = y.input(1);
          if (!made_by(g, records::max_pool2d_gradient_op) || g.input(0).node() != x.node()) return y;
          const auto& windows = g.attributes<Pool2DAttributes>();
          const Tensor best = make(records::max_pool2d_op, {x.node()}, {}, windows);
          const Tensor gated = gate(best, g.input(1));
          return make(records::max_pool2d_gradient_op, {x.node(), gated.node()}, {}, windows);
        },
    .examples =
        [] {
          return Examples{
              {{sample({3, 4}), sample({3, 4})}, [](std::span<const Tensor> x) { return gate(x[0], x[1]); }},
              {{sample({5}), sample({5})}, [](std::span<const Tensor> x) { return gate(x[0], x[1]); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"gate: inputs 0 and 1 have types f32[2] and f32[3]", [] { gate(zeros({2}), zeros({3})); }},
              {"gate: needs f32 or f64", [] { gate(zeros({2}, DType::i32), zeros({2}, DType::i32)); }}};
        }};

constinit const Op records::abs_op{.name = "abs",
                                   .arity = 1,
                                   .traits = pointwise,
                                   .about = "|x|; the gradient at 0 is 0",
                                   .shape = same_float,
                                   .forward = map1<[](auto x) { return abs(x); }>,
                                   .backward =
                                       [](const Tensor& y, const Tensor& dy, Wanted) {
                                         const Tensor x = y.input(0);
                                         return Grads{where(x > 0, dy, where(x < 0, -dy, 0))};
                                       },
                                   .examples = examples_of<abs, -3, 3>,
                                   .kinks =
                                       [] {
                                         return Kinks{{"0 at 0",
                                                       {{{3}, {-0.5, 0, 0.5}, {-1, 0, 1}}},
                                                       [](std::span<const Tensor> x) { return abs(x[0]); }}};
                                       },
                                   .bad_calls = one_bad<abs>};
Tensor abs(const Operand& x) { return unary(records::abs_op, x); }

}  // namespace opgrad
