#include "opgrad.h"
#include "ops/define.h"
using namespace opgrad;

// beta may have any shape that broadcasts: one for each channel, say.
extern const Op swish_op;
Tensor swish(const Operand& x, const Operand& beta) { return binary(swish_op, x, beta); }

constinit const Op swish_op{.name = "mine.swish",
                            .arity = 2,
                            .traits = Traits::pointwise,
                            .about = "x sigmoid(beta x)",
                            .shape = broadcast,
                            .forward = map2<[](auto x, auto beta) { return x * sigmoid(beta * x); }>,
                            .backward = [](const Tensor& y, const Tensor& dy, Wanted) -> Grads {
                              const Tensor x = y.input(0), beta = y.input(1), s = sigmoid(beta * x);
                              const Tensor slope = x * s * (1 - s);
                              return {dy * (s + beta * slope), dy * x * slope};
                            },
                            .examples = examples_of<swish>};

OPGRAD_REGISTER(swish_op)
