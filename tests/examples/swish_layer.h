#pragma once
#include "opgrad.h"
using namespace opgrad;

Tensor swish(const Operand& x, const Operand& beta);

// swish with one beta for each channel, learned, 1 at first.
class Swish : public Layer<Swish> {
 public:
  Tensor forward(const Tensor& x) const {
    return swish(x, weight("beta", {x.dim(-1)}, x.dtype(), Initializer::ones));
  }
};
