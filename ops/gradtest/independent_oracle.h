// A second opinion on a gradient, which shares no code with the tester: its own random numbers, its own
// differences of forward values. It judges the mutants that the tester does not reject.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "../../graph/ir.h"

namespace opgrad::gradtests {

// First and second derivatives of a record's examples in f64, measured once, element by element: central
// differences and mixed second differences, each extrapolated once from steps h and h/2. Draws in which a
// step meets a kink are drawn again.
class IndependentOracle {
 public:
  explicit IndependentOracle(const Op& op);

  // What the backward rules in force on this thread give differs from what was measured by more than `bound`,
  // relative to the largest number of its kind: where, and by how much. An example that gave no usable draw
  // is a disagreement, too. Nothing: they agree everywhere.
  std::optional<std::string> disagreement() const;
  // A tenth of the error that a factor 1.000001 makes.
  static constexpr double bound = 1e-7;

 private:
  using Vector = std::vector<double>;
  struct Draw {
    std::size_t example;
    std::vector<Vector> x, direction;  // direction: empty for inputs that are not differentiated
    Vector cotangent;
    // <cotangent, f> by each input; <direction, that gradient> by each input and, last, by the cotangent.
    std::vector<Vector> first, second;
    double scale = 0;  // the largest of the function's and the derivatives' numbers
  };
  std::optional<Draw> measured(std::size_t example, std::uint64_t seed) const;

  Examples examples_;
  std::vector<Draw> draws_;
  std::string obstacle_;
};

}  // namespace opgrad::gradtests
