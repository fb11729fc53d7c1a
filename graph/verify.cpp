// What holds of every program, between any two passes.
#include <fmt/format.h>

#include <algorithm>

#include "passes.h"

namespace opgrad {
namespace {

[[noreturn]] void fail(const Program& p, std::string_view after, std::uint32_t at, const std::string& what) {
  const std::uint32_t first = at > 4 ? at - 4 : 0;
  throw InternalError(
      fmt::format("after the pass \"{}\": %{} {}\n{}", after, at, what,
                  to_text(p, first, std::min(at + 4, static_cast<std::uint32_t>(p.items.size())))));
}

// The result type by the record's own rule.
void check_type(const Program& p, std::string_view after, std::uint32_t i) {
  const Item& item = p.items[i];
  Result result(item.dtype, item.shape);
  try {
    result = item.op->shape(ItemCall(p, item).call());
  } catch (const UserError& e) {
    fail(p, after, i, fmt::format("is refused by its shape rule: {}", e.what()));
  }
  if (result.dtype != item.dtype || result.shape != item.shape)
    fail(
        p, after, i,
        fmt::format("should be {} by its shape rule", to_string(Type{result.dtype, shape_of(result.shape)})));
}

void check_order(const Program& p, std::string_view after) {
  std::vector<std::uint32_t> place(p.items.size(), no_index);
  for (std::uint32_t k = 0; k < p.order.size(); ++k) {
    const std::uint32_t i = p.order[k];
    if (i >= p.items.size() || p.items[i].kind != ItemKind::op)
      fail(p, after, std::min<std::uint32_t>(i, static_cast<std::uint32_t>(p.items.size()) - 1),
           "stands in the order of steps and is none");
    if (place[i] != no_index) fail(p, after, i, "stands twice in the order of steps");
    place[i] = k;
    for (const std::uint32_t input : p.inputs_of(p.items[i]))
      if (p.items[input].kind == ItemKind::op && place[input] == no_index)
        fail(p, after, i, fmt::format("runs before %{}, which it reads", input));
    if (k >= p.tail && !has(p.items[i].op->traits, Traits::nothrow))
      fail(p, after, i, "may throw and stands in the tail");
  }
  for (const Output& o : p.outputs)
    if (p.items[o.item].kind == ItemKind::op && place[o.item] == no_index)
      fail(p, after, o.item, "is an output and never runs");
}

}  // namespace

void verify(const Program& p, std::string_view after) {
  const auto count = static_cast<std::uint32_t>(p.items.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    const Item& item = p.items[i];
    const std::size_t places = item.kind == ItemKind::slot     ? p.slots
                               : item.kind == ItemKind::number ? p.numbers.size()
                                                               : p.constants.size();
    if (item.kind != ItemKind::op) {
      if (item.place >= places) fail(p, after, i, "names a slot, number or constant that does not exist");
      continue;
    }
    if (std::size_t{item.first} + item.count > p.inputs.size()) fail(p, after, i, "has inputs out of range");
    if (item.op->arity >= 0 && item.count != static_cast<std::uint32_t>(item.op->arity))
      fail(p, after, i, fmt::format("has {} inputs of {}", item.count, item.op->arity));
    for (const std::uint32_t input : p.inputs_of(item))
      if (input >= i) fail(p, after, i, fmt::format("reads %{}, which does not stand before it", input));
    check_type(p, after, i);
  }
  for (const Output& o : p.outputs)
    if (o.item >= count)
      throw InternalError(
          fmt::format("after the pass \"{}\": an output names %{} of {}", after, o.item, count));
  if (!p.order.empty()) check_order(p, after);
}

}  // namespace opgrad
