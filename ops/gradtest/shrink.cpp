// The same mistake on fewer and shorter numbers: sizes first, since they make every later trial cheaper.
#include <algorithm>
#include <cmath>
#include <set>

#include "explain.h"

namespace opgrad::gradtests {
namespace {

// Up to this many numbers are shortened one by one.
constexpr std::size_t handful = 24;

class Search {
 public:
  Search(const Problem& start, std::function<bool(const Problem&)> fails, int trials)
      : best_(start), fails_(std::move(fails)), trials_(trials) {}

  Problem run() {
    while (trials_ > 0 && smaller_size()) continue;
    shorter_numbers();
    return best_;
  }

 private:
  Problem best_;
  std::function<bool(const Problem&)> fails_;
  int trials_;

  // Takes the candidate if it still fails. What throws is no candidate: the function refuses it, or fails in
  // another way than the one to be shown.
  bool try_this(Problem candidate) {
    if (trials_-- <= 0) return false;
    try {
      if (!fails_(candidate)) return false;
    } catch (const std::exception&) {
      return false;
    }
    best_ = std::move(candidate);
    return true;
  }

  bool smaller_size();
  void shorter_numbers();
  void shorten_one(std::size_t input, std::size_t element);
};

// `which` chooses the axes, of size `from`, that become `to`: the leading part of the values stays.
template <class Which>
Problem resized_where(const Problem& p, std::int64_t from, std::int64_t to, Which which) {
  Problem out = p;
  for (std::size_t i = 0; i < p.inputs.size(); ++i) {
    const Input& old = p.inputs[i];
    Input& in = out.inputs[i];
    std::vector<std::int64_t> dims(old.shape.begin(), old.shape.end());
    for (std::size_t axis = 0; axis < dims.size(); ++axis)
      if (dims[axis] == from && which(i, axis)) dims[axis] = to;
    in.shape = Shape(std::span<const std::int64_t>(dims));
    const auto strides = dense_strides(old.shape);
    in.values.clear();
    for (std::int64_t k = 0; k < in.shape.numel(); ++k) {
      std::int64_t rest = k, at = 0;
      for (std::size_t axis = dims.size(); axis-- > 0; rest /= dims[axis])
        at += rest % dims[axis] * strides[axis];
      in.values.push_back(old.values[static_cast<std::size_t>(at)]);
    }
    // Integers below `from` may be indices into an axis of that size.
    if (is_integer(in.dtype) && in.high <= static_cast<double>(from)) {
      for (double& v : in.values) v = v >= 0 ? std::fmod(v, static_cast<double>(to)) : v;
      in.high = std::min(in.high, static_cast<double>(to));
    }
  }
  return out;
}

// One step down for one size, if any: everywhere at once, since equal sizes mostly mean the same; else for
// one axis.
bool Search::smaller_size() {
  std::set<std::int64_t, std::greater<>> sizes;
  for (const Input& in : best_.inputs)
    for (const std::int64_t d : in.shape)
      if (d > 1) sizes.insert(d);
  for (const std::int64_t from : sizes) {
    const std::set<std::int64_t> smaller{1, std::min<std::int64_t>(2, from - 1),
                                         std::min<std::int64_t>(3, from - 1), from / 2, from - 1};
    for (const std::int64_t to : smaller)
      if (try_this(resized_where(best_, from, to, [](std::size_t, std::size_t) { return true; })))
        return true;
    for (std::size_t i = 0; i < best_.inputs.size(); ++i)
      for (std::size_t axis = 0; axis < static_cast<std::size_t>(best_.inputs[i].shape.rank()); ++axis)
        if (best_.inputs[i].shape[static_cast<int>(axis)] == from &&
            try_this(resized_where(best_, from, 1,
                                   [&](std::size_t j, std::size_t a) { return i == j && a == axis; })))
          return true;
  }
  return false;
}

// Halves, quarters, ... are short in print and exact in every float type.
constexpr double grains[] = {1, 0.5, 0.25, 0.125, 1.0 / 16, 1.0 / 64, 1.0 / 256};

// The multiple of `grain` near v that lies inside the domain, is not 0 and is not `taken`: zeros and ties are
// where kinks lie.
std::optional<double> shortened(double v, double grain, const Input& in, const std::set<double>& taken) {
  for (const int by : {0, 1, -1, 2, -2}) {
    const double x = (std::round(v / grain) + by) * grain;
    if (x != 0 && x > in.low && x < in.high && !taken.contains(x)) return x;
  }
  return std::nullopt;
}

// The numbers of all float inputs but one.
std::set<double> others(const Problem& p, std::size_t input, std::size_t element) {
  std::set<double> out;
  for (std::size_t i = 0; i < p.inputs.size(); ++i)
    for (std::size_t k = 0; k < p.inputs[i].values.size(); ++k)
      if (p.inputs[i].active() && (i != input || k != element)) out.insert(p.inputs[i].values[k]);
  return out;
}

void Search::shorter_numbers() {
  std::size_t count = 0;
  for (const Input& in : best_.inputs) count += in.values.size();
  for (std::size_t first = 0; first < std::size(grains); ++first) {
    Problem candidate = best_;
    std::set<double> taken;
    for (Input& in : candidate.inputs)
      for (double& v : in.values) {
        if (!in.active()) continue;
        std::optional<double> x;
        for (std::size_t g = first; g < std::size(grains) && !x; ++g) x = shortened(v, grains[g], in, taken);
        taken.insert(v = x.value_or(v));
      }
    if (try_this(std::move(candidate))) break;
  }
  if (count > handful) return;
  for (std::size_t i = 0; i < best_.inputs.size(); ++i)
    for (std::size_t k = 0; k < best_.inputs[i].values.size(); ++k) shorten_one(i, k);
}

void Search::shorten_one(std::size_t i, std::size_t k) {
  const Input in = best_.inputs[i];
  const double v = in.values[k];
  const auto try_value = [&](double x) {
    Problem candidate = best_;
    candidate.inputs[i].values[k] = x;
    return try_this(std::move(candidate));
  };
  if (!in.active()) {
    if (v != 0) try_value(0);
    return;
  }
  const std::set<double> taken = others(best_, i, k);
  for (const double grain : grains) {
    const std::optional<double> x = shortened(v, grain, in, taken);
    if (x == v || (x && try_value(*x))) return;
  }
}

}  // namespace

Specimen shrunk(const Finding& f) {
  // A second order that fails since the first does is shown on the first: its truth would change with the
  // rule.
  const bool by_first = f.order == 2 && !f.first_order_right && compare_anew(*f.first, 1, f.dtype);
  const int order = by_first ? 1 : f.order;
  const auto anew = [&](const Problem& p) { return compare_anew(p, order, f.dtype).has_value(); };
  if (f.still_fails && order == f.order)
    if (auto s = compare_anew(Search(*f.first, f.still_fails, 300).run(), order, f.dtype)) return *s;
  // Without the caller's check, or where what it sees does not show in single elements.
  if (anew(*f.first))
    if (auto s = compare_anew(Search(*f.first, anew, 100).run(), order, f.dtype)) return *s;
  return {f.order,   *f.first,   *f.problem, f.cotangent,
          f.claimed, f.expected, f.bound,    "the differences of the run"};
}

}  // namespace opgrad::gradtests
