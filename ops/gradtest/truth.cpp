// Extrapolated differences, and the gradient put together from columns of the Jacobian.
#include "truth.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "../../core/random.h"

namespace opgrad::gradtests {
namespace {

constexpr double epsilon = std::numeric_limits<double>::epsilon();
constexpr int levels = 5;
constexpr double first_step = 1.0 / 64, shrink = 1.0 / 16;
constexpr int attempts = 4;

double greatest(const Numbers& v) {
  double most = 0;
  for (const double x : v) most = std::isnan(x) ? x : std::max(most, std::abs(x));
  return most;
}

// Neville's scheme at step 0 for one output: d[k] was measured with step h / 2^k, and its error is a series
// in h^power, h^2power, ... The error estimate: how far the last extrapolation moved the result.
struct Extrapolated {
  double value, error;
};
Extrapolated extrapolate(std::array<double, levels> d, int power) {
  double before = d[levels - 1];
  for (int j = 1; j < levels; ++j) {
    before = d[levels - 1];
    const double factor = std::pow(2.0, power * j) - 1;
    for (int k = levels - 1; k >= j; --k) {
      const auto at = static_cast<std::size_t>(k);
      d[at] += (d[at] - d[at - 1]) / factor;
    }
  }
  // The best of this step with one term less, and the best without the smallest step (Ridders 1982).
  const double best = d[levels - 1];
  return {best, std::max(std::abs(best - before), std::abs(best - d[levels - 2]))};
}

// Values at steps +h/2^k and -h/2^k.
struct Ladder {
  double h = 0;
  std::array<Numbers, levels> up, down;
  double size = 0;      // of the greatest value, or of the terms of a dot product
  double rounding = 0;  // of the elements that move
};
Ladder climb(const Probe& probe, std::span<const Numbers> direction, double h) {
  Ladder l{h, {}, {}, 0, 0};
  for (std::size_t k = 0; k < levels; ++k) {
    const double step = h / static_cast<double>(1 << k);
    l.up[k] = probe.value(direction, step, l.size);
    l.down[k] = probe.value(direction, -step, l.size);
  }
  return l;
}

enum class Side { central, left, right };

// The error is small beside the slopes, or is that of rounding; false for NaN.
bool small(const Slope& s, double slopes, double size, double smallest_step) {
  return greatest(s.error) <= 1e-7 * slopes + 16 * epsilon * size / smallest_step;
}

Slope slope_of(const Ladder& l, const Numbers& middle, Side side) {
  Slope s;
  const double size = l.size;
  const double smallest = l.h / static_cast<double>(1 << (levels - 1));
  for (std::size_t m = 0; m < middle.size(); ++m) {
    std::array<double, levels> d{};
    for (std::size_t k = 0; k < levels; ++k) {
      const double step = l.h / static_cast<double>(1 << k);
      d[k] = side == Side::central ? (l.up[k][m] - l.down[k][m]) / (2 * step)
             : side == Side::right ? (l.up[k][m] - middle[m]) / step
                                   : (middle[m] - l.down[k][m]) / step;
    }
    const Extrapolated e = extrapolate(d, side == Side::central ? 2 : 1);
    // Rounding of the values, as the smallest step magnifies it; the scheme itself adds little.
    s.value.push_back(e.value);
    s.error.push_back(e.error + (4 * epsilon * size + l.rounding * std::abs(e.value)) / smallest);
  }
  s.good = small(s, greatest(s.value), size, smallest);
  return s;
}

// Where the one-sided slopes are good and differ: the interval between them.
Slope between(const Slope& left, const Slope& right) {
  Slope s{{}, {}, left.good && right.good, false};
  const double most = std::max(greatest(left.value), greatest(right.value));
  for (std::size_t m = 0; m < left.value.size(); ++m) {
    const double jump = std::abs(right.value[m] - left.value[m]), error = left.error[m] + right.error[m];
    s.kink = s.kink || jump > 10 * error + 1e-6 * most;
    s.value.push_back((left.value[m] + right.value[m]) / 2);
    s.error.push_back(jump / 2 + error);
  }
  return s;
}

bool apart(const Slope& a, const Slope& b) {
  for (std::size_t m = 0; m < a.value.size(); ++m)
    if (std::abs(a.value[m] - b.value[m]) > a.error[m] + b.error[m]) return true;
  return false;
}

}  // namespace

Probe::Probe(const Problem& p, const Numbers* weights) : p_(p), at_(leaves(p.inputs)), weights_(weights) {
  const Tensor y = p.f(at_);
  // Of a network only the result is looked at: its nodes are many.
  size_ = weights ? 0 : greatest_value_behind(y);
  middle_ = weighed(numbers_of(y), size_);
}

Numbers Probe::value(std::span<const Numbers> direction, double t, double& size) const {
  return weighed(value_along(p_, at_, direction, t), size);
}

Numbers Probe::weighed(Numbers values, double& size) const {
  if (!weights_) {
    size = std::max(size, greatest(values));
    return values;
  }
  double sum = 0, terms = 0;
  for (std::size_t m = 0; m < values.size(); ++m) {
    sum += (*weights_)[m] * values[m];
    terms += std::abs((*weights_)[m] * values[m]);
  }
  size = std::max(size, terms);
  return {sum};
}

Slope Probe::difference(std::span<const Numbers> direction) const {
  const Numbers& middle = middle_;
  Slope best;
  best.good = false;
  double best_error = std::numeric_limits<double>::infinity(), h = first_step, rounding_of_x = 0;
  for (std::size_t i = 0; i < direction.size(); ++i) {
    if (direction[i].empty()) continue;
    h = std::min(h, first_step * reach(p_.inputs[i]));
    for (std::size_t k = 0; k < direction[i].size(); ++k)
      if (direction[i][k] != 0)
        rounding_of_x = std::max(rounding_of_x, epsilon * std::abs(p_.inputs[i].values[k]));
  }
  Ladder last;
  for (int i = 0; i < attempts; ++i, h *= shrink) {
    last = climb(*this, direction, h);
    last.size = std::max(last.size, size_);
    last.rounding = rounding_of_x;
    // A kink at the point itself stays, however small the step, and the central difference there is the mean
    // of two slopes, with a beautiful error estimate.
    Slope left = slope_of(last, middle, Side::left), right = slope_of(last, middle, Side::right);
    // One of two slopes may be zero: both are judged beside the greater one.
    const double greater = std::max(greatest(left.value), greatest(right.value)),
                 smallest = last.h / static_cast<double>(1 << (levels - 1));
    left.good = small(left, greater, last.size, smallest);
    right.good = small(right, greater, last.size, smallest);
    Slope sides = between(left, right);
    if (sides.good && sides.kink) return sides;
    Slope s = slope_of(last, middle, Side::central);
    // Where the slope has a kink of its own (x |x| at 0), the central difference is no series in h^2, and its
    // estimate flatters; the one-sided ones are right.
    if (s.good && sides.good && apart(s, sides)) return sides;
    if (s.good) return s;
    const double error = greatest(s.error);
    if (error < best_error || best.value.empty()) {
      best = std::move(s);
      best_error = error;
    }
  }
  return best;
}

std::vector<Numbers> unit(const Problem& p, std::size_t input, std::size_t element) {
  std::vector<Numbers> direction(p.inputs.size());
  direction[input].assign(p.inputs[input].values.size(), 0.0);
  direction[input][element] = 1;
  return direction;
}

namespace {

// Up to this many columns in all, every element is looked at; beyond, a few of each input, and fewer in a
// network of many weights.
constexpr std::size_t most_columns = 400;
std::size_t samples_for(std::size_t count) { return count < 20000 ? 12 : 3; }

std::vector<std::size_t> chosen_elements(std::size_t n, bool all, std::size_t sampled, std::uint64_t seed,
                                         const Numbers* claimed) {
  std::vector<std::size_t> chosen(n);
  std::iota(chosen.begin(), chosen.end(), std::size_t{0});
  if (all || n <= sampled) return chosen;
  if (claimed) {
    const auto greatest = chosen.begin() + static_cast<std::ptrdiff_t>((sampled + 1) / 2);
    std::ranges::nth_element(chosen, greatest, std::greater(),
                             [&](std::size_t k) { return std::abs((*claimed)[k]); });
    chosen.erase(greatest, chosen.end());
  } else {
    chosen.clear();
  }
  for (std::size_t k = 0; k < sampled; ++k) chosen.push_back(static_cast<std::size_t>(fold_in(seed, k) % n));
  std::ranges::sort(chosen);
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

// Dual numbers and differences of one column must agree: both follow from the kernel's formula.
std::string compare_methods(const Slope& exact, const Slope& measured, std::size_t input,
                            std::size_t element) {
  const double most = std::max(greatest(exact.value), greatest(measured.value));
  for (std::size_t m = 0; m < exact.value.size(); ++m) {
    const double apart = std::abs(exact.value[m] - measured.value[m]);
    if (!(apart <= 10 * (exact.error[m] + measured.error[m]) + 1e-9 * most))
      return fmt::format(
          "the derivative of output {} by element {} of input {} is {:.15g} by dual numbers and {:.15g} +- "
          "{:.1e} by "
          "differences of computed values",
          m, element, input, exact.value[m], measured.value[m], measured.error[m]);
  }
  return {};
}

// <cotangent, slope>, its bound, and the sum of magnitudes.
struct Weighed {
  double sum = 0, error = 0, scale = 0;
};
Weighed weigh(const Numbers& cotangent, const Slope& s) {
  Weighed w;
  for (std::size_t m = 0; m < cotangent.size(); ++m) {
    w.sum += cotangent[m] * s.value[m];
    w.error += std::abs(cotangent[m]) * s.error[m];
    w.scale += std::abs(cotangent[m] * s.value[m]);
  }
  return w;
}

// What a rule may round: some hundred operations' worth, relative to the terms it adds up.
constexpr double rounding = 512 * epsilon;

}  // namespace

namespace {

// What the rule may round. An element is held to its own terms and a tenth of the greatest of all inputs;
// one that is nothing beside those is zero for a mathematical reason (a bias before a normalisation), and
// then its terms, which cancel, are as large as those of the others. Where the whole gradient vanishes beside
// the values themselves, they are what is rounded.
void finish_bounds(Truth& t, double values, const Numbers& cotangent, const Problem& p) {
  constexpr double nothing = 1e-6, share = 0.1;
  double most = 0, weight = 0, widest = 0;
  for (const double s : t.scale) most = std::max(most, s);
  for (const double c : cotangent) weight = std::max(weight, std::abs(c));
  for (const Input& in : p.inputs)
    if (in.active()) widest = std::max(widest, reach(in));
  if (widest > 0 && most < 1e-9 * weight * values / widest) most = weight * values / widest;
  t.vanishes.assign(t.of.size(), true);
  for (std::size_t i = 0; i < t.of.size(); ++i) {
    for (Truth::Entry& e : t.of[i]) {
      const bool vanishes = e.scale <= nothing * most;
      t.vanishes[i] = t.vanishes[i] && vanishes;
      e.scale = vanishes ? most : e.scale + share * most;
      e.bound = 2 * e.bound + rounding * e.scale;
    }
    if (!t.of[i].empty()) t.scale[i] = std::max(t.scale[i], t.vanishes[i] ? most : share * most);
  }
  for (Truth::Along& a : t.along)
    a.bound += rounding * t.scale[a.input] * std::sqrt(static_cast<double>(a.direction.size()));
}

}  // namespace

Truth truth(const Problem& p, const Numbers& cotangent, std::uint64_t seed,
            const std::vector<Numbers>* claimed) {
  std::size_t count = 0;
  for (const Input& in : p.inputs)
    if (in.active()) count += in.values.size();
  Truth t;
  t.of.resize(p.inputs.size());
  t.scale.assign(p.inputs.size(), 0.0);
  t.columns.resize(p.inputs.size());
  t.complete = count <= most_columns;
  t.exact = true;
  // Of a large function only what the cotangent makes of its result is looked at: one number.
  const Probe probe(p, t.complete ? nullptr : &cotangent);
  const Numbers weights = t.complete ? cotangent : Numbers{1};
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    if (!p.inputs[i].active()) continue;
    const std::size_t n = p.inputs[i].values.size();
    for (const std::size_t k : chosen_elements(n, t.complete, samples_for(count), fold_in(seed, 1000 + i),
                                               claimed ? &(*claimed)[i] : nullptr)) {
      const std::vector<Numbers> direction = unit(p, i, k);
      std::optional<Slope> exact;
      if (t.exact) exact = exact_slope(p, direction);
      t.exact = exact.has_value();
      Weighed w;
      if (exact && !t.complete) {
        w = weigh(cotangent, *exact);
        exact = Slope{{w.sum}, {w.error}};
      }
      Slope column = probe.difference(direction);
      // A bad estimate of the differences says nothing against the exact slope; a good one has the last word.
      std::string apart;
      if (exact && column.good) apart = compare_methods(*exact, column, i, k);
      if (exact && !column.kink && apart.empty()) column = std::move(*exact);
      if (t.disagreement.empty()) t.disagreement = std::move(apart);
      t.good = t.good && column.good;
      const double terms = w.scale;
      w = weigh(weights, column);
      t.scale[i] = std::max({t.scale[i], w.scale, terms});
      t.of[i].push_back({k, w.sum, w.error, column.kink, column.good, std::max(w.scale, terms)});
      if (t.complete) t.columns[i].push_back(std::move(column));
    }
    for (std::uint64_t r = 0; r < (t.complete || count >= 20000 ? 1u : 3u) && n > 0; ++r) {
      std::vector<Numbers> direction = unit(p, i, 0);
      direction[i] = signed_numbers(fold_in(fold_in(seed, 2000 + i), r), static_cast<std::int64_t>(n));
      // Of many elements each moves little, or every step would cross a kink.
      if (!t.complete)
        for (double& v : direction[i]) v /= std::sqrt(static_cast<double>(n));
      std::optional<Slope> slope;
      if (t.exact && t.disagreement.empty()) slope = exact_slope(p, direction);
      const bool whole = slope.has_value();
      if (!slope) slope = probe.difference(direction);
      if (!slope->good) continue;
      const Weighed w = weigh(whole ? cotangent : weights, *slope);
      t.along.push_back({i, std::move(direction[i]), w.sum, 2 * w.error + rounding * w.scale});
    }
  }
  finish_bounds(t, probe.size(), cotangent, p);
  return t;
}

}  // namespace opgrad::gradtests
