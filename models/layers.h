// The layers, with Keras's names and defaults, except that the activation is the third argument of Conv2D
// and the second of DepthwiseConv2D.
// Sizes of inputs are inferred at the first use and fixed from then on. Images are [batch, rows, columns,
// channels].
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "../ops/ops.h"
#include "module.h"

namespace opgrad {

// What a layer does to its result: relu, softmax (over the last axis), any callable from Tensor to Tensor;
// nothing when default constructed.
class Activation {
 public:
  Activation() = default;
  Activation(Tensor (*f)(const Operand&)) : f_([f](const Tensor& x) { return f(x); }) {}
  Activation(Tensor (*f)(const Operand&, std::int64_t)) : f_([f](const Tensor& x) { return f(x, -1); }) {}
  template <class F>
  requires(!std::is_same_v<F, Activation> && std::is_invocable_r_v<Tensor, const F&, const Tensor&>)
      Activation(F f)
      : f_(std::move(f)) {}
  Tensor operator()(const Tensor& x) const { return f_ ? f_(x) : x; }

 private:
  std::function<Tensor(const Tensor&)> f_;
};

// Rows and columns; one number stands for both.
struct Pixels {
  std::int64_t rows, columns;
  Pixels(std::int64_t both) : rows(both), columns(both) {}
  Pixels(std::int64_t r, std::int64_t c) : rows(r), columns(c) {}
};

// activation(x kernel + bias): [batch, in] -> [batch, units]. Parameters kernel [in, units], bias [units].
struct DenseOptions {
  bool use_bias = true;
  Initializer kernel_initializer = Initializer::glorot_uniform;
};
class Dense : public Layer<Dense> {
 public:
  explicit Dense(std::int64_t units, Activation activation = {}, DenseOptions options = {});
  Tensor forward(const Tensor& x) const;

 private:
  std::int64_t units_;
  Activation activation_;
  DenseOptions options_;
};

// activation(conv2d(x, kernel) + bias): [batch, rows, columns, in] -> [batch, rows', columns', filters]; for
// padding valid rows' = floor((rows - dilation (height - 1) - 1) / stride) + 1, for same ceil(rows / stride).
// Parameters kernel [height, width, in, filters], bias [filters].
struct Conv2DOptions {
  Pixels strides = 1;
  Padding padding = Padding::valid;
  Pixels dilations = 1;
  bool use_bias = true;
  Initializer kernel_initializer = Initializer::glorot_uniform;
};
class Conv2D : public Layer<Conv2D> {
 public:
  Conv2D(std::int64_t filters, Pixels kernel_size, Activation activation = {}, Conv2DOptions options = {});
  Tensor forward(const Tensor& x) const;

 private:
  std::int64_t filters_;
  Pixels size_;
  Activation activation_;
  Conv2DOptions options_;
};

// activation(depthwise_conv2d(x, kernel) + bias): [batch, rows, columns, in] -> [batch, rows', columns', in
// depth_multiplier], each channel by itself; rows' as in Conv2D. Parameters kernel [height, width, in,
// depth_multiplier], bias [in depth_multiplier]. The fans of initial values are those of Conv2D with that
// kernel, as in Keras.
struct DepthwiseConv2DOptions {
  Pixels strides = 1;
  Padding padding = Padding::valid;
  std::int64_t depth_multiplier = 1;
  Pixels dilations = 1;
  bool use_bias = true;
  Initializer kernel_initializer = Initializer::glorot_uniform;
};
class DepthwiseConv2D : public Layer<DepthwiseConv2D> {
 public:
  explicit DepthwiseConv2D(Pixels kernel_size, Activation activation = {},
                           DepthwiseConv2DOptions options = {});
  Tensor forward(const Tensor& x) const;

 private:
  Pixels size_;
  Activation activation_;
  DepthwiseConv2DOptions options_;
};

// The greatest of each window; strides are the window's size unless given. Incomplete windows are dropped.
class MaxPool2D : public Layer<MaxPool2D> {
 public:
  explicit MaxPool2D(Pixels pool_size = 2) : MaxPool2D(pool_size, pool_size) {}
  MaxPool2D(Pixels pool_size, Pixels strides);
  Tensor forward(const Tensor& x) const;

 private:
  Pixels size_, strides_;
};

// [batch, ...] -> [batch, product of the rest].
class Flatten : public Layer<Flatten> {
 public:
  Tensor forward(const Tensor& x) const;
};

// In training mode each element is 0 with probability `rate`, else x / (1 - rate); in inference mode x. What
// is dropped follows from seed, path, training step and number of the call. Source: Srivastava et al., JMLR
// 2014.
class Dropout : public Layer<Dropout> {
 public:
  explicit Dropout(double rate);
  Tensor forward(const Tensor& x) const;

 private:
  double rate_;
};

// gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel (last axis). In training mode mean and
// variance are the batch's, and move the moving ones: m = momentum m + (1 - momentum) batch's; in inference
// mode they are the moving ones. Parameters gamma, beta; statistics moving_mean, moving_variance. The
// variance divides by the count. Source: Ioffe and Szegedy, ICML 2015.
struct BatchNormalizationOptions {
  double momentum = 0.99;
  double epsilon = 1e-3;
};
class BatchNormalization : public Layer<BatchNormalization> {
 public:
  explicit BatchNormalization(BatchNormalizationOptions options = {});
  Tensor forward(const Tensor& x) const;

 private:
  BatchNormalizationOptions options_;
};

}  // namespace opgrad
