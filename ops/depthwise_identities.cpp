// Gradients of depthwise_conv2d put together from those of conv2d, channel by channel.
#include "convolution_claims.h"

#include "convolution_window.h"
#include "define.h"

namespace opgrad {
namespace {

Window window_of(const Tensor& y) {
  const auto& a = y.attributes<DepthwiseAttributes>();
  return {a.strides, a.dilations, Padding::valid, a.pads};
}

Tensor along(const Tensor& x, int axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1) {
  Axes from, to, by;
  for (int i = 0; i < x.rank(); ++i) {
    from.push_back(i == axis ? begin : 0);
    to.push_back(i == axis ? end : x.dim(i));
    by.push_back(i == axis ? step : 1);
  }
  return slice(x, from, to, by);
}

// The channels of delta that come from channel c; `apart`: as if all multiples q lay behind one another.
Tensor delta_of(const Tensor& delta, std::int64_t c, std::int64_t channels, bool apart) {
  const std::int64_t m = delta.dim(3) / channels;
  return apart ? along(delta, 3, c, delta.dim(3), channels) : along(delta, 3, c * m, (c + 1) * m);
}

Tensor kernel_gradient(const Tensor& y, const Tensor& delta, bool apart) {
  const Tensor x = y.input(0), w = y.input(1);
  if (w.rank() != 4) return {};
  std::vector<Tensor> parts;
  for (std::int64_t c = 0; c < w.dim(2); ++c)
    parts.push_back(conv2d_kernel_gradient(along(x, 3, c, c + 1), delta_of(delta, c, w.dim(2), apart),
                                           {w.dim(0), w.dim(1), 1, w.dim(3)}, window_of(y)));
  return concatenate(parts, 2);
}

Tensor input_gradient(const Tensor& y, const Tensor& delta, bool turned) {
  const Tensor x = y.input(0), w = y.input(1);
  if (w.rank() != 4) return {};
  std::vector<Tensor> parts;
  for (std::int64_t c = 0; c < w.dim(2); ++c) {
    const Tensor kernel = along(w, 2, c, c + 1);
    parts.push_back(conv2d_input_gradient(delta_of(delta, c, w.dim(2), false),
                                          turned ? rot180(kernel) : kernel, {x.dim(0), x.dim(1), x.dim(2), 1},
                                          window_of(y)));
  }
  return concatenate(parts, 3);
}

}  // namespace

Identities depthwise_identities() {
  return {{"kernel gradient = that of conv2d for each channel and its multiples", 1, true,
           [](const Tensor& y, const Tensor& delta) { return kernel_gradient(y, delta, false); }},
          {"kernel gradient = that of conv2d for each channel and every channel-th of the result", 1, false,
           [](const Tensor& y, const Tensor& delta) {
             const Tensor w = y.input(1);
             return w.dim(2) == 1 || w.dim(3) == 1 ? Tensor() : kernel_gradient(y, delta, true);
           }},
          {"input gradient = that of conv2d for each channel and its multiples", 0, true,
           [](const Tensor& y, const Tensor& delta) { return input_gradient(y, delta, false); }},
          {"input gradient = that of conv2d with kernels turned by 180 degrees", 0, false,
           [](const Tensor& y, const Tensor& delta) {
             const Tensor w = y.input(1);
             return w.dim(0) * w.dim(1) == 1 ? Tensor() : input_gradient(y, delta, true);
           }}};
}

}  // namespace opgrad
