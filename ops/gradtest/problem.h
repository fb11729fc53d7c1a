// What the tester differentiates: a function of tensors, and numbers for them.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gradtest.h"

namespace opgrad::gradtests {

using Numbers = std::vector<double>;

struct Input {
  Shape shape;
  DType dtype = DType::f64;  // f64: differentiated; others stay as they are
  Numbers values;
  double low = -1, high = 1;  // the domain on which the function is claimed
  bool active() const { return dtype == DType::f64; }
};

struct Problem {
  GradtestFunction f;
  std::vector<Input> inputs;
};

// How far a step may go: at most 1, less where the domain is narrow.
double reach(const Input& in);

// Signed numbers of magnitude 0.25 to 1.25: a direction or a cotangent that sees every element.
Numbers signed_numbers(std::uint64_t seed, std::int64_t n);

// Random inputs for these samples. Floats come one from each of n equal parts of [low, high), in random
// order: no two are close, so that few kinks lie within a difference step. All are exact in f32.
std::vector<Input> draw(std::span<const Sample> samples, std::uint64_t seed);

// A dense leaf; the numbers of a tensor as double, computing it.
Tensor leaf_of(const Numbers& values, const Shape& shape, DType dtype);
Numbers numbers_of(const Tensor& x);

// The leaves of a problem, active ones as variables of the float type under test.
std::vector<Tensor> leaves(const std::vector<Input>& inputs, DType under_test = DType::f64);
// f's result as numbers; and at x + t * direction, where `at` are the leaves at x and a direction has numbers
// for each input that moves.
Numbers value(const Problem& p);
Numbers value_along(const Problem& p, std::span<const Tensor> at, std::span<const Numbers> direction,
                    double t);

// Gradients of <cotangent, f> by the backward rules: one per input, empty where inactive; zeros (and
// `connected` false) where the graph has no differentiable path.
struct Gradient {
  std::vector<Numbers> of;
  std::vector<bool> connected;
};
Gradient gradient(const Problem& p, const Numbers& cotangent, DType under_test = DType::f64);
// With a cotangent of any make, and for one input alone where `only` names it.
Gradient gradient(const Problem& p, const std::function<Tensor(const Tensor& y)>& cotangent, DType under_test,
                  std::optional<std::size_t> only = std::nullopt);

// The gradients of p as a function of its inputs and of the cotangent (the last input), joined into one
// vector; nothing when no gradient exists.
std::optional<Problem> derived(const Problem& p, std::uint64_t seed);

}  // namespace opgrad::gradtests
