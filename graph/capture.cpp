// Capture: numbering the nodes, replacing leaves by slots, writing the key.
//
// A node is written as one word {kind, dtype, arity, attribute words, shape}, then, for an op, its record,
// its inputs two a word and its attributes; for a slot, the first slot over the same memory, since a plan
// that knows of an alias differs from one that does not; for a number, whether it is a slot.
#include "capture.h"

#include <algorithm>
#include <bit>

#include "key.h"
#include "order.h"

namespace opgrad {
namespace {

using KeyMemory = Reused<std::uint64_t, Capture>;
using NumberMemory = Reused<double, Capture>;
using FlagMemory = Reused<std::uint8_t, Capture>;

std::uint64_t mix(std::uint64_t h, std::uint64_t w) {
  h ^= w;
  h *= 0x9fb21c651e98df25u;
  return h ^ (h >> 32);
}
// The words of one node; the first three by themselves, so that nodes wait for one another once and not
// thrice.
std::uint64_t mix_node(std::uint64_t h, const std::uint64_t* begin, const std::uint64_t* end) {
  std::uint64_t first = begin[0] ^ std::rotl(begin[1] * 0xc2b2ae3d27d4eb4fu, 29);
  const std::uint64_t* w = begin + 2;
  if (w < end) first ^= std::rotl(*w++ * 0x9e3779b97f4a7c15u, 47);
  h = mix(h, first);
  for (; w < end; ++w) h = mix(h, *w);
  return h;
}

ItemKind kind_of(const Node* n) {
  if (n->value) return ItemKind::slot;
  return n->op == &structural::number ? ItemKind::number : ItemKind::op;
}

// The first slot over each block of memory: a table with linear probing, at most half full.
class FirstSlots {
 public:
  std::uint32_t find_or_add(const Buffer* buffer, std::uint32_t slot) {
    if (2 * (count_ + 1) > table_.size()) grow();
    Entry& e = place(buffer);
    if (!e.used) {
      e = {buffer, slot, true};
      ++count_;
    }
    return e.slot;
  }

 private:
  struct Entry {
    const Buffer* buffer = nullptr;
    std::uint32_t slot = 0;
    bool used = false;
  };
  Entry& place(const Buffer* buffer) {
    std::size_t i = mix(0, reinterpret_cast<std::uintptr_t>(buffer)) & (table_.size() - 1);
    while (table_[i].used && table_[i].buffer != buffer) i = (i + 1) & (table_.size() - 1);
    return table_[i];
  }
  void grow() {
    std::vector<Entry> old(table_.empty() ? 8 : 2 * table_.size());
    old.swap(table_);
    for (const Entry& e : old)
      if (e.used) place(e.buffer) = e;
  }
  std::vector<Entry> table_;
  std::size_t count_ = 0;
};

// Writes one node, whose inputs have their numbers.
void write(Capture& c, FirstSlots& first_slots, Node* n) {
  Words& key = c.key;
  const std::size_t head = key.size();
  switch (const ItemKind kind = kind_of(n)) {
    case ItemKind::slot: {
      key.push_back(key::head(kind, n->dtype, 0, n->shape));
      const auto slot = static_cast<std::uint32_t>(c.leaves.size());
      key.push_back(first_slots.find_or_add(n->value->buffer.get(), slot));
      c.leaves.push_back(n);
      break;
    }
    case ItemKind::number:
      key.push_back(key::head(kind, n->dtype, n->arity, n->shape));
      c.numbers.push_back(n->u.number);
      c.number_is_slot.push_back(n->has(node_flag::slot));
      key.push_back(c.number_is_slot.back());
      break;
    default: {
      if (n->op == &structural::leaf)
        throw UserError("a tensor was read whose memory a step has since given to the updated parameter");
      key.push_back(key::head(kind, n->dtype, n->arity, n->shape));
      key.push_back(reinterpret_cast<std::uintptr_t>(n->op));
      const auto inputs = n->inputs();
      for (std::size_t k = 0; k < inputs.size(); k += 2) {
        const std::uint64_t second = k + 1 < inputs.size() ? Numbering::of(inputs[k + 1]) : 0;
        key.push_back(Numbering::of(inputs[k]) | second << 32);
      }
      if (n->op->attributes) {
        const std::size_t before = key.size();
        n->op->attributes->words(n->attributes(), key);
        key[head] |= key::attribute_words(key.size() - before);
      }
    }
  }
  c.hash = mix_node(c.hash, key.data() + head, key.data() + key.size());
}

}  // namespace

Capture::Capture()
    : numbers(NumberMemory::take()), number_is_slot(FlagMemory::take()), key(KeyMemory::take()) {}
Capture::~Capture() {
  Numbering::give_back(nodes);
  NumberMemory::give_back(numbers);
  FlagMemory::give_back(number_is_slot);
  KeyMemory::give_back(key);
}

Capture capture(std::span<const Wish> wishes, bool with_held, std::uint64_t& missed, std::size_t most) {
  std::vector<Node*> roots;
  bool donors = false;
  for (const Wish& w : wishes) {
    roots.push_back(w.node);
    donors = donors || w.donor;
  }
  Numbering numbering(roots, false);
  const std::vector<Node*>& nodes = numbering.nodes();
  Capture c;
  if (nodes.size() > most) return c;
  if (c.key.capacity() < 2 * nodes.size()) {
    std::size_t words = wishes.size() + nodes.size() / 8 + 64;  // a guess at what attributes take
    for (const Node* n : nodes) words += kind_of(n) == ItemKind::op ? 2 + (n->arity + 1u) / 2 : 2;
    c.key.reserve(words);
  }
  FirstSlots first_slots;
  for (Node* n : nodes) write(c, first_slots, n);

  // How often the captured graph itself refers to a node; what exceeds it is held from outside.
  std::vector<std::uint32_t> uses;
  if (with_held || donors) {
    uses.resize(nodes.size(), 0);
    for (const Node* n : nodes)
      if (kind_of(n) == ItemKind::op)
        for (const Node* input : n->inputs()) ++uses[Numbering::of(input)];
  }
  for (const Wish& w : wishes) {
    Output out{Numbering::of(w.node)};
    if (w.donor && Numbering::met(w.donor)) {
      // One reference is the parameter's own.
      const bool alone =
          w.donor->refs.load() == 1 + uses[Numbering::of(w.donor)] && w.donor->value->buffer.unique();
      if (alone && kind_of(w.node) == ItemKind::op && w.donor->shape == w.node->shape &&
          w.donor->dtype == w.node->dtype)
        out.donor = static_cast<std::uint32_t>(
            std::ranges::lower_bound(c.leaves, w.donor->index, {}, &Node::index) - c.leaves.begin());
      else
        ++missed;
    }
    c.outputs.push_back(out);
  }
  if (with_held) {
    constexpr std::uint32_t is_output = ~std::uint32_t{0};
    for (const Output& o : c.outputs) uses[o.item] = is_output;
    for (std::uint32_t i = 0; i < nodes.size(); ++i)
      if (kind_of(nodes[i]) == ItemKind::op && nodes[i]->refs.load() > uses[i]) c.outputs.push_back({i});
  }
  for (const Output& o : c.outputs) {
    // What has a value may be read and held by several threads.
    nodes[o.item]->refs.share();
    c.key.push_back(o.item | std::uint64_t{o.donor} << 32);
    c.hash = mix(c.hash, c.key.back());
  }
  c.nodes = numbering.finish();
  return c;
}

Program program_of(const Capture& c, const std::vector<bool>& fixed) {
  Program p;
  p.items.reserve(c.nodes.size());
  p.inputs.reserve(c.nodes.size());
  p.numbers.reserve(c.numbers.size());
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
