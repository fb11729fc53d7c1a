// Programs: users, reachability, and the copy that passes rewrite with.
#include "program.h"

#include <cstring>
#include <iterator>
#include <utility>

namespace opgrad {

const void* Program::own(const AttributeInfo& info, const void* attributes) {
  std::shared_ptr<void> block(::operator new(info.size), [](void* b) { ::operator delete(b); });
  std::memcpy(block.get(), attributes, info.size);
  owned.push_back(block);
  return block.get();
}

Users::Users(const Program& p) : first(p.items.size() + 1, 0), users(p.inputs.size()) {
  for (const Item& item : p.items)
    for (const std::uint32_t i : p.inputs_of(item)) ++first[i + 1];
  for (std::size_t i = 0; i < p.items.size(); ++i) first[i + 1] += first[i];
  std::vector<std::uint32_t> next(first.begin(), first.end() - 1);
  for (std::uint32_t i = 0; i < p.items.size(); ++i)
    for (const std::uint32_t input : p.inputs_of(p.items[i])) users[next[input]++] = i;
}

ItemCall::ItemCall(const Program& p, const Item& item) : item_(item), nodes_(item.count) {
  for (std::uint32_t k = 0; k < item.count; ++k) {
    const Item& in = p.items[p.inputs_of(item)[k]];
    nodes_[k].dtype = in.dtype;
    nodes_[k].shape = in.shape;
    inputs_.push_back(&nodes_[k]);
  }
}

std::vector<bool> reached(const Program& p) {
  std::vector<bool> live(p.items.size(), false);
  for (const Output& o : p.outputs) live[o.item] = true;
  for (std::size_t i = p.items.size(); i-- > 0;)
    if (live[i])
      for (const std::uint32_t input : p.inputs_of(p.items[i])) live[input] = true;
  return live;
}

void keep_representatives(Program& p, std::vector<std::uint32_t> stands_for) {
  std::vector<std::uint32_t> inputs;
  std::vector<Number> numbers;
  std::size_t numbers_kept = 0;
  for (std::size_t i = 0; i < p.items.size(); ++i)
    numbers_kept += p.items[i].kind == ItemKind::number && stands_for[i] == i;
  numbers.reserve(numbers_kept);
  std::vector<BufferRef> constants;
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    std::uint32_t& now = stands_for[i];
    if (now == no_index) continue;
    if (now != i) {
      now = stands_for[now];
      continue;
    }
    Item item = p.items[i];
    const auto before = p.inputs_of(item);
    if (item.kind == ItemKind::op) {
      item.first = static_cast<std::uint32_t>(inputs.size());
      for (const std::uint32_t input : before) inputs.push_back(stands_for[input]);
    } else if (item.kind == ItemKind::number) {
      numbers.push_back(p.numbers[std::exchange(item.place, static_cast<std::uint32_t>(numbers.size()))]);
    } else if (item.kind == ItemKind::constant) {
      constants.push_back(
          p.constants[std::exchange(item.place, static_cast<std::uint32_t>(constants.size()))]);
    }
    p.items[kept] = item;
    now = kept++;
  }
  for (Output& o : p.outputs) o.item = stands_for[o.item];
  p.items.resize(kept);
  p.inputs = std::move(inputs);
  p.numbers = std::move(numbers);
  p.constants = std::move(constants);
  p.order.clear();
}

Rewrite::Rewrite(Program& from) : from_(from), map_(from.items.size(), no_index) {
  to_.items.reserve(from.items.size());
  to_.inputs.reserve(from.inputs.size());
  to_.slots = from.slots;
  to_.numbers = from.numbers;
  to_.constants = from.constants;
}

std::uint32_t Rewrite::keep(std::uint32_t old) {
  Item item = from_.items[old];
  item.first = static_cast<std::uint32_t>(to_.inputs.size());
  for (const std::uint32_t input : from_.inputs_of(from_.items[old])) to_.inputs.push_back(map_[input]);
  to_.items.push_back(item);
  return map_[old] = static_cast<std::uint32_t>(to_.items.size() - 1);
}

std::uint32_t Rewrite::number(double value, DType dtype, ShapeId shape, std::uint32_t node) {
  to_.numbers.push_back({value, no_index});
  to_.items.push_back({.kind = ItemKind::number,
                       .dtype = dtype,
                       .shape = shape,
                       .place = static_cast<std::uint32_t>(to_.numbers.size() - 1),
                       .node = node});
  return static_cast<std::uint32_t>(to_.items.size() - 1);
}

std::uint32_t Rewrite::op(const Op& op, const void* attributes, std::span<const std::uint32_t> inputs,
                          DType dtype, ShapeId shape, std::uint32_t node) {
  to_.items.push_back({.kind = ItemKind::op,
                       .dtype = dtype,
                       .shape = shape,
                       .op = &op,
                       .attributes = attributes,
                       .first = static_cast<std::uint32_t>(to_.inputs.size()),
                       .count = static_cast<std::uint32_t>(inputs.size()),
                       .node = node});
  to_.inputs.insert(to_.inputs.end(), inputs.begin(), inputs.end());
  return static_cast<std::uint32_t>(to_.items.size() - 1);
}

Program Rewrite::finish() {
  for (const Output& o : from_.outputs) to_.outputs.push_back({map_[o.item], o.donor});
  to_.owned.insert(to_.owned.end(), std::make_move_iterator(from_.owned.begin()),
                   std::make_move_iterator(from_.owned.end()));
  return std::move(to_);
}

}  // namespace opgrad
