// Identities of depthwise convolution, by name, for the gradient tests.
#pragma once
#include "../graph/ir.h"

namespace opgrad {

// Its gradients are those of a convolution for each channel by itself.
Identities depthwise_identities();

}  // namespace opgrad
