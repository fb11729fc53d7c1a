// A backward rule in one float type against the truth, and wrong gradients made from it against the same.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "../../core/random.h"
#include "checks.h"
#include "explain.h"

namespace opgrad::gradtests {
namespace {

// What a finding needs to know of the truth: bounds are infinite where it is not known.
Finding finding_of(const Case& c, const Judged& j, DType dtype, const std::vector<Numbers>& claimed,
                   double slack, bool first_order_right) {
  Finding f;
  f.name = c.name;
  f.example = c.example;
  f.order = j.order;
  f.dtype = dtype;
  f.first = &c.problem;
  f.problem = &j.problem;
  f.cotangent = j.cotangent;
  f.claimed = claimed;
  f.first_order_right = first_order_right;
  f.expected.resize(claimed.size());
  f.bound.resize(claimed.size());
  for (std::size_t i = 0; i < claimed.size(); ++i) {
    if (j.truth.of[i].empty()) continue;
    f.expected[i] = claimed[i];
    f.bound[i].assign(claimed[i].size(), std::numeric_limits<double>::infinity());
    for (const Truth::Entry& e : j.truth.of[i]) {
      f.expected[i][e.element] = e.value;
      f.bound[i][e.element] = e.bound + slack * e.scale;
    }
  }
  return f;
}

void report_wrong(GradtestRow& row, const Case& c, const Judged& j, const Judgement& found, DType dtype,
                  double slack, const std::vector<Numbers>& claimed, bool first_order_right) {
  const auto off = [](const Judgement& w) {
    return fmt::format("{:.9g}, but should be {:.9g} +- {:.1e}", w.claimed, w.expected, w.allowed);
  };
  const std::string of = j.order == 2 ? "gradient of the gradients" : "gradient";
  fail(row, c, Verdict::wrong, "gradient",
       found.along
           ? fmt::format("the {} for input {} along a random direction is {}", of, found.input, off(found))
           : fmt::format("element {} of the {} for {} is {}", found.element, of,
                         found.input == c.problem.inputs.size() ? "the cotangent"
                                                                : fmt::format("input {}", found.input),
                         off(found)));
  // Said once: f32 and the second order repeat what f64 and the first have said.
  const auto& dtypes = c.options->dtypes;
  const bool said = (j.order == 2 && !first_order_right) ||
                    (dtype == DType::f32 && std::ranges::find(dtypes, DType::f64) != dtypes.end() &&
                     !compare(j.truth, j.claimed.of).accepted);
  std::size_t elements = 0;
  for (const Input& in : j.problem.inputs) elements += in.values.size();
  constexpr std::size_t most_elements = 2000;  // to shrink, that is
  // Nor is a second draw of the numbers explained like the first.
  const bool explained =
      std::ranges::any_of(row.failures, [](const GradtestFailure& f) { return !f.minimal.empty(); });
  if (!c.options->explain || said || explained || elements > most_elements) return;
  Finding f = finding_of(c, j, dtype, claimed, slack, first_order_right);
  f.still_fails = [order = j.order, dtype, seed = c.seed](const Problem& first) {
    const std::optional<Problem> second = order == 2 ? derived(first, seed) : std::nullopt;
    if (order == 2 && !second) return false;
    const Problem& p = second ? *second : first;
    const Numbers cotangent = signed_numbers(fold_in(seed, 31), static_cast<std::int64_t>(value(p).size()));
    return !compare(truth(p, cotangent, seed), gradient(p, cotangent, dtype).of,
                    dtype == DType::f32 ? f32_slack : 0)
                .accepted;
  };
  explain(f, row.failures.back());
}

void check_controls(GradtestRow& row, const Case& c, const Judged& j, const std::vector<Numbers>& claimed,
                    DType dtype, double slack, std::map<std::string, Applied>& applied) {
  for (std::size_t i = 0; i < claimed.size(); ++i) {
    // What is zero everywhere has nothing to rearrange; that not all inputs are so is checked elsewhere.
    if (j.truth.of[i].empty() || j.truth.vanishes[i]) continue;
    std::vector<std::size_t> places;
    for (const Truth::Entry& e : j.truth.of[i]) places.push_back(e.element);
    const bool weak = compare_one(j.truth, i, claimed[i], slack).power > enough_power(dtype);
    for (const Control& control : controls()) {
      const std::optional<Numbers> wrong =
          control.change(claimed[i], j.problem.inputs[i].shape, dtype, c.seed, places);
      if (!wrong) continue;
      Applied& count = applied[control.kind];
      ++count.legal;
      if (*wrong == claimed[i]) {
        ++row.not_applicable;
        continue;
      }
      ++count.changed;
      const bool told = !compare_one(j.truth, i, *wrong, slack).accepted;
      // Other draws see more.
      if (!told && weak && c.may_vanish) {
        ++row.not_applicable;
        continue;
      }
      ++row.controls;
      if (!told)
        fail(row, c, Verdict::inconclusive, fmt::format("control: {}", control.kind),
             fmt::format("a gradient for input {} that was {} on purpose is not told from the right one", i,
                         control.done));
    }
  }
}

}  // namespace

bool exempt(GradtestRow& row, const Op* op, std::string_view check) {
  if (!op || !op->exemptions) return false;
  for (const Exemption& e : op->exemptions()) {
    if (check != e.check) continue;
    std::string said = fmt::format("{}: {}", e.check, e.reason);
    if (std::ranges::find(row.skips, said) == row.skips.end()) row.skips.push_back(std::move(said));
    return true;
  }
  return false;
}

void fail(GradtestRow& row, const Case& c, Verdict verdict, std::string check, std::string message) {
  row.failures.push_back({std::move(check), verdict, std::move(message), c.label, {}, {}, {}});
}

namespace {

// The f32 kernel computes what the f64 kernel does, but for rounding: of the result, and of inputs as far as
// they have a say in it.
void check_value(GradtestRow& row, const Case& c, const Judged& j) {
  const Numbers wide = value(c.problem),
                narrow = numbers_of(c.problem.f(leaves(c.problem.inputs, DType::f32)));
  double most = 0;
  for (const double v : wide) most = std::max(most, std::abs(v));
  for (std::size_t m = 0; m < wide.size(); ++m) {
    double moved = most;
    for (std::size_t i = 0; i < j.truth.columns.size(); ++i)
      for (std::size_t k = 0; k < j.truth.columns[i].size(); ++k)
        moved += std::abs(j.truth.columns[i][k].value[m] * c.problem.inputs[i].values[k]);
    if (std::abs(wide[m] - narrow[m]) <= f32_slack * moved) continue;
    return fail(
        row, c, Verdict::wrong, "f32 kernel",
        fmt::format("element {} of the result is {:.9g} in f32 and {:.9g} in f64", m, narrow[m], wide[m]));
  }
}

}  // namespace

void check_gradient(GradtestRow& row, const Case& c, const Judged& j, DType dtype, bool first_order_right,
                    std::map<std::string, Applied>& applied) {
  const double slack = dtype == DType::f32 ? f32_slack : 0;
  const std::vector<Numbers> claimed =
      dtype == DType::f64 ? j.claimed.of : gradient(j.problem, j.cotangent, dtype).of;
  if (dtype == DType::f32 && j.order == 1 && j.truth.complete && j.truth.good) check_value(row, c, j);
  const Judgement found = compare(j.truth, claimed, slack);
  if (found.max_error >= row.max_error || row.cases == 0) {
    row.max_error = found.max_error;
    row.bound = found.bound;
  }
  if (!c.may_vanish || found.power <= enough_power(dtype)) row.power = std::max(row.power, found.power);
  ++row.cases;
  for (const auto& entries : j.truth.of)
    row.kinks +=
        static_cast<int>(std::ranges::count_if(entries, [](const Truth::Entry& e) { return e.kink; }));
  if (!j.truth.disagreement.empty()) fail(row, c, Verdict::wrong, "forward kernel", j.truth.disagreement);
  if (!found.accepted) return report_wrong(row, c, j, found, dtype, slack, claimed, first_order_right);
  if (!j.truth.good)
    return fail(row, c, Verdict::inconclusive, "gradient",
                "the differences do not converge: noise, or a domain that is too narrow for a step");
  if (found.zero && (c.may_vanish || exempt(row, c.op, "vacuous"))) return;
  if (found.zero)
    return fail(
        row, c, Verdict::inconclusive, "vacuous",
        "the gradient and its true value are zero everywhere: nothing was seen. Give examples at which the "
        "function changes");
  check_controls(row, c, j, claimed, dtype, slack, applied);
}

}  // namespace opgrad::gradtests
