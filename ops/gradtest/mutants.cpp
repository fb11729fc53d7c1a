// Deriving, deduplicating and judging mutants, and the table of the verdicts.
#include "mutants.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <regex>
#include <set>

#include "../../core/random.h"
#include "../../graph/grad.h"
#include "../../graph/registry.h"
#include "../../graph/run.h"
#include "independent_oracle.h"
#include "mutate.h"
#include "other_checkers.h"

namespace opgrad {

using fmt::format;
using namespace gradtests;

namespace {

bool structural_op(const Op& op) {
  return &op == &structural::leaf || &op == &structural::number || &op == &structural::add_any ||
         &op == &structural::detach;
}

std::vector<Tensor> active(const Problem& p, const std::vector<Tensor>& xs) {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (p.inputs[i].active()) out.push_back(xs[i]);
  return out;
}

// The examples that have a gradient, at the numbers that the tester draws.
std::vector<Problem> problems_of(const Op& op, std::uint64_t seed) {
  std::vector<Problem> problems;
  const Examples examples = op.examples();
  for (std::size_t i = 0; i < examples.size(); ++i) {
    Problem p{examples[i].call, draw(examples[i].inputs, fold_in(seed, i))};
    if (std::ranges::any_of(p.inputs, &Input::active)) problems.push_back(std::move(p));
  }
  return problems;
}

struct Applied {
  std::vector<Tensor> inputs, active;
  Tensor y, dy;
};
Applied apply(const Problem& p) {
  Applied a;
  a.inputs = leaves(p.inputs);
  a.active = active(p, a.inputs);
  a.y = p.f(a.inputs);
  a.dy = variable(leaf_of(signed_numbers(11, a.y.numel()), a.y.shape(), a.y.dtype()));
  return a;
}

// Every gradient of every example, and every gradient of those, as bits: what makes two rules one.
using Bits = std::vector<std::uint64_t>;

void append(Bits& bits, const Tensor& t, std::int64_t n) {
  const std::size_t first = bits.size();
  bits.resize(first + static_cast<std::size_t>(n));
  if (!t) return;
  const Numbers v = numbers_of(t);
  std::memcpy(bits.data() + first, v.data(), v.size() * sizeof(double));
}

Bits bits_of(const std::vector<Problem>& problems) {
  Bits bits;
  for (const Problem& p : problems) {
    const auto [inputs, active, y, dy] = apply(p);
    std::vector<Tensor> xs = active;
    std::vector<Tensor> gradients = vjp_where_connected(y, dy, xs), pending;
    std::vector<std::int64_t> sizes;
    for (std::size_t i = 0; i < xs.size(); ++i) sizes.push_back(xs[i].numel());
    xs.push_back(dy);
    const std::size_t first = gradients.size();
    for (std::size_t i = 0; i < first; ++i) {
      const Tensor g = gradients[i];
      if (!g) continue;
      const Tensor direction = leaf_of(signed_numbers(12 + i, g.numel()), g.shape(), g.dtype());
      for (const Tensor& second : vjp_where_connected(g, direction, xs)) gradients.push_back(second);
      for (const Tensor& x : xs) sizes.push_back(x.numel());
    }
    for (const Tensor& g : gradients)
      if (g) pending.push_back(g);
    eval(pending);
    for (std::size_t i = 0; i < gradients.size(); ++i) append(bits, gradients[i], sizes[i]);
  }
  return bits;
}

// The other checkers on one operation's examples, in both orders. One that rejects the right rule there, too,
// has not found the mutant; it is not asked again.
class Others {
 public:
  explicit Others(const std::vector<Problem>& problems) {
    for (const Problem& p : problems) {
      subjects_.push_back(subject_of(p));
      numeric_.push_back(torch_numeric(subjects_.back()));
    }
    for (std::size_t i = 0; i < 2 * problems.size(); ++i) {
      Verdicts right{};
      judge(i, {}, right);
      false_alarms_.push_back(right);
    }
  }

  void judge(MutantResult& r) const {
    Verdicts found{};
    for (std::size_t i = 0; i < false_alarms_.size(); ++i) judge(i, false_alarms_[i], found);
    r.pytorch = found[0];
    r.pytorch_fast = found[1];
    r.jax_f32 = found[2];
    r.jax_f64 = found[3];
  }

  // Names of those that reject the right rule somewhere.
  std::vector<std::string> false_alarms() const {
    std::vector<std::string> names;
    for (std::size_t k = 0; k < names_.size(); ++k)
      if (std::ranges::any_of(false_alarms_, [&](const Verdicts& v) { return v[k]; }))
        names.push_back(names_[k]);
    return names;
  }

 private:
  using Verdicts = std::array<bool, 4>;
  static constexpr std::array<const char*, 4> names_{"PyTorch", "PyTorch, fast", "JAX f32", "JAX f64"};

  // Case i: the first order of all examples, then the second. Asks those that have not spoken yet.
  void judge(std::size_t i, const Verdicts& leave_out, Verdicts& rejects) const {
    const bool first = i < subjects_.size();
    const Subject& s = subjects_[i % subjects_.size()];
    const auto asked = [&](std::size_t k) { return !rejects[k] && !leave_out[k]; };
    if (asked(0) || asked(1)) {
      if (const auto t = first ? std::optional(s) : torch_second(s)) {
        if (asked(0)) rejects[0] = torch_rejects(*t, first ? numeric_[i] : torch_numeric(*t));
        if (asked(1)) rejects[1] = torch_fast_rejects(*t);
      }
    }
    if (asked(2) || asked(3)) {
      if (const auto t = first ? std::optional(s) : jax_second(s)) {
        if (asked(2)) rejects[2] = jax_rejects(*t, DType::f32);
        if (asked(3)) rejects[3] = jax_rejects(*t, DType::f64);
      }
    }
  }

  std::vector<Subject> subjects_;
  std::vector<Jacobian> numeric_;
  std::vector<Verdicts> false_alarms_;  // of the right rule, by case
};

// All mutants of op, each set of wrong bits once.
std::vector<Mutant> distinct_mutants(const Op& op, const std::vector<Problem>& problems) {
  std::vector<RuleCall> calls;
  for (const Problem& p : problems) {
    const auto [inputs, active, y, dy] = apply(p);
    for (RuleCall& call : rule_calls(op, y, dy, active)) calls.push_back(std::move(call));
  }
  const Bits right = bits_of(problems);
  std::vector<Mutant> kept;
  std::set<Bits> met;
  for (Mutant& m : mutants_of(op, calls)) {
    Bits bits;
    try {
      const BackwardOverride rule(op, m.rule);
      bits = bits_of(problems);
    } catch (const Error&) {
      continue;  // a rule that throws goes nowhere unnoticed
    }
    if (bits == right || met.insert(std::move(bits)).second) kept.push_back(std::move(m));
  }
  return kept;
}

// The check by which the tester rejects the rule in force; empty when it does not.
std::string rejected_by(const Op& op, GradtestOptions options) {
  options.dtypes = {DType::f64};
  options.orders = {1, 2};
  options.threads = {};
  options.explain = false;
  for (const GradtestRow& row : gradtest(op, options).rows)
    for (const GradtestFailure& f : row.failures)
      if (row.verdict == Verdict::wrong && f.verdict == Verdict::wrong)
        return format("{}, order {}", f.check, row.order);
  return {};
}

void judge(const Op& op, const GradtestOptions& options, GradtestMutants& out) {
  const std::vector<Problem> problems = problems_of(op, options.seed);
  const std::vector<Mutant> mutants = distinct_mutants(op, problems);
  if (mutants.empty()) {
    out.without.push_back(op.name);
    return;
  }
  if (const std::string check = rejected_by(op, options); !check.empty())
    out.rejected.push_back(format("{}: {}", op.name, check));
  const Others others(problems);
  for (const std::string& checker : others.false_alarms())
    out.false_alarms.push_back(format("{}: {}", op.name, checker));
  std::unique_ptr<IndependentOracle> oracle;
  for (const Mutant& m : mutants) {
    MutantResult r{.operation = op.name, .mutant = m.name, .killed_by = {}, .note = {}};
    const BackwardOverride rule(op, m.rule);
    // Those with the right bits, too: a convention at a kink may tell them apart.
    r.killed_by = rejected_by(op, options);
    r.killed = !r.killed_by.empty();
    if (!r.killed) {
      // It measures forward values alone, so that the rule in force has no say in it.
      if (!oracle) oracle = std::make_unique<IndependentOracle>(op);
      const std::optional<std::string> disagreement = oracle->disagreement();
      r.equivalent = !disagreement;
      r.note = disagreement.value_or("");
    }
    if (!r.equivalent) others.judge(r);
    out.results.push_back(std::move(r));
  }
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One line of the table.
struct Count {
  int mutants = 0, killed = 0, equivalent = 0, survived = 0, pytorch = 0, pytorch_fast = 0, jax_f32 = 0,
      jax_f64 = 0;
  void add(const MutantResult& r) {
    ++mutants;
    killed += r.killed;
    equivalent += r.equivalent;
    survived += r.survived();
    pytorch += r.pytorch;
    pytorch_fast += r.pytorch_fast;
    jax_f32 += r.jax_f32;
    jax_f64 += r.jax_f64;
  }
  std::string line(const std::string& name) const {
    return format("{:<26}{:>8}{:>8}{:>12}{:>11}{:>9}{:>7}{:>9}{:>9}\n", name, mutants, killed, equivalent,
                  survived, pytorch, pytorch_fast, jax_f32, jax_f64);
  }
};

}  // namespace

GradtestMutants gradtest_mutants(const Op& op, const GradtestOptions& options) {
  if (op.backward == no_gradient || !op.examples)
    throw UserError(format("gradtest: {} has {}, so nothing can be derived from its rule", op.name,
                           op.examples ? "no gradient" : "no examples"));
  const auto start = std::chrono::steady_clock::now();
  GradtestMutants out;
  judge(op, options, out);
  out.seconds = seconds_since(start);
  return out;
}

GradtestMutants gradtest_mutants(const std::string& expression, const GradtestOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  std::regex pattern;
  try {
    pattern = std::regex(expression);
  } catch (const std::regex_error& e) {
    throw UserError(format("gradtest: \"{}\" is no regular expression: {}", expression, e.what()));
  }
  GradtestMutants out;
  bool any = false;
  for (const Op* op : all_ops()) {
    if (structural_op(*op) || op->backward == no_gradient || !op->examples ||
        !std::regex_match(op->name, pattern))
      continue;
    any = true;
    judge(*op, options, out);
  }
  if (!any)
    throw UserError(
        format("gradtest: no registered operation with a gradient and examples matches \"{}\"; "
               "\".*\" matches all",
               expression));
  out.seconds = seconds_since(start);
  return out;
}

bool GradtestMutants::all_killed() const {
  return !results.empty() && rejected.empty() && std::ranges::none_of(results, &MutantResult::survived);
}

std::string GradtestMutants::table() const {
  std::string text = format("{:<26}{:>8}{:>8}{:>12}{:>11}{:>9}{:>7}{:>9}{:>9}\n", "operation", "mutants",
                            "killed", "equivalent", "survivors", "PyTorch", "fast", "JAX f32", "JAX f64");
  std::vector<std::string> names;
  std::map<std::string, Count> counts;
  Count total;
  for (const MutantResult& r : results) {
    if (!counts.contains(r.operation)) names.push_back(r.operation);
    counts[r.operation].add(r);
    total.add(r);
  }
  for (const std::string& name : names) text += counts[name].line(name);
  text += total.line(format("{} operations", names.size()));
  const int wrong = total.mutants - total.equivalent;
  const auto percent = [&](int n) { return wrong ? 100.0 * n / wrong : 0.0; };
  text += format(
      "of {} wrong rules killed: opgrad {:.1f} %, PyTorch's defaults {:.1f} % (fast mode {:.1f} %), JAX's "
      "defaults {:.1f} % (f32) and {:.1f} % (f64); {:.1f} s\n",
      wrong, percent(total.killed), percent(total.pytorch), percent(total.pytorch_fast),
      percent(total.jax_f32), percent(total.jax_f64), seconds);
  const auto list = [&](const char* title, auto wanted) {
    std::string lines;
    for (const MutantResult& r : results)
      if (wanted(r))
        lines += format("  {}: {}{}\n", r.operation, r.mutant, r.note.empty() ? "" : "; " + r.note);
    if (!lines.empty()) text += title + lines;
  };
  list("equivalent:\n", [](const MutantResult& r) { return r.equivalent; });
  list("SURVIVORS:\n", [](const MutantResult& r) { return r.survived(); });
  for (const std::string& w : without)
    text += format("no mutants of {}: no example reaches its rule in f64\n", w);
  if (!false_alarms.empty())
    text +=
        format("right rules that another checker rejects on some example, which counts for no mutant: {}\n",
               fmt::join(false_alarms, "; "));
  for (const std::string& w : rejected) text += format("the tester rejects the right rule of {}\n", w);
  return text;
}

}  // namespace opgrad
