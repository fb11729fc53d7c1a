// Capture: numbering the nodes, replacing leaves by slots, writing the key.
#include <algorithm>
#include <unordered_map>

#include "order.h"
#include "program.h"

namespace opgrad {
namespace {

std::uint64_t mix(std::uint64_t h, std::uint64_t w) {
  h ^= w;
  h *= 0x9fb21c651e98df25u;
  return h ^ (h >> 32);
}

void append_inputs(Words& key, std::span<const std::uint32_t> inputs) {
  for (std::size_t k = 0; k < inputs.size(); k += 2)
    key.push_back(inputs[k] | std::uint64_t{k + 1 < inputs.size() ? inputs[k + 1] : 0u} << 32);
}

}  // namespace

Users::Users(const Program& p) : first(p.items.size() + 1, 0), users(p.inputs.size()) {
  for (const std::uint32_t i : p.inputs) ++first[i + 1];
  for (std::size_t i = 0; i < p.items.size(); ++i) first[i + 1] += first[i];
  std::vector<std::uint32_t> next(first.begin(), first.end() - 1);
  for (std::uint32_t i = 0; i < p.items.size(); ++i)
    for (const std::uint32_t input : p.inputs_of(p.items[i])) users[next[input]++] = i;
}

Capture capture(std::span<const Wish> wishes, bool with_held, std::uint64_t& missed) {
  std::vector<Node*> roots;
  for (const Wish& w : wishes) roots.push_back(w.node);
  const Numbering numbering(roots, false);

  Capture c;
  Program& p = c.program;
  c.nodes = numbering.nodes();
  const std::size_t count = c.nodes.size();
  p.items.reserve(count);
  c.key.reserve(3 * count);
  std::unordered_map<const Buffer*, std::uint32_t> first_with_buffer;

  for (Node* n : c.nodes) {
    Item item{.kind = ItemKind::op, .dtype = n->dtype, .shape = n->shape};
    if (n->value) {
      item.kind = ItemKind::slot;
      item.place = p.slots++;
      c.leaves.push_back(n);
    } else if (n->op == &structural::number) {
      item.kind = ItemKind::number;
      item.place = p.numbers++;
      c.numbers.push_back(n->u.number);
      c.number_is_slot.push_back(n->has(node_flag::slot));
    } else {
      if (n->op == &structural::leaf)
        throw UserError("a tensor was read whose memory a step has since given to the updated parameter");
      item.op = n->op;
      item.attributes = n->attributes();
      item.first = static_cast<std::uint32_t>(p.inputs.size());
      item.count = n->arity;
      for (const Node* input : n->inputs()) p.inputs.push_back(Numbering::of(input));
    }
    c.key.push_back(static_cast<std::uint64_t>(item.kind) | std::uint64_t(item.dtype) << 4 |
                    std::uint64_t{item.count} << 8 | std::uint64_t{item.shape} << 32);
    switch (item.kind) {
      case ItemKind::slot:
        // Two leaves over one block of memory are an alias, and a plan that knows it differs from one that
        // does not.
        c.key.push_back(first_with_buffer.emplace(n->value->buffer.get(), item.place).first->second);
        break;
      case ItemKind::number:
        c.key.push_back(c.number_is_slot.back());
        break;
      case ItemKind::op:
        c.key.push_back(reinterpret_cast<std::uintptr_t>(item.op));
        append_inputs(c.key, p.inputs_of(item));
        if (item.op->attributes) item.op->attributes->words(item.attributes, c.key);
    }
    p.items.push_back(item);
  }

  // How often the captured graph itself refers to a node; what exceeds it is held from outside.
  std::vector<std::uint32_t> uses(count, 0);
  for (const std::uint32_t i : p.inputs) ++uses[i];
  const auto refs = [](const Node* n) { return n->refs.load(std::memory_order_acquire); };

  std::vector<bool> is_output(count, false);
  for (const Wish& w : wishes) {
    Output out{Numbering::of(w.node)};
    is_output[out.item] = true;
    if (w.donor && Numbering::met(w.donor)) {
      const Item& leaf = p.items[Numbering::of(w.donor)];
      const Item& item = p.items[out.item];
      // One reference is the parameter's own.
      const bool alone = refs(w.donor) == 1 + uses[Numbering::of(w.donor)] && w.donor->value->buffer.unique();
      if (alone && item.kind == ItemKind::op && leaf.shape == item.shape && leaf.dtype == item.dtype)
        out.donor = leaf.place;
      else
        ++missed;
    }
    p.outputs.push_back(out);
  }
  if (with_held)
    for (std::uint32_t i = 0; i < count; ++i)
      if (p.items[i].kind == ItemKind::op && !is_output[i] && refs(c.nodes[i]) > uses[i])
        p.outputs.push_back({i});

  for (const Output& o : p.outputs) c.key.push_back(o.item | std::uint64_t{o.donor} << 32);
  c.hash = c.key.size();
  for (const std::uint64_t w : c.key) c.hash = mix(c.hash, w);
  return c;
}

}  // namespace opgrad
