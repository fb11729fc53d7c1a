// Capture: numbering the nodes, replacing leaves by slots, writing the key.
//
// A node is written as one word {kind, dtype, arity, attribute words, shape}, then, for an op, its record,
// its inputs two a word and its attributes; for a slot, the first slot over the same memory, since a plan
// that knows of an alias differs from one that does not; for a number, whether it is a slot.
#include "capture.h"

#include <cstring>
#include <unordered_map>

#include "key.h"
#include "order.h"

namespace opgrad {
namespace {

std::uint64_t mix(std::uint64_t h, std::uint64_t w) {
  h ^= w;
  h *= 0x9fb21c651e98df25u;
  return h ^ (h >> 32);
}

ItemKind kind_of(const Node* n) {
  if (n->value) return ItemKind::slot;
  return n->op == &structural::number ? ItemKind::number : ItemKind::op;
}

}  // namespace

Capture capture(std::span<const Wish> wishes, bool with_held, std::uint64_t& missed) {
  std::vector<Node*> roots;
  for (const Wish& w : wishes) roots.push_back(w.node);
  const Numbering numbering(roots, false);

  Capture c;
  c.nodes = numbering.nodes();
  const std::size_t count = c.nodes.size();
  c.key.reserve(3 * count);
  std::unordered_map<const Buffer*, std::uint64_t> first_with_buffer;
  // How often the captured graph itself refers to a node; what exceeds it is held from outside.
  std::vector<std::uint32_t> uses(count, 0);
  std::vector<std::uint32_t> slot_of(count, no_index);

  for (std::uint32_t i = 0; i < count; ++i) {
    Node* const n = c.nodes[i];
    const std::size_t head = c.key.size();
    c.key.push_back(key::head(kind_of(n), n->dtype, n->value ? 0 : n->arity, n->shape));
    switch (kind_of(n)) {
      case ItemKind::slot:
        slot_of[i] = static_cast<std::uint32_t>(c.leaves.size());
        c.key.push_back(first_with_buffer.emplace(n->value->buffer.get(), c.leaves.size()).first->second);
        c.leaves.push_back(n);
        break;
      case ItemKind::number:
        c.numbers.push_back(n->u.number);
        c.number_is_slot.push_back(n->has(node_flag::slot));
        c.key.push_back(c.number_is_slot.back());
        break;
      default: {
        if (n->op == &structural::leaf)
          throw UserError("a tensor was read whose memory a step has since given to the updated parameter");
        c.key.push_back(reinterpret_cast<std::uintptr_t>(n->op));
        const auto inputs = n->inputs();
        for (std::size_t k = 0; k < inputs.size(); ++k) {
          const std::uint32_t input = Numbering::of(inputs[k]);
          ++uses[input];
          if (k % 2 == 0)
            c.key.push_back(input);
          else
            c.key.back() |= std::uint64_t{input} << 32;
        }
        if (n->op->attributes) {
          const std::size_t before = c.key.size();
          n->op->attributes->words(n->attributes(), c.key);
          c.key[head] |= key::attribute_words(c.key.size() - before);
        }
      }
    }
  }

  const auto refs = [](const Node* n) { return n->refs.load(std::memory_order_acquire); };
  std::vector<bool> is_output(count, false);
  for (const Wish& w : wishes) {
    Output out{Numbering::of(w.node)};
    is_output[out.item] = true;
    if (w.donor && Numbering::met(w.donor)) {
      const std::uint32_t donor = Numbering::of(w.donor);
      // One reference is the parameter's own.
      const bool alone = refs(w.donor) == 1 + uses[donor] && w.donor->value->buffer.unique();
      if (alone && kind_of(w.node) == ItemKind::op && w.donor->shape == w.node->shape &&
          w.donor->dtype == w.node->dtype)
        out.donor = slot_of[donor];
      else
        ++missed;
    }
    c.outputs.push_back(out);
  }
  if (with_held)
    for (std::uint32_t i = 0; i < count; ++i)
      if (kind_of(c.nodes[i]) == ItemKind::op && !is_output[i] && refs(c.nodes[i]) > uses[i])
        c.outputs.push_back({i});

  for (const Output& o : c.outputs) c.key.push_back(o.item | std::uint64_t{o.donor} << 32);
  c.hash = c.key.size();
  for (const std::uint64_t w : c.key) c.hash = mix(c.hash, w);
  return c;
}

Program program_of(const Capture& c, const std::vector<bool>& fixed) {
  Program p;
  p.items.reserve(c.nodes.size());
  const std::uint64_t* word = c.key.data();
  for (std::uint32_t i = 0; i < c.nodes.size(); ++i) {
    const Node* const n = c.nodes[i];
    const key::Reader r(word);
    Item item{.kind = r.kind(), .dtype = r.dtype(), .shape = r.shape(), .node = i};
    if (item.kind == ItemKind::slot) {
      item.place = p.slots++;
    } else if (item.kind == ItemKind::number) {
      item.place = static_cast<std::uint32_t>(p.numbers.size());
      p.numbers.push_back({c.numbers[item.place], fixed[item.place] ? no_index : item.place});
    } else {
      item.op = n->op;
      item.first = static_cast<std::uint32_t>(p.inputs.size());
      item.count = r.arity();
      for (std::uint32_t k = 0; k < r.arity(); ++k) p.inputs.push_back(r.input(k));
      if (const AttributeInfo* info = n->op->attributes) item.attributes = p.own(*info, n->attributes());
    }
    p.items.push_back(item);
    word = r.next();
  }
  p.outputs = c.outputs;
  return p;
}

}  // namespace opgrad
