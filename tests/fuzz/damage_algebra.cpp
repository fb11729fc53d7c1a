// Mistakes of algebra: rewrites that are right for real numbers, or not even for those.
#include <cmath>
#include <limits>
#include <optional>

#include "../../graph/passes.h"
#include "../../graph/registry.h"
#include "damage.h"

namespace opgrad::fuzz {
namespace {

using Id = std::uint32_t;

bool is(const Item& item, std::string_view name) {
  return item.kind == ItemKind::op && item.op->name == name;
}
bool same_type(const Item& a, const Item& b) { return a.dtype == b.dtype && a.shape == b.shape; }
Id input(const Program& p, Id i, std::uint32_t k) { return p.inputs_of(p.items[i])[k]; }
const Item& input_item(const Program& p, Id i, std::uint32_t k) { return p.items[input(p, i, k)]; }
bool is_number(const Program& p, const Item& item, double value) {
  return item.kind == ItemKind::number && p.numbers[item.place].captured == no_index &&
         p.numbers[item.place].value == value;
}

// Where find(p, i) names another item, that item stands for item i.
template <class F>
bool replace(Program& p, F&& find) {
  Rewrite r(p);
  bool any = false;
  for (Id i = 0; i < r.from().items.size(); ++i) {
    const std::optional<Id> other =
        r.from().items[i].kind == ItemKind::op ? find(r.from(), i) : std::optional<Id>();
    if (other && *other < i && same_type(r.from().items[*other], r.from().items[i])) {
      r.replace(i, r.of(*other));
      any = true;
    } else {
      r.keep(i);
    }
  }
  p = r.finish();
  return any;
}

// Where value(p, i) has one, that number stands for item i.
template <class F>
bool replace_by_number(Program& p, F&& value) {
  Rewrite r(p);
  bool any = false;
  for (Id i = 0; i < r.from().items.size(); ++i) {
    const Item item = r.from().items[i];
    const std::optional<double> x = item.kind == ItemKind::op ? value(r.from(), i) : std::optional<double>();
    if (x)
      r.replace(i, r.number(*x, item.dtype, item.shape, item.node));
    else
      r.keep(i);
    any |= x.has_value();
  }
  p = r.finish();
  return any;
}

// Items called `from` become `to`, which takes the same inputs.
bool rename(Program& p, std::string_view from, std::string_view to) {
  bool any = false;
  for (Item& item : p.items)
    if (is(item, from)) {
      item.op = find_op(to);
      any = true;
    }
  return any;
}

bool drop_unary(Program& p, std::string_view name) {
  return replace(p, [&](const Program& q, Id i) {
    return is(q.items[i], name) ? std::optional(input(q, i, 0)) : std::nullopt;
  });
}

bool swap_inputs(Program& p) {
  bool any = false;
  for (const Item& item : p.items) {
    if (item.kind != ItemKind::op || item.count != 2 || has(item.op->traits, Traits::commutative)) continue;
    Id *a = &p.inputs[item.first], *b = a + 1;
    if (*a == *b || !same_type(p.items[*a], p.items[*b])) continue;
    std::swap(*a, *b);
    any = true;
  }
  return any;
}

// Two items of one operation that agree in all but what `may_differ` says become one.
bool merge(Program& p, bool other_inputs, std::string_view prefix = "") {
  return replace(p, [&](const Program& q, Id i) -> std::optional<Id> {
    const Item& item = q.items[i];
    if (!std::string_view(item.op->name).starts_with(prefix)) return {};
    for (Id j = 0; j < i; ++j) {
      const Item& other = q.items[j];
      if (other.kind != ItemKind::op || other.op != item.op || other.count != item.count) continue;
      bool inputs = true;
      for (std::uint32_t k = 0; k < item.count; ++k) inputs &= input(q, i, k) == input(q, j, k);
      Words a, b;
      if (item.attributes) item.op->attributes->words(item.attributes, a);
      if (item.attributes) item.op->attributes->words(other.attributes, b);
      if (other_inputs ? !inputs && a == b : inputs && a != b) return j;
    }
    return {};
  });
}

bool off_by_one_ulp(Program& p) {
  bool any = false;
  for (const Item& item : p.items)
    if (item.kind == ItemKind::number && is_float(item.dtype) && p.numbers[item.place].captured == no_index) {
      double& x = p.numbers[item.place].value;
      x = item.dtype == DType::f32 ? static_cast<double>(std::nextafter(static_cast<float>(x), 1e30f))
                                   : std::nextafter(x, 1e30);
      any = true;
    }
  return any;
}

bool freeze_numbers(Program& p) {
  bool any = false;
  for (Number& n : p.numbers)
    if (n.captured != no_index) {
      n.captured = no_index;
      any = true;
    }
  return any;
}

bool other_captured_number(Program& p) {
  for (Number& n : p.numbers)
    for (const Number& m : p.numbers)
      if (n.captured != no_index && m.captured != no_index && n.captured != m.captured) {
        n.captured = m.captured;
        return true;
      }
  return false;
}

// (a + b) + c as a + (b + c).
bool reassociate(Program& p) {
  for (Id i = 0; i < p.items.size(); ++i) {
    if (!is(p.items[i], "add") || !is(input_item(p, i, 0), "add") || !is_float(p.items[i].dtype)) continue;
    Rewrite r(p);
    for (Id j = 0; j < r.from().items.size(); ++j) {
      if (j != i) {
        r.keep(j);
        continue;
      }
      const Item item = r.from().items[i];
      const Id sum = input(r.from(), i, 0);
      const Id right[] = {r.of(input(r.from(), sum, 1)), r.of(input(r.from(), i, 1))};
      const Id both[] = {r.of(input(r.from(), sum, 0)),
                         r.op(*item.op, nullptr, right, item.dtype, item.shape, item.node)};
      r.replace(i, r.op(*item.op, nullptr, both, item.dtype, item.shape, item.node));
    }
    p = r.finish();
    return true;
  }
  return false;
}

// x / c as x * (1 / c).
bool reciprocal(Program& p) {
  bool any = false;
  for (Item& item : p.items) {
    if (!is(item, "divide")) continue;
    const Item& c = p.items[p.inputs[item.first + 1]];
    if (c.kind != ItemKind::number || p.numbers[c.place].captured != no_index) continue;
    Number& n = p.numbers[c.place];
    n.value = c.dtype == DType::f32 ? static_cast<double>(1 / static_cast<float>(n.value)) : 1 / n.value;
    item.op = find_op("multiply");
    any = true;
  }
  return any;
}

bool forget_sign_of_zero(Program& p) {
  bool any = false;
  for (Number& n : p.numbers)
    if (n.captured == no_index && n.value == 0 && std::signbit(n.value)) {
      n.value = 0;
      any = true;
    }
  return any;
}

// x of an operation on x and 0.
std::optional<Id> without_zero(const Program& p, Id i, std::string_view name) {
  if (!is(p.items[i], name) || !is_number(p, input_item(p, i, 1), 0)) return {};
  return input(p, i, 0);
}

// An operation on one value twice, as a number.
std::optional<double> twice(const Program& p, Id i, std::string_view name, double value) {
  if (!is(p.items[i], name) || input(p, i, 0) != input(p, i, 1)) return {};
  return value;
}

}  // namespace

std::vector<Damage> damages_of_algebra() {
  return {
      {"inputs of an operation that does not commute exchanged", swap_inputs},
      {"merged in spite of other attributes", [](Program& p) { return merge(p, false); }},
      {"merged in spite of other inputs", [](Program& p) { return merge(p, true); }},
      {"merged random draws of different keys", [](Program& p) { return merge(p, true, "random_"); }},
      {"a number off by one ulp", off_by_one_ulp},
      {"-0.0 taken for 0.0", forget_sign_of_zero},
      {"a captured number frozen at the value it had", freeze_numbers},
      {"a captured number taken for another one", other_captured_number},
      {"x + 0 as x",
       [](Program& p) {
         return replace(p, [](const Program& q, Id i) { return without_zero(q, i, "add"); });
       }},
      {"x * 0 as 0",
       [](Program& p) {
         return replace_by_number(p, [](const Program& q, Id i) {
           return without_zero(q, i, "multiply") ? std::optional(0.0) : std::nullopt;
         });
       }},
      {"x - x as 0",
       [](Program& p) {
         return replace_by_number(p, [](const Program& q, Id i) { return twice(q, i, "subtract", 0); });
       }},
      {"x / x as 1",
       [](Program& p) {
         return replace_by_number(p, [](const Program& q, Id i) { return twice(q, i, "divide", 1); });
       }},
      {"x == x as true",
       [](Program& p) {
         return replace_by_number(p, [](const Program& q, Id i) { return twice(q, i, "equal", 1); });
       }},
      {"(a + b) + c as a + (b + c)", reassociate},
      {"x / c as x * (1 / c)", reciprocal},
      {"< as <=", [](Program& p) { return rename(p, "less", "less_equal"); }},
      {"maximum as minimum", [](Program& p) { return rename(p, "maximum", "minimum"); }},
      {"expm1 as exp", [](Program& p) { return rename(p, "expm1", "exp"); }},
      {"abs dropped", [](Program& p) { return drop_unary(p, "abs"); }},
      {"a permutation dropped that changes the order", [](Program& p) { return drop_unary(p, "permute"); }},
      {"a flip dropped", [](Program& p) { return drop_unary(p, "flip"); }},
      {"the way to integers and back dropped",
       [](Program& p) {
         return replace(p, [](const Program& q, Id i) -> std::optional<Id> {
           if (!is(q.items[i], "cast") || !is(input_item(q, i, 0), "cast")) return {};
           return input(q, input(q, i, 0), 0);
         });
       }},
      {"where as its first branch",
       [](Program& p) {
         return replace(p, [](const Program& q, Id i) {
           return is(q.items[i], "where") ? std::optional(input(q, i, 1)) : std::nullopt;
         });
       }},
  };
}

}  // namespace opgrad::fuzz
