#include "opgrad.h"
using namespace opgrad;

// log(1 + e^x), which overflows nowhere. Its parts have kinks at 0 that cancel; so the gradient, sigmoid(x),
// is said outright.
Tensor softplus(const Operand& x) {
  const CallScope line(x.where());
  const Tensor t = x.tensor("softplus");
  return custom_gradient(maximum(t, 0) + log(1 + exp(-abs(t))), {t},
                         [](const Tensor&, const Tensor& dy, std::span<const Tensor> xs) -> Grads {
                           return {dy * sigmoid(xs[0])};
                         });
}
