// Forward mode without a step, node by node: values and tangents are computed tensors of f64.
#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "../../core/dual.h"
#include "../../graph/run.h"
#include "truth.h"

namespace opgrad::gradtests {
namespace {

using kernel::Dual;

// Every node behind y, inputs before users, with the inputs as they are now: computing may let go of them.
struct Step {
  Tensor node;
  std::vector<Node*> inputs;
};
std::vector<Step> steps_behind(const Tensor& y) {
  std::vector<Step> order;
  std::unordered_set<const Node*> met{y.node()};
  std::vector<std::pair<Tensor, std::size_t>> stack{{y, 0}};
  while (!stack.empty()) {
    auto& [t, next] = stack.back();
    const auto inputs = t.node()->inputs();
    if (next < inputs.size()) {
      Node* const input = inputs[next++];
      if (met.insert(input).second) stack.emplace_back(Tensor::share(input), 0);
    } else {
      order.push_back({t, {inputs.begin(), inputs.end()}});
      stack.pop_back();
    }
  }
  return order;
}

using Tangents = std::unordered_map<const Node*, Numbers>;

Tensor f64_leaf(const Numbers& values, const Shape& shape) { return leaf_of(values, shape, DType::f64); }

// Linear in all inputs together: op(tangents). Linear in each: the sum of op(inputs, one of them replaced by
// its tangent). Inputs that are no floats stay.
Numbers linear_tangent(const Step& s, const Tangents& tangents) {
  const Node* const n = s.node.node();
  const bool together = !has(n->op->traits, Traits::multilinear);
  Numbers sum(static_cast<std::size_t>(s.node.numel()), 0.0);
  std::vector<Tensor> held;
  const auto tangent_of = [&](Node* input) {
    const auto found = tangents.find(input);
    const Shape& shape = shape_of(input->shape);
    held.push_back(found == tangents.end() ? full(shape, 0, DType::f64) : f64_leaf(found->second, shape));
    return held.back().node();
  };
  const auto add = [&](std::span<Node* const> inputs) {
    const Numbers term = numbers_of(make_node(*n->op, inputs, {}, n->attributes()));
    for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += term[k];
  };
  std::vector<Node*> inputs = s.inputs;
  for (std::size_t i = 0; i < s.inputs.size(); ++i) {
    if (together && is_float(inputs[i]->dtype)) inputs[i] = tangent_of(s.inputs[i]);
    if (together || !tangents.contains(s.inputs[i])) continue;
    inputs[i] = tangent_of(s.inputs[i]);
    add(inputs);
    inputs[i] = s.inputs[i];
  }
  if (together) add(inputs);
  return sum;
}

// Dual numbers through the kernel. False when an input is of a type that has none.
bool dual_tangent(const Step& s, const Tangents& tangents, Numbers& out) {
  const Node* const n = s.node.node();
  std::vector<std::vector<Dual>> duals(s.inputs.size());
  std::vector<Tensor> held;
  std::vector<View> in;
  for (std::size_t i = 0; i < s.inputs.size(); ++i) {
    const Tensor x = Tensor::share(s.inputs[i]);
    const Type type{x.dtype(), x.shape()};
    if (x.dtype() == DType::bool_) {
      held.push_back(leaf_of(numbers_of(x), x.shape(), DType::bool_));
      in.push_back(dense_view(const_cast<bool*>(held.back().values<bool>().data()), type));
      continue;
    }
    if (x.dtype() != DType::f64) return false;
    const Numbers v = numbers_of(x);
    const auto found = tangents.find(s.inputs[i]);
    for (std::size_t k = 0; k < v.size(); ++k)
      duals[i].emplace_back(v[k], found == tangents.end() ? 0.0 : found->second[k]);
    in.push_back(dense_view(duals[i].data(), type));
  }
  std::vector<Dual> result(static_cast<std::size_t>(s.node.numel()));
  n->op->forward.dual(
      {.in = in, .out = dense_view(result.data(), {n->dtype, shape_of(n->shape)}), .attrs = n->attributes()});
  out.clear();
  for (const Dual& d : result) out.push_back(d.d);
  return true;
}

}  // namespace

double greatest_value_behind(const Tensor& y) {
  std::vector<Tensor> all;
  for (const Step& s : steps_behind(y))
    if (is_float(s.node.dtype())) all.push_back(s.node);
  eval(all);
  double most = 0;
  for (const Tensor& t : all)
    for (const double v : numbers_of(t)) most = std::isfinite(v) ? std::max(most, std::abs(v)) : most;
  return most;
}

std::int64_t elements_behind(const Tensor& y) {
  std::int64_t sum = 0;
  for (const Step& s : steps_behind(y)) sum += s.node.numel();
  return sum;
}

std::optional<Slope> exact_slope(const Problem& p, std::span<const Numbers> direction) {
  const std::vector<Tensor> xs = leaves(p.inputs);
  const Tensor y = p.f(xs);
  const std::vector<Step> steps = steps_behind(y);
  std::vector<Tensor> all;
  for (const Step& s : steps) all.push_back(s.node);
  eval(all);

  Tangents tangents;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (!direction[i].empty()) tangents[xs[i].node()] = direction[i];
  for (const Step& s : steps) {
    const Node* const n = s.node.node();
    bool any = false;
    for (Node* input : s.inputs) any = any || tangents.contains(input);
    if (!any || !is_float(n->dtype)) continue;
    Numbers& tangent = tangents[n];
    constexpr Traits linear = Traits::linear | Traits::multilinear | Traits::movement;
    if (has(n->op->traits, linear))
      tangent = linear_tangent(s, tangents);
    else if (!n->op->forward.dual || n->dtype != DType::f64 || !dual_tangent(s, tangents, tangent))
      return std::nullopt;
  }
  Slope slope;
  const auto found = tangents.find(y.node());
  slope.value = found == tangents.end() ? Numbers(static_cast<std::size_t>(y.numel()), 0.0) : found->second;
  // Rounding is relative to the greatest tangent on the way, which may cancel later.
  double most = 0;
  for (const auto& [node, tangent] : tangents)
    for (const double d : tangent) most = std::isfinite(d) ? std::max(most, std::abs(d)) : most;
  slope.error.assign(slope.value.size(), 4e-16 * most);
  slope.good = std::ranges::all_of(slope.value, [](double d) { return std::isfinite(d); });
  return slope;
}

}  // namespace opgrad::gradtests
