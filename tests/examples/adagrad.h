#pragma once
#include "opgrad.h"
using namespace opgrad;

// sum + g^2 -> sum;  value - rate g / (sqrt(sum) + 1e-7). Source: Duchi, Hazan, Singer, JMLR 2011.
class Adagrad : public Optimizer {
 public:
  explicit Adagrad(LearningRate rate) : Optimizer(rate) {}

 private:
  Tensor update(const Tensor& value, const Tensor& gradient, Slots& slots) override {
    Tensor& sum = slots("sum");
    sum = sum + square(gradient);
    return value - rate(value) * gradient / (sqrt(sum) + 1e-7);
  }
};
