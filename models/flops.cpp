// The arithmetic of operations, counted from their shapes.
#include "flops.h"

#include "../ops/convolution_window.h"
#include "../ops/records.h"

namespace opgrad {
namespace {

// Of a convolution and its gradients alike: each pixel of the result y of the convolution meets, in each of
// its channels, the whole window in all channels of the image.
double convolution(const Shape& y, const Shape& w, const void* attributes) {
  const Shape one = one_kernel(w, *static_cast<const Conv2DAttributes*>(attributes));
  return 2 * static_cast<double>(y.numel()) * static_cast<double>(one[0] * one[1] * one[2]);
}

// Of a depthwise one, each channel of a pixel of y meets the window in one channel of the image.
double depthwise_convolution(const Shape& y, const Shape& w, const void* attributes) {
  const Shape one = one_kernel(w, *static_cast<const DepthwiseAttributes*>(attributes));
  return 2 * static_cast<double>(y.numel()) * static_cast<double>(one[0] * one[1]);
}

}  // namespace

double flops_of(const Program& p, std::uint32_t item) {
  const Item& i = p.items[item];
  if (i.kind != ItemKind::op) return 0;
  const auto input = [&](std::size_t k) -> const Shape& { return p.shape(p.inputs_of(i)[k]); };
  const Shape& result = p.shape(item);
  if (i.op == &records::matmul_op)
    return 2 * static_cast<double>(result.numel()) * static_cast<double>(input(0).dim(-1));
  if (i.op == &records::conv2d_op) return convolution(result, input(1), i.attributes);
  if (i.op == &records::conv2d_kernel_gradient_op) return convolution(input(1), result, i.attributes);
  if (i.op == &records::conv2d_input_gradient_op) return convolution(input(0), input(1), i.attributes);
  if (i.op == &records::depthwise_conv2d_op) return depthwise_convolution(result, input(1), i.attributes);
  if (i.op == &records::depthwise_conv2d_kernel_gradient_op)
    return depthwise_convolution(input(1), result, i.attributes);
  if (i.op == &records::depthwise_conv2d_input_gradient_op)
    return depthwise_convolution(input(0), input(1), i.attributes);
  return 0;
}

}  // namespace opgrad
