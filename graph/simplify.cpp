// Local algebra: each record's simplify rule, driven to a fixed point from the inputs to the outputs.
//
// Rules read and write tensors, so the program is mirrored as nodes without values. A rule sees inputs that
// are simple already; what it returns is asked again.
#include <fmt/format.h>

#include <bit>
#include <unordered_map>

#include "passes.h"

namespace opgrad {
namespace {

// Two rules that undo each other would go on for ever.
constexpr int most_rewrites = 64;

Tensor mirror_of_leaf(const Program& p, const Item& item) {
  const Shape& shape = shape_of(item.shape);
  if (item.kind != ItemKind::number) return leaf({}, item.dtype, shape, {});
  const Number& n = p.numbers[item.place];
  return n.captured == no_index ? full(shape, n.value, item.dtype) : slot_number(shape, n.value, item.dtype);
}

bool same_number(const Program& p, const Item& a, const Item& b) {
  const Number &x = p.numbers[a.place], &y = p.numbers[b.place];
  return a.dtype == b.dtype && a.shape == b.shape && x.captured == no_index && y.captured == no_index &&
         std::bit_cast<std::uint64_t>(x.value) == std::bit_cast<std::uint64_t>(y.value);
}

Tensor simplest(Tensor x) {
  for (int i = 0; i < most_rewrites; ++i) {
    const Op& op = *x.node()->op;
    if (!op.simplify) return x;
    Tensor y = op.simplify(x);
    if (y.node() == x.node()) return x;
    if (!y || y.node()->dtype != x.node()->dtype || y.node()->shape != x.node()->shape)
      throw InternalError(fmt::format("the simplify rule of {} gave {} for {}", op.name,
                                      y ? to_string(Type{y.dtype(), y.shape()}) : "an empty Tensor",
                                      to_string(Type{x.dtype(), x.shape()})));
    x = std::move(y);
  }
  throw InternalError(fmt::format("the simplify rules around {} do not come to an end", x.node()->op->name));
}

// Adds what a rule has made, inputs first, without recursion; `known` maps nodes to new items.
std::uint32_t add(Rewrite& r, std::unordered_map<const Node*, std::uint32_t>& known, Node* root,
                  std::uint32_t for_node) {
  std::vector<Node*> stack{root};
  while (!stack.empty()) {
    Node* const n = stack.back();
    if (known.contains(n)) {
      stack.pop_back();
      continue;
    }
    const std::size_t size = stack.size();
    std::vector<std::uint32_t> inputs;
    for (Node* input : n->inputs()) {
      if (const auto found = known.find(input); found != known.end())
        inputs.push_back(found->second);
      else
        stack.push_back(input);
    }
    if (stack.size() != size) continue;
    stack.pop_back();
    if (n->op == &structural::number) {
      known[n] = r.number(n->u.number, n->dtype, n->shape, for_node);
      continue;
    }
    if (n->value) throw InternalError("a simplify rule brought a value of its own");
    const void* attributes = n->op->attributes ? r.own(*n->op->attributes, n->attributes()) : nullptr;
    known[n] = r.op(*n->op, attributes, inputs, n->dtype, n->shape, for_node);
  }
  return known.at(root);
}

}  // namespace

void simplify(Program& p) {
  std::vector<Tensor> mirror(p.items.size());
  std::vector<bool> simpler(p.items.size(), false);
  bool changed = false;
  std::vector<Node*> inputs;
  std::uint32_t last_number = no_index;  // chains repeat their number again and again: one node will do
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    if (item.kind == ItemKind::number && last_number != no_index &&
        same_number(p, item, p.items[last_number])) {
      mirror[i] = mirror[last_number];
      continue;
    }
    if (item.kind == ItemKind::number) last_number = i;
    if (item.kind != ItemKind::op) {
      mirror[i] = mirror_of_leaf(p, item);
      continue;
    }
    inputs.clear();
    for (const std::uint32_t input : p.inputs_of(item)) inputs.push_back(mirror[input].node());
    const Tensor own = make_node(*item.op, inputs, {}, item.attributes);
    mirror[i] = simplest(own);
    simpler[i] = mirror[i].node() != own.node();
    changed |= simpler[i];
  }
  if (!changed) return;
  Rewrite r(p);
  std::unordered_map<const Node*, std::uint32_t> known;
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    if (!simpler[i])
      known[mirror[i].node()] = r.keep(i);
    else
      r.replace(i, add(r, known, mirror[i].node(), p.items[i].node));
  }
  p = r.finish();
}

}  // namespace opgrad
