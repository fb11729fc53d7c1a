// What a wrong gradient looks like: patterns that are known to come from certain mistakes, likeliest first.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "arrangements.h"
#include "explain.h"
#include "truth.h"

namespace opgrad::gradtests {
namespace {

std::string number_text(double x) { return fmt::format("{:.6g}", x); }

// The gradient of one input.
struct Side {
  const Finding& finding;
  std::size_t input;
  const Numbers &claimed, &expected, &bound;
  std::vector<std::size_t> seen, wrong;  // elements

  Side(const Finding& f, std::size_t i)
      : finding(f), input(i), claimed(f.claimed[i]), expected(f.expected[i]), bound(f.bound[i]) {
    for (std::size_t k = 0; k < expected.size(); ++k) {
      if (!std::isfinite(bound[k]) || !std::isfinite(expected[k])) continue;
      seen.push_back(k);
      if (!near(claimed[k], expected[k], bound[k])) wrong.push_back(k);
    }
  }

  const Shape& shape() const { return finding.problem->inputs[input].shape; }
  bool complete() const { return seen.size() == expected.size(); }
  double apart(std::size_t k) const { return std::abs(claimed[k] - expected[k]); }
  static bool near(double a, double b, double within) { return std::abs(a - b) <= within; }  // not for NaN

  // `other` is what the gradient would be if a guess were right.
  bool equals(const Numbers& other, const Numbers& other_bound) const {
    return complete() && std::ranges::all_of(seen, [&](std::size_t k) {
             return near(claimed[k], other[k], bound[k] + other_bound[k]);
           });
  }
  bool equals(const Arrangement& a) const { return equals(arranged(expected, a), arranged(bound, a)); }
};

using Pattern = std::string (*)(const Side&);  // empty where it does not fit

std::string not_finite(const Side& s) {
  const auto count =
      std::ranges::count_if(s.seen, [&](std::size_t k) { return !std::isfinite(s.claimed[k]); });
  return count ? fmt::format(
                     "{} of {} elements are NaN or infinite where the true gradient is finite: a "
                     "division by 0, or a function outside its domain, in the rule",
                     count, s.seen.size())
               : "";
}

std::string all_zero(const Side& s) {
  if (std::ranges::any_of(s.seen, [&](std::size_t k) { return s.claimed[k] != 0; })) return "";
  return "it is zero or not connected where the true one is not zero: a path is missing (an empty gradient "
         "returned, or a path cut by detach or by an operation without gradient)";
}

// Why a gradient may be `ratio` times too large.
std::string factor_text(const Side& s, double ratio, double within) {
  const auto is = [&](double x) { return Side::near(ratio, x, within * std::abs(x) + within); };
  if (is(-1)) return "the sign is turned";
  if (is(2)) return "a factor 2 too much: a term counted twice, or a forgotten 1/2";
  if (is(-2)) return "a factor -2 too much: the sign is turned and a term counted twice";
  if (is(0.5)) return "half of it is missing: a forgotten factor 2";
  if (is(-0.5)) return "the sign is turned and a factor 2 is forgotten";
  for (std::size_t i = 0; i < s.finding.first->inputs.size(); ++i) {
    const Shape& shape = s.finding.first->inputs[i].shape;
    const auto size_text = [&](std::int64_t n, const std::string& of) -> std::string {
      if (n < 3) return "";
      const auto x = static_cast<double>(n);
      if (is(x))
        return fmt::format("{} is {}: a division by it is missing, as in a mean taken for a sum", n, of);
      if (is(1 / x))
        return fmt::format("1/{} with {} = {}: divided by it, as in a sum taken for a mean", n, n, of);
      return "";
    };
    for (int axis = 0; axis < shape.rank(); ++axis)
      if (auto text = size_text(shape[axis], fmt::format("the size of axis {} of input {}", axis, i));
          !text.empty())
        return text;
    if (auto text = size_text(shape.numel(), fmt::format("the number of elements of input {}", i));
        !text.empty())
      return text;
  }
  constexpr double ln2 = 0.69314718055994530942, ln10 = 2.30258509299404568402;
  if (is(ln2) || is(1 / ln2)) return "that is log 2 or its inverse: another base of a logarithm or power";
  if (is(ln10) || is(1 / ln10)) return "that is log 10 or its inverse: another base of a logarithm";
  return ratio < 0 ? "the sign is turned and a constant factor is wrong" : "a constant factor is wrong";
}

std::string constant_ratio(const Side& s) {
  const std::size_t top =
      *std::ranges::max_element(s.seen, {}, [&](std::size_t k) { return std::abs(s.expected[k]); });
  if (s.expected[top] == 0) return "";
  const double ratio = s.claimed[top] / s.expected[top];
  const double within = s.bound[top] / std::abs(s.expected[top]) * (1 + std::abs(ratio));
  std::size_t telling = 0;
  for (const std::size_t k : s.seen) {
    if (!Side::near(s.claimed[k], ratio * s.expected[k],
                    (1 + std::abs(ratio)) * s.bound[k] + within * std::abs(s.expected[k])))
      return "";
    telling += std::abs(s.expected[k]) > 10 * s.bound[k];
  }
  const std::string why = factor_text(s, ratio, within + 1e-9);
  // One element has some ratio whatever is wrong; it says something only when it is a familiar one.
  if (telling < 2 && why.find("constant factor is wrong") != why.npos) return "";
  // As many digits as the bound vouches for.
  const int digits = std::clamp(static_cast<int>(-std::log10(within)), 1, 10);
  return fmt::format("claimed / true is {:.{}g} {}: {}", ratio, digits,
                     telling > 1 ? fmt::format("at all {} elements", s.seen.size()) : "(of one element)",
                     why);
}

std::string signs(const Side& s) {
  for (const std::size_t k : s.wrong)
    if (!Side::near(s.claimed[k], -s.expected[k], 2 * s.bound[k])) return "";
  return s.wrong.size() < 2
             ? ""
             : fmt::format("the sign alone is wrong, at {} of {} elements", s.wrong.size(), s.seen.size());
}

std::string swapped(const Side& s) {
  for (std::size_t j = 0; j < s.finding.expected.size(); ++j) {
    const Numbers& other = s.finding.expected[j];
    if (j == s.input || other.size() != s.expected.size() || other.empty()) continue;
    if (s.equals(other, s.finding.bound[j]))
      return fmt::format("it equals the true gradient of input {}: operands are swapped", j);
    Numbers negative = other;
    for (double& x : negative) x = -x;
    if (s.equals(negative, s.finding.bound[j]))
      return fmt::format("it equals minus the true gradient of input {}: operands are swapped", j);
  }
  return "";
}

std::string one_element(const Side& s) {
  if (s.wrong.size() != 1 || s.seen.size() < 2) return "";
  const std::size_t k = s.wrong[0];
  return fmt::format("one element of {} is wrong, at {}: claimed {}, true {}", s.seen.size(),
                     index_text(s.shape(), k), number_text(s.claimed[k]), number_text(s.expected[k]));
}

std::string layout(const Side& s) {
  if (s.complete())
    for (const Arrangement& a : arrangements(s.shape()))
      if (s.equals(a)) return fmt::format("it equals the true gradient {}: the layout is wrong", a.words);
  return "";
}

std::string constant_difference(const Side& s) {
  if (s.wrong.size() < 2 || s.wrong.size() != s.seen.size()) return "";
  const std::size_t top = s.wrong[0];
  const double shift = s.claimed[top] - s.expected[top];
  for (const std::size_t k : s.seen)
    if (!Side::near(s.claimed[k] - s.expected[k], shift, s.bound[k] + s.bound[top])) return "";
  return fmt::format("claimed - true is {} at all {} elements: a constant is added", number_text(shift),
                     s.seen.size());
}

// The sum along an axis, and the sum of bounds.
Numbers summed(const Numbers& v, const Lines& lines) {
  Numbers sums(lines.count, 0.0);
  for (std::size_t k = 0; k < v.size(); ++k) sums[lines.line_of(k)] += v[k];
  return sums;
}

std::string axis_patterns(const Side& s) {
  if (!s.complete()) return "";
  for (int axis = 0; axis < s.shape().rank(); ++axis) {
    if (s.shape()[axis] < 2) continue;
    const Lines lines(s.shape(), axis);
    const Numbers claimed = summed(s.claimed, lines), expected = summed(s.expected, lines),
                  bound = summed(s.bound, lines);
    bool sum_missing = true, sum_surplus = true, sums_equal = true, shifted = s.shape()[axis] > 2;
    for (std::size_t k = 0; k < s.expected.size(); ++k) {
      const std::size_t l = lines.line_of(k), first = lines.first(l);
      sum_missing = sum_missing && Side::near(s.expected[k], claimed[l], bound[l] + s.bound[k]);
      sum_surplus = sum_surplus && Side::near(s.claimed[k], expected[l], bound[l] + s.bound[k]);
      sums_equal = sums_equal && Side::near(claimed[l], expected[l], 2 * bound[l]);
      shifted = shifted && Side::near(s.claimed[k] - s.expected[k], s.claimed[first] - s.expected[first],
                                      s.bound[k] + s.bound[first]);
    }
    if (sum_missing)
      return fmt::format(
          "summed along axis {} it equals the true gradient: a reduction is missing, as where a "
          "broadcast is differentiated",
          axis);
    if (sum_surplus) return fmt::format("it is the true gradient summed along axis {}: a sum too much", axis);
    if (shifted)
      return fmt::format(
          "claimed - true is the same along axis {}: a term that is constant along it is wrong or "
          "missing",
          axis);
    if (sums_equal)
      return fmt::format(
          "its sums along axis {} are right, its elements are not: contributions land at other "
          "places of that axis",
          axis);
  }
  return "";
}

std::string border(const Side& s) {
  for (int axis = 0; axis < s.shape().rank(); ++axis) {
    const Lines lines(s.shape(), axis);
    const std::size_t place = lines.place_of(s.wrong[0]), size = lines.size;
    const bool one = std::ranges::all_of(s.wrong, [&](std::size_t k) { return lines.place_of(k) == place; });
    if (one && size > 2 && (place == 0 || place + 1 == size))
      return fmt::format("it is wrong only at index {} of axis {}, its {}: off by one at a border", place,
                         axis, place ? "last" : "first");
  }
  return "";
}

std::string dropped(const Side& s) {
  if (std::ranges::any_of(s.wrong, [&](std::size_t k) { return s.claimed[k] != 0; })) return "";
  return fmt::format(
      "it is zero at {} of {} elements where the true one is not, and right elsewhere: "
      "contributions are dropped",
      s.wrong.size(), s.seen.size());
}

std::string growing(const Side& s) {
  for (int axis = 0; axis < s.shape().rank() && s.complete(); ++axis) {
    const Lines lines(s.shape(), axis);
    if (lines.size < 4) continue;
    Numbers error(lines.size, 0.0);
    for (std::size_t k = 0; k < s.expected.size(); ++k) error[lines.place_of(k)] += s.apart(k);
    const bool rising = std::ranges::adjacent_find(error, std::greater_equal()) == error.end();
    const bool falling = std::ranges::adjacent_find(error, std::less_equal()) == error.end();
    const double low = std::min(error.front(), error.back()), high = std::max(error.front(), error.back());
    if ((rising || falling) && high > 3 * low)
      return fmt::format(
          "the error grows along axis {} {} (from {} to {}, summed over the other axes): an "
          "accumulation, as of a running sum or product",
          axis, rising ? "forwards" : "backwards", number_text(low), number_text(high));
  }
  return "";
}

// The gradient that a changed cotangent would have given, from columns of the Jacobian.
std::string cotangent_patterns(const Side& s, const Truth& t, const Shape& result) {
  const std::vector<Slope>& columns = t.columns[s.input];
  if (!s.complete() || columns.size() != s.expected.size()) return "";
  const auto fits = [&](const Numbers& dy) {
    Numbers guess;
    for (const Slope& column : columns) {
      double sum = 0;
      for (std::size_t m = 0; m < dy.size(); ++m) sum += dy[m] * column.value[m];
      guess.push_back(sum);
    }
    return s.equals(guess, s.bound);
  };
  const Numbers& dy = s.finding.cotangent;
  if (fits(Numbers(dy.size(), 1.0))) return "it equals the true gradient for dy = 1: dy is not used";
  for (const Arrangement& a : arrangements(result))
    if (fits(arranged(dy, a)))
      return fmt::format("it equals the true gradient for dy {}: the layout of dy is wrong", a.words);
  for (int axis = 0; axis < result.rank(); ++axis) {
    const Lines lines(result, axis);
    for (const std::size_t place : {std::size_t{0}, lines.size - 1}) {
      Numbers part = dy;
      for (std::size_t m = 0; m < part.size(); ++m)
        if (lines.place_of(m) != place) part[m] = 0;
      if (lines.size > 1 && fits(part))
        return fmt::format(
            "it takes dy at index {} of axis {} of the result only: the sum along that axis, as "
            "broadcasting needs it, is missing",
            place, axis);
    }
  }
  return "";
}

std::string share(const Side& s) {
  const std::size_t top = *std::ranges::max_element(s.wrong, {}, [&](std::size_t k) { return s.apart(k); });
  if (s.seen.size() == 1)
    return fmt::format("claimed {}, true {}", number_text(s.claimed[top]), number_text(s.expected[top]));
  return fmt::format("{} of {} elements are wrong; the largest difference is at {}: claimed {}, true {}",
                     s.wrong.size(), s.seen.size(), index_text(s.shape(), top), number_text(s.claimed[top]),
                     number_text(s.expected[top]));
}

// Certain and telling patterns come first; what small tensors show by chance comes last.
constexpr Pattern patterns[] = {not_finite,    all_zero, constant_ratio, swapped,
                                one_element,   signs,    layout,         constant_difference,
                                axis_patterns, border,   dropped,        growing};

std::string pattern_of(const Side& s, const std::function<const Truth*()>& columns, const Shape& result) {
  for (const Pattern pattern : patterns) {
    // Guesses on the cotangent are surer than those on places.
    if (pattern == axis_patterns)
      if (const Truth* t = columns())
        if (std::string text = cotangent_patterns(s, *t, result); !text.empty()) return text;
    if (std::string text = pattern(s); !text.empty()) return text;
  }
  return share(s);
}

}  // namespace

std::string diagnose(const Finding& f) {
  if (f.order == 2 && !f.first_order_right)
    return "the first order is wrong already, and the second follows it";
  std::optional<Truth> truth_once;
  const Shape result = f.problem->f(leaves(f.problem->inputs)).shape();
  const auto columns = [&]() -> const Truth* {
    if (static_cast<std::int64_t>(f.cotangent.size()) != result.numel()) return nullptr;
    if (!truth_once) truth_once = truth(*f.problem, f.cotangent, 1);
    return &*truth_once;
  };

  // Several inputs often suffer from one mistake.
  std::vector<std::pair<std::string, std::vector<std::string>>> texts;
  for (std::size_t i = 0; i < f.expected.size(); ++i) {
    if (f.expected[i].empty()) continue;
    const Side side(f, i);
    if (side.wrong.empty()) continue;
    const std::string text = pattern_of(side, columns, result);
    const std::string name = i < f.first->inputs.size() ? fmt::format("input {}", i) : "dy";
    const auto same = std::ranges::find(texts, text, [](const auto& t) { return t.first; });
    if (same == texts.end())
      texts.push_back({text, {name}});
    else
      same->second.push_back(name);
  }
  if (texts.empty()) return "";
  std::string out;
  if (f.order == 2)
    out =
        "right in the first order, wrong in the second: an intermediate of the backward rule is stale "
        "(detached, or stored as a number), or an operation it uses has a wrong rule of its own; ";
  for (std::size_t i = 0; i < texts.size(); ++i)
    out += fmt::format("{}gradient of {}: {}", i ? "; " : "", fmt::join(texts[i].second, " and "),
                       texts[i].first);
  return out;
}

}  // namespace opgrad::gradtests
