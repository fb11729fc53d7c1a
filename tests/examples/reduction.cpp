#include "opgrad.h"
#include "ops/define.h"
using namespace opgrad;

// log(e^a + e^b), without overflow, for packs of numbers and for dual numbers.
struct LogAddExp {
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  static constexpr double identity = -infinity, empty = -infinity;
  template <class X>
  [[gnu::always_inline]] X operator()(const X& a, const X& b) const {
    const X low = select(a > b, b, a), high = select(a > b, a, b);
    return select(abs(low) == infinity, high, high + log1p(exp(low - high)));
  }
};

extern const Op logsumexp_op;
Tensor logsumexp(const Operand& x, const Axes& axes = {}, bool keepdims = false) {
  return reduction(logsumexp_op, x, axes, keepdims);
}

constinit const Op logsumexp_op{
    .name = "mine.logsumexp",
    .arity = 1,
    .traits = Traits::reduction,
    .about = "the logarithm of the sum of e^x over axes, kept with size 1; -inf of no element",
    .shape = reduce,
    .forward = fold<LogAddExp, Types::floats>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) -> Grads { return {dy * exp(y.input(0) - y)}; },
    .examples = examples_of<logsumexp>,
    .attributes = &attribute_info<ReduceAttributes>};

OPGRAD_REGISTER(logsumexp_op)
