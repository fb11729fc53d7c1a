#pragma once
#include <cmath>

#include "opgrad.h"
using namespace opgrad;

// Rises in a straight line to `peak` at step `warmup`, then falls as 1 / sqrt(step).
inline LearningRate warmup_then_sqrt(double peak, double warmup) {
  return [=](std::int64_t step) {
    const double t = static_cast<double>(step + 1) / warmup;
    return peak * std::min(t, 1 / std::sqrt(t));
  };
}
