// What the gradient tests hold the convolutions to: identities, and calls that must be refused.
#pragma once
#include "../graph/ir.h"

namespace opgrad {

// The lecture's, by name: of conv2d with unit strides and dilations and without pads; other windows have them
// with zeros put in.
Identities conv2d_identities();
// Its gradients are those of a convolution for each channel by itself.
Identities depthwise_identities();

BadCalls conv2d_bad_calls();
BadCalls conv2d_kernel_gradient_bad_calls();
BadCalls conv2d_input_gradient_bad_calls();

BadCalls depthwise_bad_calls();
BadCalls depthwise_kernel_gradient_bad_calls();
BadCalls depthwise_input_gradient_bad_calls();

}  // namespace opgrad
