// What the layers compute, and what they say to inputs that do not fit.
#include "layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

namespace opgrad {
namespace {

std::string text(const Tensor& x) { return to_string(Type{x.dtype(), x.shape()}); }

// The hint for images that seem to have their channels first: few "rows", then two equal axes.
std::string channels_first_hint(const Shape& s, std::int64_t channels) {
  const bool likely = s.rank() == 4 && s[1] < s[2] && (s[1] == channels || (s[1] <= 4 && s[2] == s[3]));
  return likely
             ? fmt::format(
                   "; if axis 1 of {} holds the channels (channels first), write permute(x, {{0, 2, 3, 1}})",
                   to_string(s))
             : "";
}

std::string image_rank_message(const Tensor& x) {
  const char* way = x.rank() == 3   ? "; for images of one channel write expand_dims(x, -1), for one image "
                                      "expand_dims(x, 0)"
                    : x.rank() == 2 ? "; reshape flat images to [batch, rows, columns, channels]"
                                    : "";
  return fmt::format(
      "it takes images [batch, rows, columns, channels], of rank 4, but was given {} of rank {}{}", text(x),
      x.rank(), way);
}

std::string dtype_message(const Tensor& x, const Parameter& kernel) {
  return fmt::format("it was given {}, but its kernel is {}; write cast(x, DType::{})", text(x),
                     text(kernel.value()), name_of(kernel.dtype()));
}

// What is wrong with images for a convolution by a kernel, if it exists already, of this size; empty if
// nothing is.
std::string image_fault(const Tensor& x, const Parameter& kernel, Pixels size, Pixels dilations,
                        Padding padding) {
  if (x.rank() != 4) return image_rank_message(x);
  if (kernel) {
    if (const std::int64_t wanted = kernel.shape()[2]; wanted != x.dim(3))
      return fmt::format("it was given {} with {} channels on the last axis, but its kernel {} takes {}{}",
                         text(x), x.dim(3), text(kernel.value()), wanted,
                         channels_first_hint(x.shape(), wanted));
    if (kernel.dtype() != x.dtype()) return dtype_message(x, kernel);
  }
  const std::int64_t height = (size.rows - 1) * dilations.rows + 1;
  const std::int64_t width = (size.columns - 1) * dilations.columns + 1;
  if (padding == Padding::valid && (x.dim(1) < height || x.dim(2) < width))
    return fmt::format(
        "a kernel that spans {} x {} pixels does not fit into {} x {} of {}; pad with "
        "{{.padding = Padding::same}}{}",
        height, width, x.dim(1), x.dim(2), text(x), channels_first_hint(x.shape(), -1));
  return "";
}

// What is wrong with the numbers that a layer was given: those below 1.
std::string size_fault(std::initializer_list<std::pair<const char*, Pixels>> sizes) {
  for (const auto& [what, n] : sizes)
    if (const std::int64_t least = std::min(n.rows, n.columns); least < 1)
      return fmt::format("{} is {}, but must be at least 1", what, least);
  return "";
}

}  // namespace

Dense::Dense(std::int64_t units, Activation activation, DenseOptions options)
    : units_(units), activation_(std::move(activation)), options_(options) {
  if (units < 1) fail(fmt::format("units is {}, but must be at least 1", units));
}

Tensor Dense::forward(const Tensor& x) const {
  if (x.rank() != 2)
    fail(fmt::format(
        "it takes [batch, features], of rank 2, but was given {} of rank {}{}", text(x), x.rank(),
        x.rank() > 2 ? "; put Flatten() before it" : "; for one example write expand_dims(x, 0)"));
  const std::int64_t width = x.dim(1);
  if (const Parameter kernel = existing("kernel")) {
    if (kernel.shape()[0] != width)
      fail(fmt::format(
          "it was given {} with {} features, but its kernel {} takes {}; the number of features is fixed "
          "at the first use",
          text(x), width, text(kernel.value()), kernel.shape()[0]));
    if (kernel.dtype() != x.dtype()) fail(dtype_message(x, kernel));
  }
  const Parameter kernel =
      weight("kernel", {width, units_}, x.dtype(), options_.kernel_initializer, width, units_);
  Tensor y = matmul(x, kernel);
  if (options_.use_bias) y = y + weight("bias", {units_}, x.dtype(), Initializer::zeros);
  return activation_(y);
}

Conv2D::Conv2D(std::int64_t filters, Pixels kernel_size, Activation activation, Conv2DOptions options)
    : filters_(filters), size_(kernel_size), activation_(std::move(activation)), options_(options) {
  if (const std::string fault = size_fault({{"filters", filters},
                                            {"kernel_size", size_},
                                            {"strides", options_.strides},
                                            {"dilations", options_.dilations}});
      !fault.empty())
    fail(fault);
}

Tensor Conv2D::forward(const Tensor& x) const {
  if (const std::string fault =
          image_fault(x, existing("kernel"), size_, options_.dilations, options_.padding);
      !fault.empty())
    fail(fault);
  const std::int64_t channels = x.dim(3);
  const std::int64_t area = size_.rows * size_.columns;
  const Parameter kernel = weight("kernel", {size_.rows, size_.columns, channels, filters_}, x.dtype(),
                                  options_.kernel_initializer, area * channels, area * filters_);
  Tensor y = conv2d(x, kernel,
                    {.strides = {options_.strides.rows, options_.strides.columns},
                     .dilations = {options_.dilations.rows, options_.dilations.columns},
                     .padding = options_.padding});
  if (options_.use_bias) y = y + weight("bias", {filters_}, x.dtype(), Initializer::zeros);
  return activation_(y);
}

DepthwiseConv2D::DepthwiseConv2D(Pixels kernel_size, Activation activation, DepthwiseConv2DOptions options)
    : size_(kernel_size), activation_(std::move(activation)), options_(options) {
  if (const std::string fault = size_fault({{"kernel_size", size_},
                                            {"strides", options_.strides},
                                            {"depth_multiplier", options_.depth_multiplier},
                                            {"dilations", options_.dilations}});
      !fault.empty())
    fail(fault);
}

Tensor DepthwiseConv2D::forward(const Tensor& x) const {
  if (const std::string fault =
          image_fault(x, existing("kernel"), size_, options_.dilations, options_.padding);
      !fault.empty())
    fail(fault);
  const std::int64_t channels = x.dim(3), multiplier = options_.depth_multiplier;
  const std::int64_t area = size_.rows * size_.columns;
  const Parameter kernel = weight("kernel", {size_.rows, size_.columns, channels, multiplier}, x.dtype(),
                                  options_.kernel_initializer, area * channels, area * multiplier);
  Tensor y = depthwise_conv2d(x, kernel,
                              {.strides = {options_.strides.rows, options_.strides.columns},
                               .dilations = {options_.dilations.rows, options_.dilations.columns},
                               .padding = options_.padding});
  if (options_.use_bias) y = y + weight("bias", {channels * multiplier}, x.dtype(), Initializer::zeros);
  return activation_(y);
}

MaxPool2D::MaxPool2D(Pixels pool_size, Pixels strides) : size_(pool_size), strides_(strides) {
  for (const std::int64_t n : {size_.rows, size_.columns, strides_.rows, strides_.columns})
    if (n < 1) fail(fmt::format("a size or stride is {}, but must be at least 1", n));
}

Tensor MaxPool2D::forward(const Tensor& x) const {
  if (x.rank() != 4) fail(image_rank_message(x));
  if (x.dim(1) < size_.rows || x.dim(2) < size_.columns)
    fail(fmt::format("a window of {} x {} pixels does not fit into {} x {} of {}{}", size_.rows,
                     size_.columns, x.dim(1), x.dim(2), text(x), channels_first_hint(x.shape(), -1)));
  return max_pool2d(x, {size_.rows, size_.columns}, {strides_.rows, strides_.columns});
}

Tensor Flatten::forward(const Tensor& x) const {
  if (x.rank() < 1) fail(fmt::format("it takes [batch, ...], but was given {}", text(x)));
  std::int64_t features = 1;
  for (int axis = 1; axis < x.rank(); ++axis) features *= x.shape()[axis];
  return reshape(x, {x.dim(0), features});
}

Dropout::Dropout(double rate) : rate_(rate) {
  if (!(rate >= 0 && rate < 1)) fail(fmt::format("rate is {}, but must be at least 0 and less than 1", rate));
}

Tensor Dropout::forward(const Tensor& x) const {
  if (!training() || rate_ == 0) return x;
  if (!is_float(x.dtype())) fail(fmt::format("it takes floats, but was given {}", text(x)));
  const Tensor keep = random_uniform(random_key(call_key()), x.shape(), 0, 1, x.dtype()) >= rate_;
  return where(keep, x * (1 / (1 - rate_)), 0.0);
}

BatchNormalization::BatchNormalization(BatchNormalizationOptions options) : options_(options) {
  if (!(options.momentum >= 0 && options.momentum <= 1))
    fail(fmt::format("momentum is {}, but must be from 0 to 1", options.momentum));
  if (!(options.epsilon >= 0)) fail(fmt::format("epsilon is {}, but must be 0 or more", options.epsilon));
}

Tensor BatchNormalization::forward(const Tensor& x) const {
  if (x.rank() < 2) fail(fmt::format("it takes [batch, ..., channels], but was given {}", text(x)));
  const Shape channels{x.dim(-1)};
  if (const Parameter gamma = existing("gamma")) {
    if (gamma.shape() != channels)
      fail(fmt::format(
          "it was given {} with {} channels on the last axis, but normalises {}; the number of channels is "
          "fixed at the first use",
          text(x), channels[0], gamma.shape()[0]));
    if (gamma.dtype() != x.dtype()) fail(dtype_message(x, gamma));
  }
  const Parameter gamma = weight("gamma", channels, x.dtype(), Initializer::ones);
  const Parameter beta = weight("beta", channels, x.dtype(), Initializer::zeros);
  Parameter moving_mean = statistic("moving_mean", channels, x.dtype(), Initializer::zeros);
  Parameter moving_variance = statistic("moving_variance", channels, x.dtype(), Initializer::ones);
  if (!training()) return gamma * (x - moving_mean) / sqrt(moving_variance + options_.epsilon) + beta;
  Axes axes;
  for (int axis = 0; axis < x.rank() - 1; ++axis) axes.push_back(axis);
  const Tensor batch_mean = mean(x, axes);
  const Tensor centred = x - batch_mean;
  const Tensor variance = mean(square(centred), axes);
  const auto move = [&](Parameter& moving, const Tensor& now) {
    moving.assign(options_.momentum * moving + (1 - options_.momentum) * detach(now));
  };
  move(moving_mean, batch_mean);
  move(moving_variance, variance);
  return gamma * centred / sqrt(variance + options_.epsilon) + beta;
}

}  // namespace opgrad
