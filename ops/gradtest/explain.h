// What is wrong with a gradient: named from its pattern, shown on a handful of numbers, and written as a
// test.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "problem.h"

namespace opgrad::gradtests {

struct Finding {     // gradients that differ from the truth (or could not be believed)
  std::string name;  // of the operation or function
  int example = -1;  // index into the record's examples; -1: not from a record
  int order = 1;     // 2: `problem` is derived(first)
  DType dtype = DType::f64;
  const Problem* first = nullptr;    // the function itself and its inputs
  const Problem* problem = nullptr;  // what was compared: *first, or its derived problem
  Numbers cotangent;                 // of problem's result
  // Per input of `problem`, empty where not compared; an infinite bound says the same of one element.
  std::vector<Numbers> claimed, expected, bound;
  bool first_order_right = true;  // for order 2
  // The same check, on changed inputs or shapes of `first`; may be empty.
  std::function<bool(const Problem& first)> still_fails;
};

// Fills diagnosis, minimal and doctest of the failure, as far as they can be had; never throws.
void explain(const Finding& finding, GradtestFailure& failure);

// ---------------------------------------------------------------------------------------------- the parts

// The gradients of a function by its rules, and the true ones, at some numbers that show the mistake.
struct Specimen {
  int order = 1;
  Problem first, problem;  // as in Finding
  Numbers cotangent;
  std::vector<Numbers> claimed, expected, bound;
  std::string method;  // "dual numbers" or "extrapolated differences"
};

// The element farthest from the truth, in units of its bound; nothing where all are within it.
struct Worst {
  std::size_t input = 0, element = 0;
  double claimed = 0, expected = 0, bound = 0;
};
std::optional<Worst> worst_of(const std::vector<Numbers>& claimed, const std::vector<Numbers>& expected,
                              const std::vector<Numbers>& bound);

// Differentiates `first` anew, with a short cotangent. Nothing where the function refuses the inputs, has no
// gradient, or no cotangent shows a wrong element.
std::optional<Specimen> compare_anew(const Problem& first, int order, DType dtype);

// One sentence on the pattern of the difference (diagnose.cpp).
std::string diagnose(const Finding& finding);

// The same mistake on the smallest shapes and shortest numbers found with some 300 trials (shrink.cpp).
Specimen shrunk(const Finding& finding);

// A doctest case that fails as long as the rule makes this mistake (paste.cpp).
std::string doctest_of(const Finding& finding, const Specimen& specimen);

// "[1, 2]": the place of a row-major element.
std::string index_text(const Shape& shape, std::size_t element);

}  // namespace opgrad::gradtests
