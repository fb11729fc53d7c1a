// What every backward rule owes, whatever it computes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "../../core/parallel.h"
#include "../../core/random.h"
#include "../../graph/grad.h"
#include "../ops.h"
#include "checks.h"

namespace opgrad::gradtests {

bool same_bits(const Numbers& a, const Numbers& b) {
  return std::ranges::equal(a, b, [](double x, double y) {
    return (std::isnan(x) && std::isnan(y)) || (x == y && std::signbit(x) == std::signbit(y));
  });
}

std::optional<Problem> resized(const Problem& p, std::int64_t from, std::int64_t to, std::uint64_t seed) {
  constexpr std::int64_t most = 1 << 18;  // elements of all tensors together
  // A function may take these sizes badly in its own way: then it is not asked.
  try {
    std::vector<Sample> samples;
    for (const Input& in : p.inputs) {
      std::vector<std::int64_t> dims(in.shape.begin(), in.shape.end());
      std::ranges::replace(dims, from, to);
      samples.push_back({Shape(dims), in.low, in.high, in.dtype});
      if (samples.back().shape.numel() > most) return std::nullopt;
    }
    Problem q{p.f, draw(samples, seed)};
    const Tensor y = q.f(leaves(q.inputs));
    if (!is_float(y.dtype()) || elements_behind(y) > most) return std::nullopt;
    value(q);
    return q;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

namespace {

Numbers cotangent_for(const Problem& p, std::uint64_t seed) {
  return signed_numbers(fold_in(seed, 31), p.f(leaves(p.inputs)).numel());
}

bool all_zero(const Gradient& g) {
  return std::ranges::all_of(
      g.of, [](const Numbers& n) { return std::ranges::all_of(n, [](double x) { return x == 0; }); });
}

// The first gradient whose bits differ.
std::string difference_of(const Gradient& a, const Gradient& b) {
  for (std::size_t i = 0; i < a.of.size(); ++i)
    for (std::size_t k = 0; k < a.of[i].size(); ++k)
      if (!same_bits({a.of[i][k]}, {b.of[i][k]}))
        return fmt::format("element {} of the gradient for input {} is {:.17g} and {:.17g}", k, i, a.of[i][k],
                           b.of[i][k]);
  return {};
}

// The same elements read through negative strides and gaps.
Tensor apart(const Tensor& x) {
  if (x.rank() == 0 || x.numel() == 0) return x;
  Axes none, one, all, end, two;
  for (int i = 0; i < x.rank(); ++i) {
    none.push_back(0);
    one.push_back(1);
    all.push_back(i);
    end.push_back(2 * x.shape()[i] - 1);
    two.push_back(2);
  }
  return slice(flip(variable(flip(pad(x, none, none, one, 1), all)), all), none, end, two);
}

// Gradients with respect to the inputs as `view` shows them to the function.
Gradient gradient_of_views(const Problem& p, const Numbers& cotangent, std::vector<Tensor> views) {
  const Tensor y = p.f(views);
  const Tensor dy = leaf_of(cotangent, y.shape(), y.dtype());
  const std::vector<Tensor> all = vjp_where_connected(y, dy, views);
  Gradient g{std::vector<Numbers>(views.size()), {}};
  for (std::size_t i = 0; i < views.size(); ++i)
    if (p.inputs[i].active()) g.of[i] = all[i] ? numbers_of(all[i]) : Numbers(p.inputs[i].values.size(), 0.0);
  return g;
}

// Whatever dy is made of, what counts are its elements.
void check_cotangents(GradtestRow& row, const Case& c, const Numbers& cotangent, const Gradient& dense) {
  const Problem& p = c.problem;
  const Numbers ones(cotangent.size(), 1.0);
  const Gradient of_ones = gradient(p, ones);
  using Make = std::function<Tensor(const Tensor& y)>;
  const auto leaf = [&](const Tensor& y) { return leaf_of(cotangent, y.shape(), y.dtype()); };
  const struct {
    const char* what;
    Make make;
    const Gradient& expected;
  } makes[] = {
      {"a strided, reversed cotangent", [&](const Tensor& y) { return apart(leaf(y)); }, dense},
      {"a cotangent that is still to be computed", [&](const Tensor& y) { return -(-leaf(y)); }, dense},
      {"one element repeated as cotangent",
       [](const Tensor& y) { return broadcast_to(leaf_of({1}, {}, y.dtype()), y.shape()); }, of_ones},
      {"a number as cotangent", [](const Tensor& y) { return full(y.shape(), 1, y.dtype()); }, of_ones}};
  for (const auto& m : makes)
    if (const std::string text = difference_of(m.expected, gradient(p, m.make, DType::f64)); !text.empty())
      return fail(row, c, Verdict::wrong, "cotangent",
                  fmt::format("{} for a dense cotangent and for {}", text, m.what));
}

// g(s dy) = s g(dy) for small, great and negative s, and g(u + v) = g(u) + g(v).
void check_linearity(GradtestRow& row, const Case& c, const Numbers& u, const Gradient& of_u) {
  const Problem& p = c.problem;
  const auto compare_with = [&](const Gradient& g, auto expected, const std::string& what) {
    // Of all inputs: what vanishes in one is rounding of terms that show in the others.
    double size = 0;
    for (std::size_t i = 0; i < g.of.size(); ++i)
      for (std::size_t k = 0; k < g.of[i].size(); ++k) size = std::max(size, std::abs(expected(i, k)));
    for (std::size_t i = 0; i < g.of.size(); ++i) {
      for (std::size_t k = 0; k < g.of[i].size(); ++k) {
        if (!(std::abs(g.of[i][k] - expected(i, k)) > 1e-10 * size)) continue;
        fail(row, c, Verdict::wrong, "linearity",
             fmt::format("the rule is not linear in dy: with {}, element {} of the gradient for input {} is "
                         "{:.9g}, but "
                         "should be {:.9g}",
                         what, k, i, g.of[i][k], expected(i, k)));
        return false;
      }
    }
    return true;
  };
  for (const double s : {0x1p20, 0x1p-20, -1.0}) {
    Numbers scaled = u;
    for (double& x : scaled) x *= s;
    const auto expected = [&](std::size_t i, std::size_t k) { return s * of_u.of[i][k]; };
    if (!compare_with(gradient(p, scaled), expected, fmt::format("{:g} dy", s))) return;
  }
  const Numbers v = signed_numbers(fold_in(c.seed, 32), static_cast<std::int64_t>(u.size()));
  const Gradient of_v = gradient(p, v);
  Numbers sum = u;
  for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += v[k];
  compare_with(
      gradient(p, sum), [&](std::size_t i, std::size_t k) { return of_u.of[i][k] + of_v.of[i][k]; },
      "the sum of two cotangents");
}

// A gradient does not depend on which others are wanted.
void check_wanted(GradtestRow& row, const Case& c, const Numbers& cotangent, const Gradient& all) {
  const auto leaf = [&](const Tensor& y) { return leaf_of(cotangent, y.shape(), y.dtype()); };
  for (std::size_t i = 0; i < all.of.size(); ++i) {
    if (!c.problem.inputs[i].active()) continue;
    Gradient expected{std::vector<Numbers>(all.of.size()), {}};
    expected.of[i] = all.of[i];
    const Gradient alone = gradient(c.problem, leaf, DType::f64, i);
    if (const std::string text = difference_of(expected, alone); !text.empty())
      return fail(
          row, c, Verdict::wrong, "wanted",
          fmt::format("{} where all gradients are wanted and where this one is alone; see `Wanted`", text));
  }
}

void check_views(GradtestRow& row, const Case& c, const Numbers& cotangent, const Gradient& dense) {
  const Problem& p = c.problem;
  std::vector<Tensor> views;
  for (const Tensor& x : leaves(p.inputs)) views.push_back(apart(x));
  if (!same_bits(numbers_of(p.f(views)), value(p)))
    fail(row, c, Verdict::wrong, "strided inputs",
         "the result for strided, reversed inputs differs from that for dense ones; declare "
         "Traits::dense_inputs, or walk the strides");
  if (const std::string text = difference_of(dense, gradient_of_views(p, cotangent, views)); !text.empty())
    fail(row, c, Verdict::wrong, "strided inputs", text + " for dense and for strided, reversed inputs");

  // One number everywhere: stride 0, over memory of one element, and as a number of the graph.
  Problem constant = p;
  views.clear();
  for (Input& in : constant.inputs) {
    if (!in.active() || in.values.empty()) {
      views.push_back(leaf_of(in.values, in.shape, in.dtype));
      continue;
    }
    std::ranges::fill(in.values, in.low + 0.6875 * (in.high - in.low));
    views.push_back(broadcast_to(variable(leaf_of({in.values[0]}, {}, in.dtype)), in.shape));
  }
  std::vector<Tensor> splats;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const Input& in = constant.inputs[i];
    splats.push_back(in.active() && !in.values.empty() ? full(in.shape, in.values[0], in.dtype) : views[i]);
  }
  const Numbers dense_value = value(constant);
  if (!same_bits(numbers_of(p.f(views)), dense_value) || !same_bits(numbers_of(p.f(splats)), dense_value))
    fail(row, c, Verdict::wrong, "stride 0",
         "the result for one number repeated differs from that for dense inputs full of it; declare "
         "Traits::dense_inputs, or walk the strides");
  if (const std::string text =
          difference_of(gradient(constant, cotangent), gradient_of_views(constant, cotangent, views));
      !text.empty())
    fail(row, c, Verdict::wrong, "stride 0", text + " for dense inputs and for one element repeated");
}

// f(x, x): the gradient is the sum of those of the two operands.
void check_repeated(GradtestRow& row, const Case& c, const Numbers& cotangent) {
  const Problem& p = c.problem;
  for (std::size_t j = 1; j < p.inputs.size(); ++j)
    for (std::size_t i = 0; i < j; ++i) {
      if (!p.inputs[i].active() || !p.inputs[j].active() || !(p.inputs[i].shape == p.inputs[j].shape))
        continue;
      // In the middle of both domains.
      Problem apart = p;
      const double low = std::max(p.inputs[i].low, p.inputs[j].low),
                   high = std::min(p.inputs[i].high, p.inputs[j].high);
      if (!(low < high)) continue;
      const std::vector<Sample> one{{p.inputs[i].shape, low, high, DType::f64}};
      apart.inputs[i] = draw(one, c.seed)[0];
      apart.inputs[j] = apart.inputs[i];
      Problem joined = apart;
      joined.f = [f = p.f, i, j](std::span<const Tensor> xs) {
        std::vector<Tensor> same(xs.begin(), xs.end());
        same[j] = same[i];
        return f(same);
      };
      const Gradient two = gradient(apart, cotangent), both = gradient(joined, cotangent);
      for (std::size_t k = 0; k < both.of[i].size(); ++k) {
        const double sum = two.of[i][k] + two.of[j][k],
                     size = std::abs(two.of[i][k]) + std::abs(two.of[j][k]);
        if (std::abs(sum - both.of[i][k]) <= 1e-12 * size || (std::isnan(sum) && std::isnan(both.of[i][k])))
          continue;
        return fail(
            row, c, Verdict::wrong, "repeated operand",
            fmt::format("with one tensor as input {} and {}, element {} of its gradient is {:.17g}, but "
                        "the gradients for the two inputs add up to {:.17g}",
                        i, j, k, both.of[i][k], sum));
      }
    }
}

void check_empty(GradtestRow& row, const Case& c) {
  std::set<std::int64_t> sizes;
  for (const Input& in : c.problem.inputs) sizes.insert(in.shape.begin(), in.shape.end());
  for (const std::int64_t size : sizes) {
    const auto empty = resized(c.problem, size, 0, c.seed);
    if (!empty) continue;
    const Gradient g = gradient(*empty, cotangent_for(*empty, c.seed));
    const bool nothing_flows = value(*empty).empty();
    if (nothing_flows && !all_zero(g))
      fail(row, c, Verdict::wrong, "zero sizes",
           fmt::format("with sizes {} made 0 the result is empty, but the gradient is not zero", size));
  }
}

void check_scalars(GradtestRow& row, const Case& c) {
  Problem p = c.problem;
  for (Input& in : p.inputs) {
    in.shape = Shape{};
    in.values.assign(1, in.values.empty() ? 0 : in.values[0]);
  }
  try {
    if (!is_float(p.f(leaves(p.inputs)).dtype())) return;
    if (!std::isfinite(value(p).at(0))) return;
  } catch (const std::exception&) {
    return;
  }
  const Numbers cotangent = cotangent_for(p, c.seed);
  const Truth t = truth(p, cotangent, c.seed);
  const Judgement found = compare(t, gradient(p, cotangent).of);
  if (t.good && !found.accepted)
    fail(row, c, Verdict::wrong, "rank 0",
         fmt::format(
             "with inputs of rank 0 the gradient for input {} is {:.12g}, but should be {:.12g} +- {:.1e}",
             found.input, found.claimed, found.expected, found.allowed));
}

class ThreadsAsBefore {
 public:
  ThreadsAsBefore() : before_(threads()) {}
  ~ThreadsAsBefore() {
    if (threads() != before_) set_threads(before_);
  }
  ThreadsAsBefore(const ThreadsAsBefore&) = delete;
  ThreadsAsBefore& operator=(const ThreadsAsBefore&) = delete;

 private:
  int before_;
};

// A problem large enough for several chunks of work, if the function takes one.
Problem enlarged(const Case& c) {
  for (const Input& in : c.problem.inputs)
    for (const std::int64_t size : in.shape) {
      if (size < 2) continue;
      std::optional<Problem> largest;
      // Step by step, since what a function makes of a size is its own affair.
      for (const std::int64_t factor : {4, 32, 512}) {
        auto larger = resized(c.problem, size, factor * size, c.seed);
        if (!larger) break;
        largest = std::move(larger);
      }
      if (largest) return std::move(*largest);
    }
  return c.problem;
}

void check_threads(GradtestRow& row, const Case& c) {
  if (c.options->threads.size() < 2) return;
  const Problem p = enlarged(c);
  const Numbers cotangent = cotangent_for(p, c.seed);
  const ThreadsAsBefore restore;
  std::optional<Gradient> first;
  for (const int n : c.options->threads) {
    set_threads(n);
    Gradient g = gradient(p, cotangent, DType::f32);
    if (!first) {
      first = std::move(g);
    } else if (const std::string text = difference_of(*first, g); !text.empty()) {
      return fail(row, c, Verdict::wrong, "threads",
                  fmt::format("{} with {} and with {} threads", text, c.options->threads[0], n));
    }
  }
}

}  // namespace

void check_contracts(GradtestRow& row, const Case& c, bool small) {
  const Problem& p = c.problem;
  const Numbers cotangent = cotangent_for(p, c.seed);
  const Gradient g = gradient(p, cotangent);

  if (!all_zero(gradient(p, Numbers(cotangent.size(), 0.0))))
    fail(row, c, Verdict::wrong, "zero cotangent", "a cotangent of zeros gives a gradient that is not zero");
  if (const std::string text = difference_of(g, gradient(p, cotangent)); !text.empty())
    fail(row, c, Verdict::wrong, "repetition", text + " when computed twice");

  const std::vector<Tensor> xs = leaves(p.inputs);
  const Tensor y = p.f(xs), again = p.f(xs);
  const Tensor dy = leaf_of(cotangent, y.shape(), y.dtype());
  const std::vector<Tensor> twice = vjp_where_connected(y + again, dy, xs);
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (!same_bits(numbers_of(xs[i]), p.inputs[i].values))
      fail(row, c, Verdict::wrong, "inputs unchanged", fmt::format("input {} was written to", i));
    if (!p.inputs[i].active() || !twice[i]) continue;
    const Numbers doubled = numbers_of(twice[i]);
    double size = 0;
    for (const Numbers& of : g.of)
      for (const double v : of) size = std::max(size, std::abs(v));
    for (std::size_t k = 0; k < doubled.size(); ++k)
      if (!(std::abs(doubled[k] - 2 * g.of[i][k]) <= 1e-12 * size) && !std::isnan(g.of[i][k])) {
        fail(row, c, Verdict::wrong, "accumulation",
             fmt::format("element {} of the gradient of f + f for input {} is {:.17g}, and that of f {:.17g}",
                         k, i, doubled[k], g.of[i][k]));
        break;
      }
  }
  if (!small) {
    if (c.first_seed)
      row.skips.push_back(
          fmt::format("views, sizes 0 and repeated operands: a large function ({})", c.label));
    return;
  }
  check_views(row, c, cotangent, g);
  check_cotangents(row, c, cotangent, g);
  check_linearity(row, c, cotangent, g);
  check_wanted(row, c, cotangent, g);
  check_repeated(row, c, cotangent);
  if (!c.first_seed) return;
  check_empty(row, c);
  check_scalars(row, c);
  check_threads(row, c);
}

}  // namespace opgrad::gradtests
