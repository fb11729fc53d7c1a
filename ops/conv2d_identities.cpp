// Gradients of conv2d put together from operators on images of one channel.
#include "convolution_claims.h"

#include "define.h"

namespace opgrad {
namespace {

bool plain_window(const Tensor& y) {
  Words words;
  y.node()->op->attributes->words(y.node()->attributes(), words);
  // Two strides, two dilations, four pads.
  return words.size() >= 8 && Words(words.begin(), words.begin() + 8) == Words{1, 1, 1, 1, 0, 0, 0, 0};
}

Tensor image(const Tensor& x, std::int64_t b, std::int64_t channel) {
  const Tensor one = slice(x, {b, 0, 0, channel}, {b + 1, x.dim(1), x.dim(2), channel + 1});
  return reshape(one, Shape{x.dim(1), x.dim(2)});
}

Tensor plane(const Tensor& w, std::int64_t in, std::int64_t out) {
  const Tensor one = slice(w, {0, 0, in, out}, {w.dim(0), w.dim(1), in + 1, out + 1});
  return reshape(one, Shape{w.dim(0), w.dim(1)});
}

using Combine = Tensor (*)(const Tensor& image, const Tensor& other);

// dw[:, :, c, k] = sum over the batch of combine(input image of channel c, delta of channel k).
Tensor kernel_gradient(const Tensor& y, const Tensor& delta, Combine combine) {
  if (!plain_window(y)) return {};
  const Tensor x = y.input(0), w = y.input(1);
  std::vector<Tensor> by_in;
  for (std::int64_t c = 0; c < w.dim(2); ++c) {
    std::vector<Tensor> by_out;
    for (std::int64_t k = 0; k < w.dim(3); ++k) {
      Tensor total = combine(image(x, 0, c), image(delta, 0, k));
      for (std::int64_t b = 1; b < x.dim(0); ++b) total = total + combine(image(x, b, c), image(delta, b, k));
      by_out.push_back(reshape(total, Shape{w.dim(0), w.dim(1), 1, 1}));
    }
    by_in.push_back(concatenate(by_out, 3));
  }
  return concatenate(by_in, 2);
}

// dx[b, :, :, c] = sum over the channels k of combine(delta of channel k, kernel plane from c to k).
Tensor input_gradient(const Tensor& y, const Tensor& delta, Combine combine) {
  if (!plain_window(y)) return {};
  const Tensor x = y.input(0), w = y.input(1);
  std::vector<Tensor> images;
  for (std::int64_t b = 0; b < x.dim(0); ++b) {
    std::vector<Tensor> channels;
    for (std::int64_t c = 0; c < x.dim(3); ++c) {
      Tensor total = combine(image(delta, b, 0), plane(w, c, 0));
      for (std::int64_t k = 1; k < w.dim(3); ++k) total = total + combine(image(delta, b, k), plane(w, c, k));
      channels.push_back(reshape(total, Shape{1, x.dim(1), x.dim(2), 1}));
    }
    images.push_back(concatenate(channels, 3));
  }
  return concatenate(images, 0);
}

// What turning by 180 degrees leaves as it is makes a false claim true.
Tensor unless_single(const Tensor& pixels, const Tensor& claim, int row_axis) {
  return pixels.dim(row_axis) * pixels.dim(row_axis + 1) == 1 ? Tensor() : claim;
}

}  // namespace

Identities conv2d_identities() {
  return {{"kernel gradient = the convolution of the input with rot180(delta)", 1, true,
           [](const Tensor& y, const Tensor& delta) {
             return kernel_gradient(
                 y, delta, [](const Tensor& o, const Tensor& d) { return convolve2d(o, rot180(d)); });
           }},
          {"kernel gradient = the correlation of the input with delta", 1, true,
           [](const Tensor& y, const Tensor& delta) {
             return kernel_gradient(y, delta,
                                    [](const Tensor& o, const Tensor& d) { return correlate2d(o, d); });
           }},
          {"kernel gradient = the correlation of the input with the flipped delta", 1, false,
           [](const Tensor& y, const Tensor& delta) {
             const Tensor claim = kernel_gradient(
                 y, delta, [](const Tensor& o, const Tensor& d) { return correlate2d(o, rot180(d)); });
             return unless_single(delta, claim, 1);
           }},
          {"input gradient = the full convolution of delta with the kernel", 0, true,
           [](const Tensor& y, const Tensor& delta) {
             return input_gradient(y, delta,
                                   [](const Tensor& d, const Tensor& w) { return convolve2d(d, w, true); });
           }},
          {"input gradient = the full correlation of delta with the kernel", 0, false,
           [](const Tensor& y, const Tensor& delta) {
             const Tensor claim = input_gradient(
                 y, delta, [](const Tensor& d, const Tensor& w) { return correlate2d(d, w, true); });
             return unless_single(y.input(1), claim, 0);
           }}};
}

}  // namespace opgrad
