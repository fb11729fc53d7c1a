#include "opgrad.h"
#include "ops/define.h"
using namespace opgrad;

// y = x / (1 + |x|),  dy/dx = 1 / (1 + |x|)^2
extern const Op softsign_op;
Tensor softsign(const Operand& x) { return unary(softsign_op, x); }

constinit const Op softsign_op{.name = "mine.softsign",
                               .arity = 1,
                               .traits = Traits::pointwise,
                               .about = "x / (1 + |x|)",
                               .shape = same_float,
                               .forward = map1<[](auto x) { return x / (1 + abs(x)); }>,
                               .backward = [](const Tensor& y, const Tensor& dy, Wanted) -> Grads {
                                 return {dy / square(1 + abs(y.input(0)))};
                               },
                               .examples = examples_of<softsign>};

OPGRAD_REGISTER(softsign_op)
