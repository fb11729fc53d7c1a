// A plug-in as users write it: x^3.
#include "../../ops/define.h"
using namespace opgrad;

extern const Op cube_op;
Tensor cube(const Operand& x) { return unary(cube_op, x); }

constinit const Op cube_op{
    .name = "test.cube",
    .arity = 1,
    .traits = Traits::pointwise,
    .about = "x^3",
    .shape = same_float,
    .forward = map1<[](auto x) { return x * x * x; }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * 3 * square(y.input(0))}; },
    .examples =
        [] {
          return Examples{{{sample({2, 3})}, [](auto x) { return cube(x[0]); }}};
        }};
OPGRAD_REGISTER(cube_op)
