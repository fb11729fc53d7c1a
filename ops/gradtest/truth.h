// Derivatives from forward values alone, with a bound on their error.
#pragma once
#include "problem.h"

namespace opgrad::gradtests {

// The derivative of every output along one direction, and a bound on its error. Along a direction in which
// an output has a kink, `value` is the middle of its two one-sided slopes and `error` half their distance.
struct Slope {
  Numbers value, error;
  bool good = true;   // the bound is small beside the value, kinks aside
  bool kink = false;  // some output has one
};

// Forward mode without a step: dual numbers through kernels that have them (core/dual.h), linearity where the
// trait says so. Nothing where an operation on the way has neither. Error: the
// rounding of a few operations, relative to the greatest slope. Kinks are not seen.
std::optional<Slope> exact_slope(const Problem& p, std::span<const Numbers> direction);

// The greatest magnitude among the floats of all nodes that y is computed from: what the rounding of y is
// relative to, whatever cancels on the way. And how many elements they have in all.
double greatest_value_behind(const Tensor& y);
std::int64_t elements_behind(const Tensor& y);

// Central differences, extrapolated to step 0 by Neville's scheme (Richardson 1911), whose last two entries
// estimate the error. The step shrinks until the estimate is good. Where it stays bad, the one-sided slopes
// are extrapolated likewise, and if both are good and differ, there is a kink.
class Probe {
 public:
  // With weights, of the number <weights, f> in place of f.
  explicit Probe(const Problem& p, const Numbers* weights = nullptr);
  Slope difference(std::span<const Numbers> direction) const;
  // f at x + t * direction; `size` grows to that of the greatest term.
  Numbers value(std::span<const Numbers> direction, double t, double& size) const;
  // The greatest magnitude on the way to f.
  double size() const { return size_; }

 private:
  Numbers weighed(Numbers values, double& size) const;
  const Problem& p_;
  std::vector<Tensor> at_;
  const Numbers* weights_;
  Numbers middle_;
  double size_ = 0;  // of what is computed on the way to f
};

// A direction along one element of one input; no numbers for the others, which do not move.
std::vector<Numbers> unit(const Problem& p, std::size_t input, std::size_t element);

// The gradient of <cotangent, f> at chosen elements of the inputs: all of them where the problem is small.
struct Truth {
  struct Entry {
    std::size_t element;
    double value, bound;
    bool kink = false;
    bool good = true;  // else the bound is a guess
    double scale = 0;  // the sum of |cotangent * slope| here, and a tenth of the greatest anywhere
  };
  std::vector<std::vector<Entry>> of;  // per input; empty where inactive
  // <cotangent, J v> for random directions v within one input: the adjoint test sees every element at once.
  struct Along {
    std::size_t input;
    Numbers direction;
    double value, bound;
  };
  std::vector<Along> along;
  // Per input the greatest sum of |cotangent * slope|: what rounding is relative to.
  std::vector<double> scale;
  std::vector<bool> vanishes;               // the input's gradient is zero but for rounding
  std::vector<std::vector<Slope>> columns;  // of the Jacobian, for each entry; kept when complete
  bool complete = true;                     // every element of every input is there
  bool good = true;                         // every entry has a small bound, kinks aside
  bool exact = false;                       // without differences
  std::string disagreement;                 // dual numbers and differences of values differ, and where
};
// Of a large function, elements are chosen at random and among the greatest of `claimed`.
Truth truth(const Problem& p, const Numbers& cotangent, std::uint64_t seed,
            const std::vector<Numbers>* claimed = nullptr);

}  // namespace opgrad::gradtests
