// Puts the parts of an explanation together, and shows a mistake on its numbers.
#include "explain.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "compare.h"
#include "truth.h"

namespace opgrad::gradtests {
namespace {

constexpr double not_compared = std::numeric_limits<double>::infinity();

// Few digits, as in inputs.
Numbers short_numbers(std::uint64_t seed, std::size_t n) {
  if (n == 1) return {1.0};
  Numbers out = signed_numbers(seed, static_cast<std::int64_t>(n));
  for (double& x : out) x = std::round(8 * x) / 8;
  return out;
}

// Where forward mode and differences differ (a detached or otherwise stale value lies on the way), computed
// values have the last word.
void measure_anew(Truth& t, const Problem& p, const Numbers& cotangent) {
  for (std::size_t i = 0; i < t.of.size(); ++i)
    for (Truth::Entry& e : t.of[i]) {
      const Slope column = Probe(p).difference(unit(p, i, e.element));
      e.kink = column.kink || !column.good;
      e.value = e.bound = 0;
      for (std::size_t m = 0; m < cotangent.size(); ++m) {
        e.value += cotangent[m] * column.value[m];
        e.bound += 4 * std::abs(cotangent[m]) * column.error[m];
      }
    }
}

void judge(Specimen& s, DType dtype) {
  Truth t = truth(s.problem, s.cotangent, 1);
  if (!t.disagreement.empty()) measure_anew(t, s.problem, s.cotangent);
  s.method = t.exact && t.disagreement.empty() ? "forward mode" : "extrapolated differences";
  s.claimed = gradient(s.problem, s.cotangent, dtype).of;
  const std::size_t inputs = s.problem.inputs.size();
  s.expected.assign(inputs, {});
  s.bound.assign(inputs, {});
  for (std::size_t i = 0; i < inputs; ++i) {
    if (t.of[i].empty()) continue;
    s.expected[i].assign(s.problem.inputs[i].values.size(), 0.0);
    s.bound[i].assign(s.problem.inputs[i].values.size(), not_compared);
    for (const Truth::Entry& e : t.of[i]) {
      s.expected[i][e.element] = e.value;
      if (!e.kink) s.bound[i][e.element] = e.bound + (dtype == DType::f32 ? f32_slack * e.scale : 0);
    }
  }
}

std::string numbers_text(const Numbers& v) {
  constexpr std::size_t most = 48;
  std::string out;
  for (std::size_t k = 0; k < std::min(v.size(), most); ++k) out += fmt::format("{}{}", k ? ", " : "", v[k]);
  return "{" + out + (v.size() > most ? fmt::format(", ... ({} in all)}}", v.size()) : "}");
}

std::string minimal_text(const Finding& f, const Specimen& s) {
  std::string out;
  const std::size_t own = s.first.inputs.size();
  for (std::size_t i = 0; i < s.problem.inputs.size(); ++i) {
    const Input& in = s.problem.inputs[i];
    out +=
        fmt::format("{} = {}{} {}\n", i < own ? fmt::format("input {}", i) : "dy",
                    name_of(in.active() ? f.dtype : in.dtype), to_string(in.shape), numbers_text(in.values));
  }
  out += fmt::format("{} = {}\n", s.order == 2 ? "weights of the first gradients" : "dy",
                     numbers_text(s.cotangent));
  const auto worst = worst_of(s.claimed, s.expected, s.bound);
  if (!worst)
    return out + "no single element is beyond its bound; the difference shows along a direction only";
  return out + fmt::format("gradient of {} at {}: claimed {}, true {}, estimated error {:.1e} ({})",
                           worst->input < own ? fmt::format("input {}", worst->input) : "dy",
                           index_text(s.problem.inputs[worst->input].shape, worst->element), worst->claimed,
                           worst->expected, worst->bound, s.method);
}

}  // namespace

std::string index_text(const Shape& shape, std::size_t element) {
  std::string out;
  auto rest = static_cast<std::int64_t>(element);
  for (int axis = shape.rank(); axis-- > 0; rest /= shape[axis])
    out = fmt::format("{}{}{}", rest % shape[axis], out.empty() ? "" : ", ", out);
  return "[" + out + "]";
}

std::optional<Worst> worst_of(const std::vector<Numbers>& claimed, const std::vector<Numbers>& expected,
                              const std::vector<Numbers>& bound) {
  std::optional<Worst> worst;
  double farthest = 1;
  for (std::size_t i = 0; i < expected.size(); ++i)
    for (std::size_t k = 0; k < expected[i].size(); ++k) {
      const double b = bound[i][k];
      if (!std::isfinite(b)) continue;
      const double apart = std::abs(claimed[i][k] - expected[i][k]);
      // NaN is as far as it gets.
      const double distance = std::isnan(apart) ? not_compared : apart / std::max(b, 1e-300);
      if (distance > farthest) {
        farthest = distance;
        worst = {i, k, claimed[i][k], expected[i][k], b};
      }
    }
  return worst;
}

std::optional<Specimen> compare_anew(const Problem& first, int order, DType dtype) try {
  Specimen s{order, first, first, {}, {}, {}, {}, {}};
  if (order == 2) {
    auto d = derived(first, 1);
    if (!d) return std::nullopt;
    s.problem = std::move(*d);
    Input& dy = s.problem.inputs.back();
    dy.values = short_numbers(2, dy.values.size());
  }
  const auto n = static_cast<std::size_t>(s.problem.f(leaves(s.problem.inputs)).numel());
  // One cotangent may happen to hide the mistake.
  for (std::uint64_t seed = 3; seed < 6; ++seed) {
    s.cotangent = short_numbers(seed, n);
    judge(s, dtype);
    if (worst_of(s.claimed, s.expected, s.bound)) return s;
    if (n == 1) break;
  }
  return std::nullopt;
} catch (const Error&) {
  return std::nullopt;  // another failure than a wrong number
}

void explain(const Finding& finding, GradtestFailure& failure) {
  // The failure itself is told already; a rule that is wrong may well throw when it is asked once more.
  try {
    failure.diagnosis = diagnose(finding);
  } catch (const std::exception& e) {
    failure.diagnosis = fmt::format("none, since asking again ends in an error: {}", e.what());
  }
  try {
    const Specimen specimen = shrunk(finding);
    failure.minimal = minimal_text(finding, specimen);
    failure.doctest = doctest_of(finding, specimen);
  } catch (const std::exception& e) {
    failure.minimal += fmt::format("could not be made smaller: {}", e.what());
  }
}

}  // namespace opgrad::gradtests
