#include <numbers>

#include "opgrad.h"
using namespace opgrad;

// x times the probability that a standard normal number is below x.
Tensor gelu(const Operand& x) {
  const CallScope line(x.where());
  return 0.5 * x * (1 + erf(x / std::numbers::sqrt2));
}

// log(1 + e^x), which overflows nowhere. Its parts have kinks at 0 that cancel; so the gradient, sigmoid(x),
// is said outright.
Tensor softplus(const Operand& x) {
  const CallScope line(x.where());
  const Tensor t = x.tensor("softplus");
  return custom_gradient(maximum(t, 0) + log1p(exp(-abs(t))), {t},
                         [](const Tensor&, const Tensor& dy, std::span<const Tensor> xs) -> Grads {
                           return {dy * sigmoid(xs[0])};
                         });
}
