// Element by element, and along the directions.
#include "compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace opgrad::gradtests {
namespace {

// Claimed and true values are compared; the worst miss beyond its bound is kept.
void meet(Judgement& c, std::size_t input, std::size_t element, bool along, double claimed, double expected,
          double bound, double scale) {
  const double apart = std::abs(claimed - expected);
  const bool ok = apart <= bound;  // false for NaN
  c.zero = c.zero && std::abs(claimed) <= bound && std::abs(expected) <= bound;
  const double unit = scale > 0 ? scale : 1;
  const bool worst_so_far = c.accepted && apart / unit >= c.max_error;
  if (worst_so_far && !along) {
    c.max_error = apart / unit;
    c.bound = bound / unit;
  }
  if (ok) return;
  if (c.accepted || !(apart - bound <= std::abs(c.claimed - c.expected) - c.allowed)) {
    c.input = input;
    c.element = element;
    c.along = along;
    c.claimed = claimed;
    c.expected = expected;
    c.allowed = bound;
    c.max_error = apart / unit;
    c.bound = bound / unit;
  }
  c.accepted = false;
}

void compare_input(Judgement& c, const Truth& t, std::size_t i, const Numbers& claimed, double slack) {
  double weakest = std::numeric_limits<double>::infinity();
  for (const Truth::Entry& e : t.of[i]) {
    if (!e.good) continue;
    const double allowed = e.bound + slack * e.scale;
    meet(c, i, e.element, false, claimed[e.element], e.value, allowed, t.scale[i]);
    if (!t.vanishes[i] && e.value != 0) weakest = std::min(weakest, allowed / std::abs(e.value));
  }
  for (const Truth::Along& a : t.along) {
    if (a.input != i || !c.accepted) continue;  // an element says more than a direction
    double dot = 0, size = 0;
    for (std::size_t k = 0; k < claimed.size(); ++k) {
      dot += claimed[k] * a.direction[k];
      size += std::abs(claimed[k] * a.direction[k]);
    }
    meet(c, i, 0, true, dot, a.value, a.bound + slack * (size + t.scale[i]), t.scale[i]);
  }
  if (std::isfinite(weakest)) c.power = std::max(c.power, weakest);
}

}  // namespace

Judgement compare(const Truth& t, const std::vector<Numbers>& claimed, double slack) {
  Judgement c;
  for (std::size_t i = 0; i < claimed.size(); ++i)
    if (!t.of[i].empty()) compare_input(c, t, i, claimed[i], slack);
  return c;
}

Judgement compare_one(const Truth& t, std::size_t input, const Numbers& claimed, double slack) {
  Judgement c;
  compare_input(c, t, input, claimed, slack);
  return c;
}

// ------------------------------------------------------------------------------------------------ controls

namespace {

using Places = std::span<const std::size_t>;

// One of the elements that are not zero, chosen at random among the larger half.
std::optional<std::size_t> some_element(const Numbers& g, Places looked_at, std::uint64_t seed) {
  std::vector<std::size_t> places;
  for (const std::size_t k : looked_at)
    if (g[k] != 0) places.push_back(k);
  if (places.empty()) return std::nullopt;
  std::ranges::stable_sort(places, std::greater(), [&](std::size_t k) { return std::abs(g[k]); });
  return places[seed % ((places.size() + 1) / 2)];
}

using Changed = std::optional<Numbers>;

Changed scaled(const Numbers& g, const Shape&, DType dtype, std::uint64_t, Places) {
  Numbers wrong = g;
  for (double& x : wrong) x *= dtype == DType::f32 ? 1.001 : 1.00001;
  return wrong;
}

// A great gradient is moved by as much of itself: 1e-6 may be below its rounding.
Changed added(const Numbers& g, const Shape&, DType dtype, std::uint64_t, Places) {
  Numbers wrong = g;
  double most = 1;
  for (const double x : g) most = std::max(most, std::abs(x));
  for (double& x : wrong) x += most * (dtype == DType::f32 ? 1e-3 : 1e-6);
  return wrong;
}

Changed zeroed(const Numbers& g, const Shape&, DType, std::uint64_t seed, Places places) {
  Numbers wrong = g;
  if (const auto k = some_element(g, places, seed)) wrong[*k] = 0;
  return wrong;
}

Changed sign(const Numbers& g, const Shape&, DType, std::uint64_t seed, Places places) {
  Numbers wrong = g;
  if (const auto k = some_element(g, places, seed / 7)) wrong[*k] = -wrong[*k];
  return wrong;
}

// g seen as [outer, a, b, inner], its two middle axes read through `place`.
template <class Place>
Numbers rearranged(const Numbers& g, const Shape& shape, int axis, Place place) {
  std::int64_t inner = 1;
  for (int i = axis + 2; i < shape.rank(); ++i) inner *= shape[i];
  const std::int64_t a = shape[axis], b = shape[axis + 1], plane = a * b * inner;
  Numbers out(g.size());
  for (std::size_t at = 0; at < g.size(); ++at) {
    const std::int64_t k = static_cast<std::int64_t>(at), rest = k % plane;
    const auto [i, j] = place(rest / inner / b, rest / inner % b, a, b);
    out[at] = g[static_cast<std::size_t>(k - rest + (i * b + j) * inner + rest % inner)];
  }
  return out;
}

Changed transposed(const Numbers& g, const Shape& shape, DType, std::uint64_t, Places) {
  for (int axis = 0; axis + 1 < shape.rank(); ++axis)
    if (shape[axis] == shape[axis + 1] && shape[axis] > 1)
      return rearranged(g, shape, axis, [](std::int64_t i, std::int64_t j, std::int64_t, std::int64_t) {
        return std::pair(j, i);
      });
  return std::nullopt;
}

// The first two axes that both have more than one element: rows and columns of matrices, kernels and images.
Changed rot180(const Numbers& g, const Shape& shape, DType, std::uint64_t, Places) {
  for (int axis = 0; axis + 1 < shape.rank(); ++axis)
    if (shape[axis] > 1 && shape[axis + 1] > 1)
      return rearranged(g, shape, axis, [](std::int64_t i, std::int64_t j, std::int64_t a, std::int64_t b) {
        return std::pair(a - 1 - i, b - 1 - j);
      });
  return std::nullopt;
}

constexpr Control all_controls[] = {{"scaled", "scaled (by 1.00001, in f32 by 1.001)", scaled},
                                    {"added", "moved (by 1e-6, in f32 by 1e-3)", added},
                                    {"zeroed", "set to zero at one element", zeroed},
                                    {"sign", "given another sign at one element", sign},
                                    {"transposed", "transposed", transposed},
                                    {"rot180", "turned by 180 degrees", rot180}};

}  // namespace

std::span<const Control> controls() { return all_controls; }

}  // namespace opgrad::gradtests
