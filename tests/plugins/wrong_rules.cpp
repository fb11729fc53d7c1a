// Operations that the gradient tester must not pass: a wrong rule, one that no example can show, none to
// show.
#include "../../ops/define.h"
using namespace opgrad;

extern const Op doubled_op, constant_op, unshown_op;

constinit const Op doubled_op{
    .name = "test.doubled",
    .arity = 1,
    .traits = Traits::pointwise,
    .about = "x^2, and a rule that is twice too large",
    .shape = same_float,
    .forward = map1<[](auto x) { return x * x; }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * 4 * y.input(0)}; },
    .examples =
        [] {
          return Examples{{{sample({2, 3})}, [](auto x) { return unary(doubled_op, x[0]); }}};
        }};

constinit const Op constant_op{
    .name = "test.constant",
    .arity = 1,
    .traits = Traits::pointwise,
    .about = "0: nothing can be seen of its gradient",
    .shape = same_float,
    .forward = map1<[](auto x) { return x * 0; }>,
    .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{dy * 0}; },
    .examples =
        [] {
          return Examples{{{sample({2, 3})}, [](auto x) { return unary(constant_op, x[0]); }}};
        }};

constinit const Op unshown_op{.name = "test.unshown",
                              .arity = 1,
                              .traits = Traits::pointwise,
                              .about = "x, without examples",
                              .shape = same_float,
                              .forward = map1<[](auto x) { return x; }>,
                              .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{dy}; }};
OPGRAD_REGISTER(doubled_op, constant_op, unshown_op)
