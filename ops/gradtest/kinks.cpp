// Ties, kinks and conventions; and the identities that a record states.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "../../core/random.h"
#include "../../graph/grad.h"
#include "checks.h"

namespace opgrad::gradtests {
namespace {

constexpr std::size_t most_elements = 250;

// All elements equal, or on three levels only.
Problem tied(Problem p, bool all_equal) {
  for (Input& in : p.inputs) {
    if (!in.active() || !(in.low < in.high)) continue;
    const double middle = in.low < 0 && in.high > 0 ? 0 : (in.low + in.high) / 2, width = in.high - in.low;
    for (double& x : in.values)
      x = all_equal ? middle
                    : middle + width / 4 * std::clamp(std::round((x - middle) / width * 3), -1.0, 1.0);
  }
  return p;
}

std::size_t active_elements(const Problem& p) {
  std::size_t n = 0;
  for (const Input& in : p.inputs) n += in.active() ? in.values.size() : 0;
  return n;
}

std::string list(const Numbers& numbers) { return fmt::format("{{{:g}}}", fmt::join(numbers, ", ")); }

// The record's field as it would state today's gradients at these inputs.
std::string kinks_to_paste(const Case& c, const Problem& p) {
  const Numbers ones(static_cast<std::size_t>(p.f(leaves(p.inputs)).numel()), 1.0);
  const Gradient g = gradient(p, ones);
  std::string inputs;
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    if (!p.inputs[i].active()) return "    .kinks = ...  // see graph/ir.h, struct Kink";
    const Numbers dims(p.inputs[i].shape.begin(), p.inputs[i].shape.end());
    inputs +=
        fmt::format("{}{{{}, {}, {}}}", i ? ", " : "", list(dims), list(p.inputs[i].values), list(g.of[i]));
  }
  return fmt::format(
      "    .kinks = [] {{ return Kinks{{{{\"...\", {{{}}}, find_op(\"{}\")->examples()[{}].call}}}}; }},",
      inputs, c.name, c.example);
}

// Whether y was computed with this operation, before its inputs were let go.
bool contains(const Tensor& y, const Op& op) { return y.node()->op == &op; }

}  // namespace

void check_ties(GradtestRow& row, const Case& c) {
  if (active_elements(c.problem) > most_elements) {
    if (c.first_seed)
      row.skips.push_back(fmt::format("ties: more than {} elements ({})", most_elements, c.label));
    return;
  }
  for (const bool all_equal : {true, false}) {
    const Problem p = tied(c.problem, all_equal);
    const Numbers at = value(p);
    const Numbers cotangent = signed_numbers(fold_in(c.seed, 41), static_cast<std::int64_t>(at.size()));
    const Truth t = truth(p, cotangent, c.seed);
    const Gradient g = gradient(p, cotangent), narrow = gradient(p, cotangent, DType::f32);
    int kinks = 0, undecided = 0;
    for (std::size_t i = 0; i < t.of.size(); ++i)
      for (std::size_t k = 0; k < t.of[i].size(); ++k) {
        const Truth::Entry& e = t.of[i][k];
        // Infinite slopes and jumps of the value itself have no bound, and a function may exclude ties.
        if ((!e.kink && !e.good) || !std::isfinite(e.value)) {
          ++undecided;
          continue;
        }
        kinks += e.kink;
        const double claimed = g.of[i][e.element];
        if (std::abs(claimed - e.value) <= e.bound) {
          if (std::abs(narrow.of[i][e.element] - e.value) <= e.bound + f32_slack * e.scale || !c.op) continue;
          return fail(
              row, c, Verdict::wrong, "ties",
              fmt::format(
                  "with {}, the gradient of element {} of input {} is {:.9g} in f64 and {:.9g} in f32",
                  all_equal ? "all elements equal" : "elements on three levels", e.element, i, claimed,
                  narrow.of[i][e.element]));
        }
        // Conventions of several operations need not add up to one of the function composed of them.
        if (!c.op) {
          ++undecided;
          continue;
        }
        return fail(
            row, c, Verdict::wrong, "ties",
            fmt::format(
                "with {}, the slopes of element {} of input {} lie in [{:.9g}, {:.9g}], but its gradient "
                "is {:.9g}",
                all_equal ? "all elements equal" : "elements on three levels", e.element, i,
                e.value - e.bound, e.value + e.bound, claimed));
      }
    row.kinks += kinks;
    if (undecided > 0 && c.first_seed)
      row.skips.push_back(
          fmt::format("ties: {} elements without a slope to compare with ({})", undecided, c.label));
    if (kinks > 0 && c.op && !c.op->kinks && contains(p.f(leaves(p.inputs)), *c.op))
      return fail(
          row, c, Verdict::wrong, "convention",
          fmt::format(
              "with {}, the slope jumps at {} elements, but the record does not say what the gradient "
              "is there. If what it gives now is meant, add:\n{}",
              all_equal ? "all elements equal" : "elements on three levels", kinks, kinks_to_paste(c, p)));
  }
}

void check_second_ties(GradtestRow& row, const Case& c) {
  if (active_elements(c.problem) > most_elements || !c.op) return;
  for (const bool all_equal : {true, false}) {
    const auto second = derived(tied(c.problem, all_equal), c.seed);
    if (!second) return;
    const Numbers at = value(*second);
    const Numbers cotangent = signed_numbers(fold_in(c.seed, 41), static_cast<std::int64_t>(at.size()));
    const Truth t = truth(*second, cotangent, c.seed);
    const Gradient g = gradient(*second, cotangent);
    for (std::size_t i = 0; i < t.of.size(); ++i)
      for (const Truth::Entry& e : t.of[i]) {
        // Where a gradient has a kink or a jump, its own gradient is nobody's promise.
        const double claimed = g.of[i][e.element];
        if (!e.good || e.kink || !std::isfinite(e.value) || std::abs(claimed - e.value) <= e.bound) continue;
        return fail(
            row, c, Verdict::wrong, "ties",
            fmt::format(
                "with {}, element {} of the gradient of the gradients for input {} is {:.9g}, but should "
                "be {:.9g} +- {:.1e}",
                all_equal ? "all elements equal" : "elements on three levels", e.element, i, claimed, e.value,
                e.bound));
      }
  }
}

void check_conventions(GradtestRow& row, const Op& op) {
  if (!op.kinks) return;
  Case c;
  c.op = &op;
  c.name = op.name;
  for (const Kink& kink : op.kinks()) {
    c.label = fmt::format("the convention \"{}\"", kink.convention);
    Problem p{kink.call, {}};
    bool sound = true;
    for (const Kink::Input& in : kink.inputs) {
      const auto n = static_cast<std::size_t>(in.shape.numel());
      if (in.values.size() == n && in.gradient.size() == n) continue;
      fail(row, c, Verdict::wrong, "convention",
           fmt::format(
               "`.kinks` gives {} values and {} gradients for an input of shape {}, which has {} elements",
               in.values.size(), in.gradient.size(), to_string(in.shape), n));
      sound = false;
    }
    if (!sound) continue;
    for (const Kink::Input& in : kink.inputs) p.inputs.push_back({in.shape, DType::f64, in.values, -1, 1});
    const Numbers ones(static_cast<std::size_t>(p.f(leaves(p.inputs)).numel()), 1.0);
    const Truth t = truth(p, ones, 1);
    int kinks = 0;
    for (const DType dtype : {DType::f64, DType::f32}) {
      const Gradient g = gradient(p, ones, dtype);
      for (std::size_t i = 0; i < kink.inputs.size(); ++i)
        for (const Truth::Entry& e : t.of[i]) {
          kinks += e.kink;
          const double claimed = g.of[i][e.element], stated = kink.inputs[i].gradient[e.element];
          if (claimed != stated)
            fail(row, c, Verdict::wrong, "convention",
                 fmt::format(
                     "element {} of the gradient for input {} is {:.9g} in {}, but the record states {:.9g}",
                     e.element, i, claimed, name_of(dtype), stated));
          else if (!(std::abs(claimed - e.value) <= e.bound))
            fail(row, c, Verdict::wrong, "convention",
                 fmt::format("the stated {:.9g} for element {} of input {} is outside the one-sided slopes "
                             "[{:.9g}, {:.9g}]",
                             stated, e.element, i, e.value - e.bound, e.value + e.bound));
        }
    }
    if (kinks == 0)
      fail(row, c, Verdict::wrong, "convention",
           "the slope does not jump at the point that the record gives");
    row.kinks += kinks / 2;
  }
}

void check_identities(GradtestRow& row, const Case& c) {
  if (!c.op || !c.op->identities) return;
  const std::vector<Tensor> xs = leaves(c.problem.inputs);
  const Tensor y = c.problem.f(xs);
  if (!contains(y, *c.op)) return;
  const Tensor dy = leaf_of(signed_numbers(fold_in(c.seed, 31), y.numel()), y.shape(), y.dtype());
  for (const Identity& identity : c.op->identities()) {
    const Tensor claim = identity.claim(y, dy);
    if (!claim) continue;
    const Tensor x = y.input(identity.input);
    const Numbers g = numbers_of(vjp(y, dy, {&x, 1})[0]), said = numbers_of(claim);
    double apart = g.size() == said.size() ? 0 : 1, size = 0;
    for (std::size_t k = 0; k < std::min(g.size(), said.size()); ++k) {
      apart = std::max(apart, std::abs(g[k] - said[k]));
      size = std::max(size, std::abs(g[k]));
    }
    const bool equal = apart <= 1e-12 * size;
    std::string text =
        identity.holds ? fmt::format("{}: holds, to {:.1e} of {:.3g}", identity.text, apart, size)
                       : fmt::format("{}: rejected, differs by {:.3g} of {:.3g}", identity.text, apart, size);
    if (equal != identity.holds) {
      fail(row, c, Verdict::wrong, "identity",
           fmt::format("\"{}\" should {}, and differs by {:.3g} of {:.3g}", identity.text,
                       identity.holds ? "hold" : "be rejected", apart, size));
      continue;
    }
    const auto known = [&](const std::string& other) { return other.starts_with(identity.text); };
    if (std::ranges::none_of(row.identities, known)) row.identities.push_back(std::move(text));
  }
}

}  // namespace opgrad::gradtests
