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
  Verdict v = row.cases == 0 ? Verdict::skipped : Verdict::pass;
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
    if (subject_.parts.empty()) return all(Verdict::missing, "the record has no examples; add `.examples`");
    for (int r = 0; r < std::max(1, options_.repeat); ++r)
      for (std::size_t i = 0; i < subject_.parts.size(); ++i)
        run_part(i, options_.seed + static_cast<std::uint64_t>(r));
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

  // Says to all rows of an order (or all) that something was left out.
  void skip(const std::string& text, int order = 0) {
    for (GradtestRow& row : rows_)
      if (!order || row.order == order) row.skips.push_back(text);
  }

  void run_part(std::size_t i, std::uint64_t seed) {
    const Subject::Part& part = subject_.parts[i];
    Case c;
    c.op = subject_.op;
    c.name = subject_.name;
    c.example = subject_.op ? static_cast<int>(i) : -1;
    c.seed = seed;
    c.first_seed = seed == options_.seed;
    c.options = &options_;
    c.problem = {part.f, part.samples.empty() ? part.fixed : draw(part.samples, fold_in(seed, i))};
    c.label = fmt::format("example {} of {}, seed {}: {}", i, subject_.parts.size(), seed,
                          types_text(c.problem.inputs));
    try {
      run_case(c);
    } catch (const UserError& e) {
      // The rule itself, or the function, refused: that is a finding, not a crash of the tester.
      for (GradtestRow& row : rows_) fail(row, c, Verdict::wrong, "error", e.what());
    }
  }

  void run_case(Case& c) {
    const auto active = [](const Input& in) { return in.active() && !in.values.empty(); };
    if (std::ranges::none_of(c.problem.inputs, active))
      return skip(fmt::format("{}: no float input to differentiate by", c.label));
    if (const Tensor y = c.problem.f(leaves(c.problem.inputs)); !is_float(y.dtype()))
      return skip(fmt::format("{}: the result is {}, which has no gradient", c.label,
                              to_string(Type{y.dtype(), y.shape()})));

    const bool wants_second = std::ranges::find(options_.orders, 2) != options_.orders.end();
    const Judged first = judge(c.problem, 1, c.seed);
    const bool right = compare(first.truth, first.claimed.of).accepted;
    if (std::ranges::find(options_.orders, 1) != options_.orders.end()) {
      write(c, first, true);
      if (GradtestRow* row = row_of(DType::f64, 1); row && right) {
        check_jacobian(*row, c, first);
        check_taylor(*row, c, 1);
        check_contracts(*row, c, first.truth.complete);
        if (first.truth.complete) check_ties(*row, c);
        check_identities(*row, c);
      } else if (row) {
        check_identities(*row, c);
      }
    }
    if (!wants_second) return;
    const std::optional<Problem> second = derived(c.problem, c.seed);
    if (!second) return skip(fmt::format("{}: no input has a gradient", c.label), 2);
    const Judged judged = judge(*second, 2, c.seed);
    write(c, judged, right);
    if (GradtestRow* row = row_of(DType::f64, 2); row && right && judged.truth.complete) {
      check_symmetry(*row, c, *second);
      check_taylor(*row, c, 2);
    }
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
      if (t.scale[i] > 0) least = std::min(least, most / t.scale[i]);
    }
    return least;
  }

  void write(const Case& c, const Judged& j, bool first_order_right) {
    for (std::size_t i = 0; i < rows_.size(); ++i)
      if (rows_[i].order == j.order)
        check_gradient(rows_[i], c, j, rows_[i].dtype, first_order_right, applied_[i]);
  }

  // Each legal control must have changed something at least once.
  void finish(GradtestRow& row, const std::map<std::string, Applied>& applied) const {
    Case everywhere;
    everywhere.label = "all examples";
    if (subject_.op)
      for (const auto& [kind, count] : applied)
        if (count.legal > 0 && count.changed == 0)
          fail(row, everywhere, Verdict::inconclusive, fmt::format("control: {}", kind),
               fmt::format("no example's gradient changes when it is {}; give a less symmetric one", kind));
    row.verdict = verdict_of(row);
  }

  const Subject& subject_;
  const GradtestOptions& options_;
  std::vector<GradtestRow> rows_;
  std::vector<std::map<std::string, Applied>> applied_;
};

GradtestReport report(const std::vector<Subject>& subjects, const GradtestOptions& options) {
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
  std::vector<Input> inputs;
  for (const Tensor& x : xs) {
    if (!is_float(x.dtype()))
      throw UserError(fmt::format("gradtest: \"{}\" cannot be differentiated by {}", name,
                                  to_string(Type{x.dtype(), x.shape()})));
    inputs.push_back({x.shape(), DType::f64, numbers_of(x), -1, 1});
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
