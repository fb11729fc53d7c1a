// Problems for the tests of explanations, and tanh with a wrong rule.
#pragma once
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "../graph/override.h"
#include "../ops/gradtest/explain.h"
#include "../ops/ops.h"
#include "../ops/records.h"

namespace opgrad::gradtests {

inline bool contains(const std::string& s, const std::string& part) { return s.find(part) != s.npos; }

inline Problem problem_of(GradtestFunction f, const std::vector<Shape>& shapes, double low = -2,
                          double high = 2) {
  Problem p{std::move(f), {}};
  std::vector<Sample> samples;
  for (const Shape& s : shapes) samples.push_back({s, low, high});
  p.inputs = draw(samples, 1);
  return p;
}

// The finding that a rule for tanh in place of the right one is worth; the check is the explainer's own.
struct WrongTanh {
  BackwardOverride rule;
  Problem first, problem;
  Finding finding;

  WrongTanh(const Shape& shape, BackwardRule wrong, int order = 1)
      : rule(records::tanh_op, std::move(wrong)),
        first(problem_of([](std::span<const Tensor> x) { return tanh(x[0]); }, {shape})),
        problem(first) {
    const auto s = compare_anew(first, order, DType::f64);
    REQUIRE(s);
    problem = s->problem;
    finding.name = "tanh";
    finding.example = 0;
    finding.order = order;
    finding.first = &first;
    finding.problem = &problem;
    finding.cotangent = s->cotangent;
    finding.claimed = s->claimed;
    finding.expected = s->expected;
    finding.bound = s->bound;
  }
  GradtestFailure explained() const {
    GradtestFailure failure;
    explain(finding, failure);
    return failure;
  }
};

inline Grads twice(const Tensor& y, const Tensor& dy, Wanted w) {
  return {records::tanh_op.backward(y, dy, w)[0] * 2};
}
inline Grads stale(const Tensor& y, const Tensor& dy, Wanted w) {
  return {records::tanh_op.backward(detach(y), dy, w)[0]};
}

}  // namespace opgrad::gradtests
