// Learning rates: a number, or a function from the step (0 is the first) to a number.
#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <type_traits>
#include <utility>

namespace opgrad {

// What optimizers take as their rate. Any callable from std::int64_t to double will do: [](std::int64_t step)
// {...}.
class LearningRate {
 public:
  LearningRate(double constant) : constant_(constant) {}
  template <class F>
  requires(!std::is_arithmetic_v<F> && std::is_invocable_r_v<double, const F&, std::int64_t>)
      LearningRate(F schedule)
      : schedule_(std::move(schedule)) {}
  double operator()(std::int64_t step) const { return schedule_ ? schedule_(step) : constant_; }

 private:
  double constant_ = 0;
  std::function<double(std::int64_t)> schedule_;
};

// Half a cosine from `initial` at step 0 to 0 at step `steps`, and 0 after; with `warmup` > 0 it first rises
// in a straight line from initial/warmup over that many steps. UserError unless 0 <= warmup < steps. Source:
// Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts.
LearningRate cosine(double initial, std::int64_t steps, std::int64_t warmup = 0);

// The rate of the last pair whose step has come: piecewise({{0, 1e-3}, {1000, 1e-4}}). UserError unless the
// steps begin at 0 and rise.
LearningRate piecewise(std::initializer_list<std::pair<std::int64_t, double>> rates);

}  // namespace opgrad
