// Optimizers: plain tensor maths on parameters. One of your own derives from Optimizer and says how one
// parameter moves:
//
//     class HeavyBall : public Optimizer {
//      public:
//       explicit HeavyBall(double rate) : Optimizer(rate) {}
//
//      private:
//       Tensor update(const Tensor& value, const Tensor& gradient, Slots& slots) override {
//         Tensor& speed = slots("speed");
//         speed = 0.9 * speed - rate(value) * gradient;
//         return value + speed;
//       }
//     };
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../graph/grad.h"
#include "schedule.h"

namespace opgrad {

// What an optimizer remembers of one parameter from step to step: tensors of the parameter's type, zero at
// first, found by name. What is assigned to them becomes their value when the step succeeds.
class Slots {
 public:
  explicit Slots(Parameter owner) : owner_(std::move(owner)) {}
  // A tensor that is assigned to, and remembered till the next step: `Tensor& m = slots("m");`. The reference
  // stays good during the call of `update`; a copy would be forgotten, so there is none.
  struct Remembered : Tensor {
    Remembered(Tensor t) : Tensor(std::move(t)) {}
    Remembered(const Remembered&) = delete;
    Remembered& operator=(const Remembered&) = delete;
    using Tensor::operator=;
  };
  Remembered& operator()(const std::string& name);

 private:
  friend class Optimizer;
  struct Slot {
    Slot(std::string n, Parameter s, Tensor v)
        : name(std::move(n)), state(std::move(s)), value(std::move(v)) {}
    std::string name;
    Parameter state;
    Remembered value;  // during `update` only
  };
  Parameter owner_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

class Optimizer {
 public:
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // apply(gradients(loss)): forward, backward and update in one plan. Returns the loss, computed with the old
  // weights; whatever else of its graph you still hold is computed along with it. The second form moves these
  // parameters only. UserError when the loss is no single float, depends on no trainable parameter, was
  // stepped already, or is NaN or infinite (the message names the first operation that gave such a number);
  // then no parameter has changed.
  Tensor step(const Operand& loss);
  Tensor step(const Operand& loss, std::span<const Parameter> parameters);

  // Moves the parameters by these gradients, however they came about (clipped, summed, negated).
  Tensor apply(Gradients gradients, const char* file = __builtin_FILE(), int line = __builtin_LINE());

  // Steps taken so far. Inside `update` it is the number of this one, the first being 1.
  std::int64_t steps() const;
  // The rate of the next step; inside `update`, of this one.
  double learning_rate() const;
  void set_learning_rate(LearningRate rate);
  // The current content of a slot; zeros if the parameter was never moved. UserError when there is no such
  // slot.
  Tensor slot(const Parameter& parameter, const std::string& name) const;

 protected:
  explicit Optimizer(LearningRate rate);
  // The next value of a parameter, pending, of the type of `value`.
  virtual Tensor update(const Tensor& value, const Tensor& gradient, Slots& slots) = 0;
  // A number in the shape and type of `like` that may change from step to step without a new plan.
  static Tensor changing(double number, const Tensor& like) {
    return slot_number(like.shape(), number, like.dtype());
  }
  Tensor rate(const Tensor& like) const { return changing(learning_rate(), like); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// value - rate * g with g = gradient + weight_decay * value. With momentum: speed = momentum * speed - rate *
// g and value + speed; with Nesterov: value + momentum * speed - rate * g. Sources: Sutskever, Martens, Dahl,
// Hinton, ICML 2013, equations 1 to 4 (as Keras writes them); weight decay as in Krizhevsky, Sutskever,
// Hinton, NIPS 2012, section 5.
struct SGDOptions {
  LearningRate learning_rate = 0.01;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
};
class SGD : public Optimizer {
 public:
  explicit SGD(SGDOptions options = {});

 private:
  Tensor update(const Tensor& value, const Tensor& gradient, Slots& slots) override;
  SGDOptions options_;
};

// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; value - a m / (sqrt(v) + epsilon), a = rate sqrt(1 -
// b2^t)/(1 - b1^t). Source: Kingma and Ba, ICLR 2015, algorithm 1 in the order given at the end of its
// section 2, where epsilon is called epsilon-hat; Keras does the same and has these defaults.
struct AdamOptions {
  LearningRate learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-7;
};
class Adam : public Optimizer {
 public:
  explicit Adam(AdamOptions options = {});

 private:
  Tensor update(const Tensor& value, const Tensor& gradient, Slots& slots) override;
  AdamOptions options_;
};

// Adam with decoupled weight decay: the same step from (1 - rate * weight_decay) * value.
// Source: Loshchilov and Hutter, ICLR 2019, algorithm 2, the decay times the rate as in Keras, whose defaults
// these are.
struct AdamWOptions {
  LearningRate learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-7;
  double weight_decay = 0.004;
};
class AdamW : public Optimizer {
 public:
  explicit AdamW(AdamWOptions options = {});

 private:
  Tensor update(const Tensor& value, const Tensor& gradient, Slots& slots) override;
  AdamWOptions options_;
};

// The gradients times min(1, limit / norm), norm being the square root of the sum of all their squares:
// adam.apply(clip_by_global_norm(gradients(loss), 1.0)). UserError unless limit > 0 and all have one dtype.
// Source: Pascanu, Mikolov, Bengio, ICML 2013, algorithm 1, over all parameters together.
Gradients clip_by_global_norm(Gradients gradients, double limit);

// How many steps this thread's optimizers have taken since it began or since it was set: the step in the keys
// of random layers. Set it to 0 where a training run begins, or to its old value where one is taken up again.
std::uint64_t training_step();
void set_training_step(std::uint64_t step);

}  // namespace opgrad
