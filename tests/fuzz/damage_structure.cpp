// Mistakes of structure: types, outputs, donors, order, tail, groups.
#include <algorithm>

#include "damage.h"

namespace opgrad::fuzz {
namespace {

using Id = std::uint32_t;

bool same_type(const Item& a, const Item& b) { return a.dtype == b.dtype && a.shape == b.shape; }

bool wrong_shape(Program& p) {
  for (Item& item : p.items)
    if (item.kind == ItemKind::op && shape_of(item.shape).rank() == 2) {
      const Shape& s = shape_of(item.shape);
      item.shape = intern({s[0], s[1] + 1});
      return true;
    }
  return false;
}

bool wrong_dtype(Program& p) {
  for (Item& item : p.items)
    if (item.kind == ItemKind::op && item.dtype == DType::f32) {
      item.dtype = DType::i32;
      return true;
    }
  return false;
}

bool wrong_arity(Program& p) {
  for (Item& item : p.items)
    if (item.kind == ItemKind::op && item.op->arity == 2) {
      --item.count;
      return true;
    }
  return false;
}

bool reads_itself(Program& p) {
  for (Id i = 0; i < p.items.size(); ++i)
    if (p.items[i].kind == ItemKind::op) {
      p.inputs[p.items[i].first] = i;
      return true;
    }
  return false;
}

bool no_such_slot(Program& p) {
  for (Item& item : p.items)
    if (item.kind == ItemKind::slot) {
      item.place = p.slots;
      return true;
    }
  return false;
}

bool slots_exchanged(Program& p) {
  for (Item& a : p.items)
    for (Item& b : p.items)
      if (a.kind == ItemKind::slot && b.kind == ItemKind::slot && a.place < b.place && same_type(a, b)) {
        std::swap(a.place, b.place);
        return true;
      }
  return false;
}

bool other_attributes(Program& p) {
  for (Item& a : p.items)
    for (const Item& b : p.items) {
      if (a.kind != ItemKind::op || b.op != a.op || !a.attributes || !same_type(a, b)) continue;
      Words x, y;
      a.op->attributes->words(a.attributes, x);
      a.op->attributes->words(b.attributes, y);
      if (x == y) continue;
      a.attributes = b.attributes;
      return true;
    }
  return false;
}

bool output_elsewhere(Program& p) {
  for (Output& o : p.outputs)
    for (Id i = 0; i < p.items.size(); ++i)
      if (i != o.item && p.items[i].kind == ItemKind::op && same_type(p.items[i], p.items[o.item])) {
        o.item = i;
        return true;
      }
  return false;
}

bool output_of_no_item(Program& p) {
  if (p.outputs.empty()) return false;
  p.outputs[0].item = static_cast<Id>(p.items.size());
  return true;
}

bool outputs_exchanged(Program& p) {
  for (std::size_t k = 1; k < p.outputs.size(); ++k)
    if (p.outputs[k].item != p.outputs[0].item &&
        same_type(p.items[p.outputs[k].item], p.items[p.outputs[0].item])) {
      std::swap(p.outputs[k].item, p.outputs[0].item);
      return true;
    }
  return false;
}

bool live_item_dropped(Program& p) {
  for (std::size_t k = p.order.size(); k-- > 0;)
    if (!has(p.items[p.order[k]].op->traits, Traits::movement)) {
      p.order.erase(p.order.begin() + static_cast<std::ptrdiff_t>(k));
      p.tail -= k < p.tail;
      return true;
    }
  return false;
}

bool donors_exchanged(Program& p) {
  for (Output& a : p.outputs)
    for (Output& b : p.outputs)
      if (a.donor != no_index && b.donor != no_index && a.donor < b.donor &&
          same_type(p.items[a.item], p.items[b.item])) {
        std::swap(a.donor, b.donor);
        return true;
      }
  return false;
}

bool donor_of_somebody(Program& p) {
  for (Output& o : p.outputs)
    for (const Item& item : p.items)
      if (o.donor == no_index && item.kind == ItemKind::slot && same_type(item, p.items[o.item])) {
        o.donor = item.place;
        // The output has to be of the tail to get it.
        const auto at = std::ranges::find(p.order, o.item);
        if (at == p.order.end()) continue;
        p.tail = std::min(p.tail, static_cast<Id>(at - p.order.begin()));
        return true;
      }
  return false;
}

bool user_before_input(Program& p) {
  for (std::size_t k = 1; k < p.order.size(); ++k)
    for (const Id in : p.inputs_of(p.items[p.order[k]]))
      if (in == p.order[k - 1]) {
        std::swap(p.order[k], p.order[k - 1]);
        return true;
      }
  return false;
}

bool runs_twice(Program& p) {
  if (p.order.empty()) return false;
  p.order.push_back(p.order.front());
  return true;
}

bool tail_too_early(Program& p) {
  if (p.tail >= p.order.size() || p.tail == 0) return false;
  p.tail = 0;
  return true;
}

bool fits_groups(const Item& item) {
  return item.kind == ItemKind::op && has(item.op->traits, Traits::pointwise) &&
         shape_of(item.shape).numel() > 0;
}

// Neighbours that `join` wants become one group, though they must not.
template <class F>
bool grouped(Program& p, F&& join) {
  bool any = false;
  for (std::size_t k = 1; k < p.order.size(); ++k) {
    Item &a = p.items[p.order[k - 1]], &b = p.items[p.order[k]];
    if (a.rows != no_index || b.rows != no_index || k == p.tail || !join(p, a, b)) continue;
    a.group = b.group = 1000 + static_cast<Id>(k);
    a.epilogue = b.epilogue = no_index;
    any = true;
    ++k;
  }
  return any;
}

bool group_of_unequal_sizes(Program& p) {
  return grouped(p, [](const Program&, const Item& a, const Item& b) {
    return fits_groups(a) && fits_groups(b) && shape_of(a.shape).numel() != shape_of(b.shape).numel();
  });
}

bool group_of_a_reduction(Program& p) {
  return grouped(p, [](const Program&, const Item& a, const Item& b) {
    return fits_groups(b) && has(a.op->traits, Traits::reduction);
  });
}

// A member that reads another one of its group through a permutation, a flip or a broadcast.
bool group_over_a_view(Program& p) {
  std::vector<Id> root(p.items.size());
  for (Id i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    const bool view = item.kind == ItemKind::op && has(item.op->traits, Traits::movement);
    root[i] = view ? root[p.inputs_of(item)[0]] : i;
  }
  bool any = false;
  for (std::size_t k = 0; k < p.order.size(); ++k) {
    Item& b = p.items[p.order[k]];
    if (!fits_groups(b) || b.rows != no_index) continue;
    for (const Id in : p.inputs_of(b)) {
      Item& a = p.items[root[in]];
      if (root[in] == in || !fits_groups(a) || a.rows != no_index ||
          shape_of(a.shape).numel() != shape_of(b.shape).numel())
        continue;
      // Only views stand between them.
      std::size_t before = k;
      while (before > 0 && has(p.items[p.order[before - 1]].op->traits, Traits::movement)) --before;
      if (before == 0 || p.order[before - 1] != root[in]) continue;
      if ((before - 1 < p.tail) != (k < p.tail)) continue;
      a.group = b.group = 2000 + static_cast<Id>(k);
      a.epilogue = b.epilogue = no_index;
      any = true;
      break;
    }
  }
  return any;
}

bool swapped_in_a_group(Program& p) {
  for (const Item& item : p.items) {
    if (item.kind != ItemKind::op || item.group == no_index || item.count != 2) continue;
    if (has(item.op->traits, Traits::commutative)) continue;
    Id *a = &p.inputs[item.first], *b = a + 1;
    if (*a == *b || !same_type(p.items[*a], p.items[*b])) continue;
    std::swap(*a, *b);
    return true;
  }
  return false;
}

}  // namespace

std::vector<Damage> damages_of_structure() {
  return {
      {"a wrong shape", wrong_shape},
      {"a wrong dtype", wrong_dtype},
      {"an input lost", wrong_arity},
      {"an item that reads itself", reads_itself},
      {"a slot that does not exist", no_such_slot},
      {"two inputs exchanged", slots_exchanged},
      {"the attributes of another item", other_attributes},
      {"an output that names another item", output_elsewhere},
      {"an output of no item", output_of_no_item},
      {"two outputs exchanged", outputs_exchanged},
      {"the donors of two outputs exchanged", donors_exchanged},
      {"a live item dropped", nullptr, live_item_dropped},
      {"a donor that was not given", nullptr, donor_of_somebody},
      {"a user before its input", nullptr, user_before_input},
      {"an item that runs twice", nullptr, runs_twice},
      {"a tail that begins too early", nullptr, tail_too_early},
      {"a group of unequal sizes", nullptr, group_of_unequal_sizes},
      {"a reduction in a group", nullptr, group_of_a_reduction},
      {"a group that reads a member through a view", nullptr, group_over_a_view},
      {"operands exchanged in a group", nullptr, swapped_in_a_group},
  };
}

}  // namespace opgrad::fuzz
