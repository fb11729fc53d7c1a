// Records to tensors and to text.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../../graph/registry.h"
#include "../../ops/ops.h"
#include "../nodes_behind.h"
#include "graph.h"

namespace opgrad::fuzz {
namespace {

template <class T>
T element(const Record& r, Random& random) {
  if (r.data == Data::bits) return static_cast<T>(random.next());
  if (r.data == Data::special && random.chance(0.3)) {
    if constexpr (std::is_floating_point_v<T>) {
      using L = std::numeric_limits<T>;
      const T all[] = {L::quiet_NaN(), L::infinity(),   -L::infinity(), T(0),
                       -T(0),          L::denorm_min(), L::max(),       -L::min()};
      return all[random.below(std::size(all))];
    } else if constexpr (!std::is_same_v<T, bool>) {
      const T all[] = {std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), T(0)};
      return all[random.below(std::size(all))];
    }
  }
  const double x = r.low + (r.high - r.low) * random.unit();
  if constexpr (std::is_same_v<T, bool>) return random.chance(0.5);
  if constexpr (std::is_same_v<T, std::uint8_t>) return static_cast<T>(std::fabs(std::floor(x)));
  if (r.data == Data::whole || !std::is_floating_point_v<T>) return static_cast<T>(std::floor(x));
  return static_cast<T>(x);
}

Tensor data_leaf(const Record& r) {
  Random random(r.seed);
  const std::int64_t count = r.type.shape.numel();
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * size_of(r.type.dtype));
  dispatch(r.type.dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < count; ++i) {
      const T x = element<T>(r, random);
      std::memcpy(bytes.data() + static_cast<std::size_t>(i) * sizeof x, &x, sizeof x);
    }
  });
  return tensor_from_bytes(bytes.data(), count, r.type.dtype, r.type.shape, {});
}

Tensor made_by_template(const Template& t, std::span<const Tensor> in) {
  if (t.call) return t.call(in);
  std::vector<Node*> nodes;
  for (const Tensor& x : in) nodes.push_back(x.node());
  return make_node(*t.op, nodes, {}, t.attributes.empty() ? nullptr : t.attributes.data());
}

// The attributes that an example gives its own operation.
void add_factory_template(const Op& op, const Example& e, std::vector<Template>& all) {
  std::vector<Tensor> xs;
  for (const Sample& s : e.inputs)
    xs.push_back(data_leaf({.type = {s.dtype, s.shape}, .low = s.low, .high = s.high}));
  for (const Tensor& node : test::nodes_behind(e.call(xs))) {
    const Node* const n = node.node();
    if (n->op != &op) continue;
    Template t{.op = &op, .call = nullptr, .inputs = {}, .attributes = {}};
    for (const Node* x : n->inputs()) t.inputs.push_back({shape_of(x->shape), -2, 2, x->dtype});
    if (op.attributes) {
      const auto* bytes = static_cast<const std::byte*>(n->attributes());
      t.attributes.assign(bytes, bytes + op.attributes->size);
    }
    all.push_back(std::move(t));
  }
}

std::vector<Template> find_templates() {
  std::vector<Template> all;
  for (const Op* op : all_ops()) {
    if (std::strchr(op->name, '.')) continue;  // of other libraries
    if (op == &structural::add_any || op == &structural::detach)
      all.push_back(
          {op, nullptr, std::vector<Sample>(static_cast<std::size_t>(op->arity), Sample{{2, 3}}), {}});
    if (!op->examples) continue;
    for (const Example& e : op->examples()) {
      all.push_back({op, e.call, e.inputs, {}});
      if (has(op->traits, Traits::pointwise)) add_factory_template(*op, e, all);
    }
  }
  return all;
}

const char* name_of(What what) {
  constexpr const char* names[] = {
      "leaf",      "parameter",   "alias",       "number",    "slot",    "example",
      "node",      "cast",        "reshape",     "broadcast", "permute", "flip",
      "slice",     "pad",         "concatenate", "sum",       "max",     "mean",
      "softmax",   "log_softmax", "matmul",      "gather",    "conv2d",  "depthwise_conv2d",
      "max_pool2d"};
  return names[static_cast<std::size_t>(what)];
}

const char* name_of(Data data) {
  constexpr const char* names[] = {"plain", "whole", "special", "bits"};
  return names[static_cast<std::size_t>(data)];
}

}  // namespace

std::uint64_t Random::next() {  // splitmix64
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

const std::vector<Template>& templates() {
  static const auto& all = *new std::vector<Template>(find_templates());
  return all;
}

Tensor make(const Record& r, std::span<const Tensor> earlier) {
  std::vector<Tensor> in;
  for (const std::uint32_t i : r.in) in.push_back(earlier[i]);
  switch (r.what) {
    case What::leaf:
    case What::parameter:
      return data_leaf(r);
    case What::alias: {
      const Value* v = in[0].node()->value;
      if (!v || in[0].dtype() != r.type.dtype || in[0].numel() != r.type.shape.numel()) return in[0];
      return leaf(v->buffer, r.type.dtype, r.type.shape, {});
    }
    case What::number:
      return full(r.type.shape, r.number, r.type.dtype);
    case What::slot:
      return slot_number(r.type.shape, r.number, r.type.dtype);
    case What::call:
    case What::node:
      return made_by_template(templates()[r.choice], in);
    case What::cast:
      return cast(in[0], r.type.dtype);
    case What::reshape:
      return reshape(in[0], r.type.shape);
    case What::broadcast:
      return broadcast_to(in[0], r.type.shape);
    case What::permute:
      return permute(in[0], r.a);
    case What::flip:
      return flip(in[0], r.a);
    case What::slice:
      return slice(in[0], r.a, r.b, r.c);
    case What::pad:
      return pad(in[0], r.a, r.b, r.c, r.number);
    case What::concatenate:
      return concatenate(in, r.a[0]);
    case What::sum:
      return sum(in[0], r.a, r.b.size() != 0);
    case What::max:
      return max(in[0], r.a, r.b.size() != 0);
    case What::mean:
      return mean(in[0], r.a, r.b.size() != 0);
    case What::softmax:
      return softmax(in[0], r.a[0]);
    case What::log_softmax:
      return log_softmax(in[0], r.a[0]);
    case What::matmul:
      return matmul(in[0], in[1]);
    case What::gather:
      return gather(in[0], in[1]);
    case What::pool:
      return max_pool2d(in[0], {2, 2}, {r.a[0], r.a[0]});
    case What::conv2d:
      return conv2d(in[0], in[1], {.padding = r.a[0] ? Padding::same : Padding::valid});
    case What::depthwise_conv2d:
      return depthwise_conv2d(in[0], in[1], {.padding = r.a[0] ? Padding::same : Padding::valid});
  }
  return {};
}

Built build(const Graph& g) {
  Built b;
  b.values.reserve(g.records.size());
  for (const Record& r : g.records) {
    Tensor t = make(r, b.values);
    if (r.what == What::parameter && g.step) {
      b.parameters.emplace_back(fmt::format("p{}", b.parameters.size()), t);
      t = b.parameters.back().value();
    } else if (r.what == What::parameter) {
      t = variable(t);
      b.variables.push_back(t);
    }
    b.values.push_back(std::move(t));
  }
  return b;
}

std::string to_text(const Graph& g) {
  std::string text = fmt::format("seed {}\n", g.seed);
  std::vector<Tensor> values;
  for (std::uint32_t i = 0; i < g.records.size(); ++i) {
    const Record& r = g.records[i];
    std::string inputs;
    for (const std::uint32_t in : r.in) inputs += fmt::format("{}%{}", inputs.empty() ? "" : ", ", in);
    text += fmt::format("%{} = {}", i, name_of(r.what));
    if (r.what == What::call || r.what == What::node)
      text += fmt::format(" {} {}", r.choice, templates()[r.choice].op->name);
    text += fmt::format("({})", inputs);
    if (r.a.size()) text += fmt::format(" {}", r.a);
    const bool fold = r.what == What::sum || r.what == What::max || r.what == What::mean;
    if (r.b.size()) text += fold ? " keepdims" : fmt::format(" {}", r.b);
    if (r.c.size()) text += fmt::format(" {}", r.c);
    if (r.what == What::number || r.what == What::slot) text += fmt::format(" {}", r.number);
    if (r.what == What::leaf || r.what == What::parameter)
      text += fmt::format(" {} [{}, {}) seed {}", name_of(r.data), r.low, r.high, r.seed);
    try {
      values.push_back(make(r, values));
      text += fmt::format("  {}\n", to_string(Type{values.back().dtype(), values.back().shape()}));
    } catch (const UserError& e) {
      return text + "  refused: " + e.what() + "\n";
    }
  }
  text += fmt::format("outputs {}", g.outputs);
  if (g.gradients) text += ", and their gradients";
  if (g.step) text += fmt::format(", a step of {}, held {}", g.adam ? "Adam" : "gradient descent", g.held);
  return text + "\n";
}

}  // namespace opgrad::fuzz
