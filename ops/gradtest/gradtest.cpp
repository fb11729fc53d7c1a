// From records, functions and graphs to cases, and from cases to rows.
#include "gradtest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <regex>

#include "../../core/random.h"
#include "../../graph/grad.h"
#include "../../graph/rebuild.h"
#include "../../graph/registry.h"
#include "../ops.h"
#include "checks.h"

namespace opgrad {
namespace {

using namespace gradtests;
using Clock = std::chrono::steady_clock;

// What is tested under one name: cases are made of these for every seed.
struct Subject {
  const Op* op = nullptr;
  std::string name;
  struct Part {
    GradtestFunction f;
    std::vector<Sample> samples;
    std::vector<Input> fixed;  // instead of samples: at these numbers
  };
  std::vector<Part> parts;
};

std::string types_text(const std::vector<Input>& inputs) {
  std::vector<std::string> types;
  for (const Input& in : inputs) types.push_back(to_string(Type{in.dtype, in.shape}));
  return fmt::format("{}", fmt::join(types, ", "));
}

Verdict verdict_of(const GradtestRow& row) {
  // Nothing was tried, but something should have been.
  Verdict v = row.cases == 0 ? Verdict::missing : Verdict::pass;
  for (const GradtestFailure& f : row.failures) {
    if (f.verdict == Verdict::wrong) return Verdict::wrong;
    v = f.verdict;
  }
  return v;
}

// All rows of one subject: f64 and f32 share truth and cases.
class Run {
 public:
  Run(const Subject& subject, const GradtestOptions& options) : subject_(subject), options_(options) {
    for (const int order : options.orders)
      for (const DType dtype : options.dtypes) {
        GradtestRow row;
        row.name = subject.name;
        row.dtype = dtype;
        row.order = order;
        rows_.push_back(std::move(row));
      }
    applied_.resize(rows_.size());
  }

  std::vector<GradtestRow> rows() {
    if (subject_.op && subject_.op->backward == no_gradient)
      return all(Verdict::skipped, "no_gradient: the record says that there is none");
    if (subject_.op && !subject_.op->backward)
      return all(Verdict::missing, "the record has no backward rule");
    if (subject_.parts.empty()) return all(Verdict::missing, "the record has no examples; add `.examples`");
    for (int r = 0; r < std::max(1, options_.repeat); ++r)
      for (std::size_t i = 0; i < subject_.parts.size(); ++i)
        run_draws(i, options_.seed + static_cast<std::uint64_t>(r));
    if (GradtestRow* row = row_of(DType::f64, 1); row && subject_.op) check_conventions(*row, *subject_.op);
    for (std::size_t i = 0; i < rows_.size(); ++i) finish(rows_[i], applied_[i]);
    return std::move(rows_);
  }

 private:
  std::vector<GradtestRow> all(Verdict verdict, const std::string& why) {
    for (GradtestRow& row : rows_) {
      row.verdict = verdict;
      row.skips.push_back(why);
    }
    return std::move(rows_);
  }

  GradtestRow* row_of(DType dtype, int order) {
    for (GradtestRow& row : rows_)
      if (row.dtype == dtype && row.order == order) return &row;
    return nullptr;
  }

  void pass_over(const std::string& text) {
    if (!seen_) skip(text);
    seen_ = true;
  }

  // Says to all rows of an order (or all) that something was left out.
  void skip(const std::string& text, int order = 0) {
    for (GradtestRow& row : rows_)
      if (!order || row.order == order) row.skips.push_back(text);
  }

  // A few numbers say little: they are drawn several times.
  static int draws(const Subject::Part& part) {
    std::int64_t elements = 0;
    for (const Sample& s : part.samples) elements += s.shape.numel();
    return part.samples.empty() ? 1 : elements <= 4 ? 8 : elements <= 64 ? 2 : 1;
  }

  // Where all of them give a gradient of zero (relu of a negative number), more are drawn before that is held
  // against the example.
  void run_draws(std::size_t i, std::uint64_t seed) {
    const int planned = draws(subject_.parts[i]), most = subject_.parts[i].samples.empty() ? 1 : planned + 16;
    seen_ = false;
    for (int d = 0; d < planned || (d < most && !seen_); ++d) run_part(i, seed, d, d + 1 < most);
  }

  void run_part(std::size_t i, std::uint64_t seed, int which, bool may_vanish) {
    const Subject::Part& part = subject_.parts[i];
    Case c;
    c.op = subject_.op;
    c.name = subject_.name;
    c.example = subject_.op ? static_cast<int>(i) : -1;
    c.seed = fold_in(fold_in(seed, i), static_cast<std::uint64_t>(which));
    c.first_seed = seed == options_.seed && which == 0;
    c.may_vanish = may_vanish;
    c.options = &options_;
    c.problem = {part.f, part.samples.empty() ? part.fixed : draw(part.samples, c.seed)};
    c.label = fmt::format("example {} of {}, seed {}: {}", i, subject_.parts.size(), seed,
                          types_text(c.problem.inputs));
    try {
      run_case(c);
    } catch (const std::exception& e) {
      // The rule itself, or the function, refused: that is a finding, not a crash of the tester. Its text is
      // said once.
      for (GradtestRow& row : rows_) {
        const bool said =
            &row != &rows_.front() ||
            std::ranges::any_of(row.failures, [](const GradtestFailure& f) { return f.check == "error"; });
        fail(row, c, Verdict::wrong, "error", said ? "see the first row of this operation" : e.what());
      }
    }
  }

  void run_case(Case& c) {
    const auto active = [](const Input& in) { return in.active() && !in.values.empty(); };
    if (std::ranges::none_of(c.problem.inputs, active))
      return pass_over(fmt::format("{}: no float input to differentiate by", c.label));
    if (const Tensor y = c.problem.f(leaves(c.problem.inputs)); !is_float(y.dtype()))
      return pass_over(fmt::format("{}: the result is {}, which has no gradient", c.label,
                                   to_string(Type{y.dtype(), y.shape()})));

    const Numbers once = value(c.problem);
    if (!std::ranges::all_of(once, [](double v) { return std::isfinite(v); }))
      return everywhere(c, "values", Verdict::inconclusive,
                        "the function is not finite at these numbers; give examples from its domain");
    if (!same_bits(once, value(c.problem)))
      return everywhere(c, "repetition", Verdict::wrong,
                        "the function gives other values when it is called again");
    const bool wants_second = std::ranges::find(options_.orders, 2) != options_.orders.end();
    const Judged first = judge(c.problem, 1, c.seed);
    const Judgement found = compare(first.truth, first.claimed.of);
    const bool right = found.accepted;
    const bool strong = !found.zero && shows_enough(first);
    if (std::ranges::find(options_.orders, 1) != options_.orders.end()) {
      write(c, first, true);
      if (GradtestRow* row = row_of(DType::f64, 1); row && right) {
        check_jacobian(*row, c, first);
        if (!first.truth.exact) check_taylor(*row, c, 1);
        check_contracts(*row, c, first.truth.complete);
        if (first.truth.complete) check_ties(*row, c);
        check_identities(*row, c);
      } else if (row) {
        check_identities(*row, c);
      }
    }
    if (!wants_second) {
      seen_ = seen_ || strong;
      return;
    }
    const std::optional<Problem> second = derived(c.problem, c.seed);
    if (!second) return skip(fmt::format("{}: no input has a gradient", c.label), 2);
    const Judged judged = judge(*second, 2, c.seed);
    seen_ = seen_ || (strong && shows_enough(judged));
    write(c, judged, right);
    if (GradtestRow* row = row_of(DType::f64, 2); row && right && judged.truth.complete) {
      check_symmetry(*row, c, *second, judged.truth);
      if (!judged.truth.exact) check_taylor(*row, c, 2);
      check_second_ties(*row, c);
    }
  }

  // Even with the rounding of f32 a slightly scaled gradient would be told from the right one.
  static bool shows_enough(const Judged& j) {
    return compare(j.truth, j.claimed.of, f32_slack).power <= enough_power(DType::f32);
  }

  // Some cotangents let the terms of a gradient cancel, so that little could be seen beside their rounding;
  // then others are tried.
  static Judged judge(const Problem& p, int order, std::uint64_t seed) {
    const auto outputs = static_cast<std::int64_t>(value(p).size());
    Judged best;
    double best_share = -1;
    for (std::uint64_t attempt = 0; attempt < 8 && best_share < 0.05; ++attempt) {
      Judged j{order, p, signed_numbers(fold_in(fold_in(seed, 31), attempt), outputs), {}, {}};
      j.claimed = gradient(p, j.cotangent);
      j.truth = truth(p, j.cotangent, seed, &j.claimed.of);
      const double share = least_share(j.truth);
      if (share <= best_share) continue;
      best = std::move(j);
      best_share = share;
    }
    return best;
  }

  // The greatest element of an input's gradient beside the terms it is the sum of, for the worst input.
  static double least_share(const Truth& t) {
    double least = 1;
    for (std::size_t i = 0; i < t.of.size(); ++i) {
      double most = 0;
      for (const Truth::Entry& e : t.of[i]) most = std::max(most, std::abs(e.value));
      if (!t.vanishes[i] && t.scale[i] > 0) least = std::min(least, most / t.scale[i]);
    }
    return least;
  }

  void write(const Case& c, const Judged& j, bool first_order_right) {
    for (std::size_t i = 0; i < rows_.size(); ++i)
      if (rows_[i].order == j.order) try {
          check_gradient(rows_[i], c, j, rows_[i].dtype, first_order_right, applied_[i]);
        } catch (const std::exception& e) {
          fail(rows_[i], c, Verdict::wrong, "error", e.what());
        }
  }

  void everywhere(const Case& c, const char* check, Verdict verdict, const char* message) {
    for (GradtestRow& row : rows_) {
      ++row.cases;
      fail(row, c, verdict, check, message);
    }
  }

  // Each legal control must have changed something at least once.
  void finish(GradtestRow& row, const std::map<std::string, Applied>& applied) const {
    Case everywhere;
    everywhere.label = "all examples";
    if (subject_.op)
      for (const auto& [kind, count] : applied)
        if (count.legal > 0 && count.changed == 0 && !exempt(row, subject_.op, kind))
          fail(row, everywhere, Verdict::inconclusive, fmt::format("control: {}", kind),
               fmt::format("no example's gradient changes when it is {}; give a less symmetric one", kind));
    row.verdict = verdict_of(row);
  }

  const Subject& subject_;
  const GradtestOptions& options_;
  std::vector<GradtestRow> rows_;
  std::vector<std::map<std::string, Applied>> applied_;
  bool seen_ = false;  // some draw of this example shows enough
};

void check_options(const GradtestOptions& o) {
  const auto refuse = [](const std::string& what) { throw UserError("gradtest: " + what); };
  for (const int order : o.orders)
    if (order != 1 && order != 2) refuse(fmt::format("order {} was asked for; there are 1 and 2", order));
  for (const DType dtype : o.dtypes)
    if (!is_float(dtype))
      refuse(fmt::format("dtype {} was asked for; there are f32 and f64", name_of(dtype)));
  for (const int n : o.threads)
    if (n < 1 || n > 1024) refuse(fmt::format("{} threads were asked for; there may be 1 to 1024", n));
  if (o.orders.empty() || o.dtypes.empty()) refuse("no order or no dtype was asked for");
}

GradtestReport report(const std::vector<Subject>& subjects, const GradtestOptions& options) {
  check_options(options);
  const auto start = Clock::now();
  GradtestReport r;
  r.seed = options.seed;
  for (const Subject& s : subjects)
    for (GradtestRow& row : Run(s, options).rows()) r.rows.push_back(std::move(row));
  r.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return r;
}

Subject subject_of(const Op& op) {
  Subject s{&op, op.name, {}};
  if (op.examples)
    for (const Example& e : op.examples()) s.parts.push_back({e.call, e.inputs, {}});
  return s;
}

bool made_by_engine(const Op& op) {
  return &op == &structural::leaf || &op == &structural::number || &op == &structural::add_any ||
         &op == &structural::detach;
}

std::string nearest(std::string_view name) {
  const std::vector<std::string> near = near_names(name);
  return near.empty() ? "`opgrad ops` lists all" : fmt::format("near it: {}", fmt::join(near, ", "));
}

// A network's numbers in f64: constants are converted once, and casts to f32 on the way become casts to f64.
Tensor as_f64(const Tensor& constant) {
  return constant.dtype() == DType::f32 ? detach(leaf_of(numbers_of(constant), constant.shape(), DType::f64))
                                        : constant;
}

Tensor remake_in_f64(const Tensor& node, std::span<Node* const> inputs) {
  const Op& op = *node.node()->op;
  if (!op.attributes || !node.node()->attributes()) return make_node(op, inputs, {}, nullptr);
  alignas(16) std::array<std::byte, 1024> attributes;
  if (op.attributes->size > attributes.size()) return make_node(op, inputs, {}, node.node()->attributes());
  std::memcpy(attributes.data(), node.node()->attributes(), op.attributes->size);
  for (const AttributeRef& ref : op.attributes->refs(attributes.data()))
    if (ref.dtype && *ref.dtype == DType::f32) *ref.dtype = DType::f64;
  return make_node(op, inputs, {}, attributes.data());
}

}  // namespace

GradtestReport gradtest(const Op& op, const GradtestOptions& options) {
  return report({subject_of(op)}, options);
}

GradtestReport gradtest(std::string_view name, const GradtestOptions& options) {
  const Op* op = find_op(name);
  if (!op)
    throw UserError(fmt::format("gradtest: no operation \"{}\" is registered; {}", name, nearest(name)));
  return gradtest(*op, options);
}

GradtestReport gradtest_matching(const std::string& expression, const GradtestOptions& options) {
  std::regex pattern;
  try {
    pattern = std::regex(expression);
  } catch (const std::regex_error& e) {
    throw UserError(fmt::format("gradtest: \"{}\" is no regular expression: {}", expression, e.what()));
  }
  std::vector<Subject> subjects;
  for (const Op* op : all_ops())
    if (!made_by_engine(*op) && std::regex_match(op->name, pattern)) subjects.push_back(subject_of(*op));
  if (subjects.empty())
    throw UserError(
        fmt::format("gradtest: no registered operation matches \"{}\"; {}", expression, nearest(expression)));
  return report(subjects, options);
}

GradtestReport gradtest(std::string name, const GradtestFunction& f, std::vector<Sample> inputs,
                        const GradtestOptions& options) {
  return report({Subject{nullptr, std::move(name), {{f, std::move(inputs), {}}}}}, options);
}

GradtestReport gradtest(std::string name, const Tensor& y, std::span<const Tensor> xs,
                        const GradtestOptions& options) {
  if (xs.empty())
    throw UserError(fmt::format("gradtest: \"{}\" was given nothing to differentiate by", name));
  std::vector<Input> inputs;
  for (const Tensor& x : xs) {
    if (!is_float(x.dtype()))
      throw UserError(fmt::format("gradtest: \"{}\" cannot be differentiated by {}", name,
                                  to_string(Type{x.dtype(), x.shape()})));
    const Numbers values = numbers_of(x);
    // Steps are taken beside the size of the numbers.
    double most = 0;
    for (const double v : values) most = std::max(most, std::abs(v));
    if (!(most > 0)) most = 1;
    inputs.push_back({x.shape(), DType::f64, values, -most, most});
  }
  const std::vector<Tensor> from(xs.begin(), xs.end());
  // Rebuilt once for each call, since what is computed lets go of its inputs. An f32 run computes in f32.
  const GradtestFunction f = [y, from](std::span<const Tensor> to) {
    if (to[0].dtype() == DType::f32) return rebuild(y, from, to);
    return rebuild(y, from, to, {.constant = as_f64, .make = remake_in_f64});
  };
  return report({Subject{nullptr, std::move(name), {{f, {}, std::move(inputs)}}}}, options);
}

GradtestReport gradtest(std::string name, const Tensor& y, const GradtestOptions& options) {
  std::vector<Tensor> xs;
  for (const Parameter& p : gradients(sum(y)).parameters) xs.push_back(p.value());
  return gradtest(std::move(name), y, xs, options);
}

}  // namespace opgrad
