// A program as text, one item a line.
#include <fmt/format.h>

#include <algorithm>

#include "passes.h"

namespace opgrad {

std::string to_text(const Program& p, std::uint32_t first, std::uint32_t last) {
  std::string text;
  last = std::min(last, static_cast<std::uint32_t>(p.items.size()));
  for (std::uint32_t i = first; i < last; ++i) {
    const Item& item = p.items[i];
    std::string value;
    switch (item.kind) {
      case ItemKind::slot:
        value = fmt::format("input {}", item.place);
        break;
      case ItemKind::number:
        if (item.place >= p.numbers.size())
          value = "number ?";
        else if (p.numbers[item.place].captured == no_index)
          value = fmt::format("{}", p.numbers[item.place].value);
        else
          value = fmt::format("number {}", p.numbers[item.place].captured);
        break;
      case ItemKind::constant:
        value = fmt::format("constant {}", item.place);
        break;
      case ItemKind::op: {
        value = fmt::format("{}(", item.op->name);
        for (std::uint32_t k = 0; k < item.count; ++k)
          value += fmt::format("{}%{}", k ? ", " : "", p.inputs[item.first + k]);
        if (item.attributes) value += (item.count ? "; " : "") + item.op->attributes->text(item.attributes);
        value += ")";
      }
    }
    text += fmt::format("%{} = {} {}\n", i, value, to_string(Type{item.dtype, shape_of(item.shape)}));
  }
  return text;
}

}  // namespace opgrad
