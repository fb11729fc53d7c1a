// A claimed gradient against the truth, and the wrong gradients that the comparison must reject.
#pragma once
#include "truth.h"

namespace opgrad::gradtests {

struct Judgement {
  bool accepted = true;
  bool zero = true;      // both sides are zero everywhere: nothing was seen
  double max_error = 0;  // relative to the scale of the input's gradient
  double bound = 0;      // at the place of max_error, likewise
  double power = 0;  // the smallest relative error of an input's gradient that would be rejected, at worst
  // The worst miss, if any: by element, or along a direction.
  std::size_t input = 0, element = 0;
  bool along = false;
  double claimed = 0, expected = 0, allowed = 0;
};

// `slack` is added to every bound, in units of the input's scale: f32's rounding. NaN is never accepted.
Judgement compare(const Truth& t, const std::vector<Numbers>& claimed, double slack = 0);
// The same for one input alone.
Judgement compare_one(const Truth& t, std::size_t input, const Numbers& claimed, double slack);
// Half of what the control "scaled" is off by: where the power is no better, a draw of numbers shows too
// little.
inline double enough_power(DType dtype) { return dtype == DType::f32 ? 5e-4 : 5e-6; }

// The tolerance of an f32 gradient, relative to the scale: some hundred roundings, as many as 1 - tanh(3)^2
// makes of one.
inline constexpr double f32_slack = 192 * 1.1920929e-7 / 2;

// Wrong gradients made from a right one.
struct Control {
  const char* kind;  // "scaled", "added", "zeroed", "sign", "transposed", "rot180"
  const char* done;  // "multiplied by 1.00001", ... after "a gradient that was"
  // The changed gradient, or nothing where the kind is not legal for the shape. What changes one element
  // takes it from `places`: those that are compared one by one.
  std::optional<Numbers> (*change)(const Numbers& g, const Shape& shape, DType dtype, std::uint64_t seed,
                                   std::span<const std::size_t> places);
};
std::span<const Control> controls();

}  // namespace opgrad::gradtests
