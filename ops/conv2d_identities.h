// The lecture's identities of convolution, by name, for the gradient tests.
#pragma once
#include "../graph/ir.h"

namespace opgrad {

// Of conv2d with unit strides and dilations and without pads; other windows have them with zeros put in.
Identities conv2d_identities();

}  // namespace opgrad
