// Records to be tested by the gradient tester: x^3, with the parts under test put in.
#pragma once
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../ops/define.h"
#include "../ops/gradtest/gradtest.h"

namespace opgrad::test {

inline GradtestOptions quick(std::vector<DType> dtypes = {DType::f64}) {
  GradtestOptions o;
  o.dtypes = std::move(dtypes);
  o.threads = {};
  o.explain = false;
  return o;
}

// Every check that complained.
inline std::set<std::string> complaints(const GradtestReport& r) {
  std::set<std::string> checks;
  for (const GradtestRow& row : r.rows)
    for (const GradtestFailure& f : row.failures) checks.insert(f.check);
  return checks;
}

// A record with one float input of shape [2, 3]; the parts under test are put in.
template <const Op& op>
Tensor call_one(std::span<const Tensor> x) {
  return make(op, {x[0].node()}, {});
}
template <const Op& op>
Examples one_example() {
  return {{{sample({2, 3})}, call_one<op>}};
}
// Matrices that may be transposed.
template <const Op& op>
Examples square_example() {
  return {{{sample({3, 3})}, call_one<op>}};
}

struct Cube {
  template <class X>
  [[gnu::always_inline]] X operator()(const X& x) const {
    return x * x * x;
  }
};
inline constexpr Kernel cube_kernel = map1<Cube{}>;
inline Tensor cube_rule(const Tensor& y, const Tensor& dy) { return dy * 3 * square(y.input(0)); }

constexpr Op cube(const char* name, Backward backward, Examples (*examples)()) {
  return {.name = name,
          .arity = 1,
          .about = "x^3",
          .shape = same_float,
          .forward = cube_kernel,
          .backward = backward,
          .examples = examples};
}

}  // namespace opgrad::test
