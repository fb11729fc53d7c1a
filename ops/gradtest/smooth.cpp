// Checks along random directions: Taylor slopes, the Hessian's symmetry, and each row of the Jacobian.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "../../core/random.h"
#include "checks.h"

namespace opgrad::gradtests {
namespace {

double dot(const Numbers& a, const Numbers& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}
double dot(const std::vector<Numbers>& a, const std::vector<Numbers>& b) {
  double s = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) s += dot(a[i], b[i]);
  return s;
}
double size_of_dot(const std::vector<Numbers>& a, const std::vector<Numbers>& b) {
  double s = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    for (std::size_t k = 0; k < a[i].size(); ++k) s += std::abs(a[i][k] * b[i][k]);
  return s;
}

std::vector<Numbers> random_direction(const Problem& p, std::uint64_t seed) {
  std::vector<Numbers> v(p.inputs.size());
  for (std::size_t i = 0; i < v.size(); ++i)
    if (p.inputs[i].active())
      v[i] = signed_numbers(fold_in(seed, 500 + i), static_cast<std::int64_t>(p.inputs[i].values.size()));
  return v;
}

// Gradients of <u, gradients of p> with respect to p's own inputs: the Hessian of <cotangent, p.f> times u.
// `d` is derived(p), whose result joins the gradients of the connected inputs.
std::vector<Numbers> hessian_times(const Problem& d, const Gradient& first, const std::vector<Numbers>& u) {
  Numbers joined;
  for (std::size_t i = 0; i < u.size(); ++i)
    if (first.connected[i]) joined.insert(joined.end(), u[i].begin(), u[i].end());
  std::vector<Numbers> h = gradient(d, joined).of;
  h.pop_back();  // by the cotangent
  return h;
}

// The exponent of h with which the remainder shrinks; nothing while rounding or a kink hides it.
struct Ladder {
  bool exact = true;  // every remainder is rounding
  double slope = std::numeric_limits<double>::quiet_NaN();
};
Ladder climb(const Problem& p, const Numbers& cotangent, const std::vector<Numbers>& v, double first_step,
             double at_0, double slope, double curvature) {
  constexpr int rungs = 6;
  Ladder l;
  const std::vector<Tensor> at = leaves(p.inputs);
  std::vector<double> steps, remainders;
  for (int k = 0; k < rungs; ++k) {
    const double h = first_step / (1 << k), value = dot(cotangent, value_along(p, at, v, h));
    const double remainder = std::abs(value - at_0 - h * slope - h * h / 2 * curvature);
    const double noise = 1e3 * std::numeric_limits<double>::epsilon() *
                         (std::abs(value) + std::abs(at_0) + std::abs(h * slope) + 1);
    if (!(remainder > noise)) continue;
    l.exact = false;
    steps.push_back(h);
    remainders.push_back(remainder);
  }
  if (steps.size() >= 3)
    l.slope = std::log(remainders.front() / remainders.back()) / std::log(steps.front() / steps.back());
  return l;
}

}  // namespace

void check_taylor(GradtestRow& row, const Case& c, int order) {
  const Problem& p = c.problem;
  const Numbers at_0 = value(p);
  const Numbers cotangent = signed_numbers(fold_in(c.seed, 31), static_cast<std::int64_t>(at_0.size()));
  const Gradient g = gradient(p, cotangent);
  std::vector<Numbers> v = random_direction(p, c.seed);
  for (std::size_t i = 0; i < v.size(); ++i)
    for (double& x : v[i]) x *= 0.5 * reach(p.inputs[i]);
  double curvature = 0;
  if (order == 2) {
    auto d = derived(p, c.seed);
    if (!d) return;
    d->inputs.back().values = cotangent;
    curvature = dot(v, hessian_times(*d, g, v));
  }
  const double wanted = order + 1;
  std::string seen;
  // A kink on the way bends the remainder; smaller steps leave it behind.
  for (const double step : {0x1p-4, 0x1p-7, 0x1p-10, 0x1p-13, 0x1p-16, 0x1p-19}) {
    const Ladder l = climb(p, cotangent, v, step, dot(cotangent, at_0), dot(g.of, v), curvature);
    if (l.exact || l.slope >= wanted - 0.1) return;
    if (!std::isnan(l.slope))
      seen += fmt::format("{}{:.2f} from step {:g}", seen.empty() ? "" : ", ", l.slope, step);
  }
  if (seen.empty()) return;  // too few clean points at every step: rounding
  fail(row, c, Verdict::wrong, "taylor slope",
       fmt::format(
           "the remainder of the Taylor series of order {} shrinks with exponent {}, but should with {:g}",
           order, seen, wanted));
}

void check_symmetry(GradtestRow& row, const Case& c, const Problem& derived, const Truth& second) {
  const Problem& p = c.problem;
  const Gradient g = gradient(p, derived.inputs.back().values);
  const std::vector<Numbers> u = random_direction(p, fold_in(c.seed, 1)),
                             v = random_direction(p, fold_in(c.seed, 2));
  const std::vector<Numbers> hu = hessian_times(derived, g, u), hv = hessian_times(derived, g, v);
  const double uhv = dot(u, hv), vhu = dot(v, hu), size = size_of_dot(u, hv) + size_of_dot(v, hu);
  double rounded = 0;  // where all of it vanishes
  for (const double s : second.scale) rounded = std::max(rounded, s);
  if (std::abs(uhv - vhu) <= 1e-12 * (size + rounded)) return;
  fail(row, c, Verdict::wrong, "Hessian symmetry",
       fmt::format("<u, H v> is {:.15g} and <v, H u> is {:.15g}, for the same random u and v", uhv, vhu));
}

void check_jacobian(GradtestRow& row, const Case& c, const Judged& j) {
  constexpr std::size_t most_rows = 24;
  const std::size_t outputs = j.cotangent.size();
  if (!j.truth.complete || !j.truth.good || outputs > most_rows) return;
  Numbers one(outputs, 0.0);
  for (std::size_t m = 0; m < outputs; ++m) {
    one[m] = 1;
    const Gradient g = gradient(j.problem, one);
    one[m] = 0;
    for (std::size_t i = 0; i < g.of.size(); ++i) {
      double scale = 0;
      for (const Slope& column : j.truth.columns[i]) scale = std::max(scale, std::abs(column.value[m]));
      for (std::size_t k = 0; k < j.truth.columns[i].size(); ++k) {
        const Slope& column = j.truth.columns[i][k];
        const double bound = 2 * column.error[m] + 1e-12 * (scale + j.truth.scale[i]);
        if (std::abs(g.of[i][k] - column.value[m]) <= bound) continue;
        return fail(
            row, c, Verdict::wrong, "Jacobian",
            fmt::format("for a cotangent of 1 at output {} alone, element {} of the gradient for input {} is "
                        "{:.12g}, but should be {:.12g} +- {:.1e}",
                        m, k, i, g.of[i][k], column.value[m], bound));
      }
    }
  }
}

}  // namespace opgrad::gradtests
