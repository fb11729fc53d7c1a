// A program in Graphviz's language.
#include "program_dot.h"

#include <fmt/format.h>

#include <map>
#include <vector>

namespace opgrad {
namespace {

// As it stands between quotes.
std::string quoted(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? "\\n" : std::string(1, c);
  }
  return out;
}

std::string name_of(const Program& p, const Item& item) {
  switch (item.kind) {
    case ItemKind::slot:
      return fmt::format("input {}", item.place);
    case ItemKind::constant:
      return fmt::format("constant {}", item.place);
    case ItemKind::number:
      return p.numbers[item.place].captured == no_index ? fmt::format("{}", p.numbers[item.place].value)
                                                        : fmt::format("number {}", item.place);
    default:
      return item.op->name;
  }
}

// The frame that an item stands in: its group of rows, and within it its tile group.
struct Frame {
  std::uint32_t rows = no_index, group = no_index;
  auto operator<=>(const Frame&) const = default;
};
Frame frame_of(const Item& item) {
  return {item.rows, item.epilogue != no_index   ? item.epilogue
                     : item.consumes != no_index ? item.consumes
                                                 : item.group};
}

}  // namespace

std::string to_dot(const Program& p, FunctionRef<std::string(std::uint32_t item)> note) {
  std::vector<bool> is_output(p.items.size(), false);
  for (const Output& o : p.outputs) is_output[o.item] = true;

  std::map<Frame, std::string> frames;
  std::map<std::uint32_t, std::string> rows;
  std::string loose, edges;
  for (std::uint32_t i = 0; i < p.items.size(); ++i) {
    const Item& item = p.items[i];
    const std::string more = note(i);
    const std::string label =
        fmt::format("%{} {}\n{}{}{}", i, name_of(p, item), to_string(Type{item.dtype, shape_of(item.shape)}),
                    more.empty() ? "" : "\n", more);
    const std::string line = fmt::format("i{} [label=\"{}\"{}{}];\n", i, quoted(label),
                                         item.kind == ItemKind::op ? "" : ", shape=ellipse",
                                         is_output[i] ? ", peripheries=2" : "");
    const Frame frame = frame_of(item);
    if (frame == Frame{})
      loose += "  " + line;
    else
      frames[frame] += "      " + line;
    for (const std::uint32_t in : p.inputs_of(item)) edges += fmt::format("  i{} -> i{};\n", in, i);
  }

  for (const auto& [frame, members] : frames)
    rows[frame.rows] += frame.group == no_index ? members
                                                : fmt::format(
                                                      "    subgraph cluster_tiles{} {{\n"
                                                      "      label=\"tile by tile\";\n{}    }}\n",
                                                      frame.group, members);
  std::string text = "digraph program {\n  node [shape=box, fontsize=10];\n" + loose;
  for (const auto& [group, inside] : rows)
    text += group == no_index
                ? inside
                : fmt::format("  subgraph cluster_rows{} {{\n    label=\"blocks of {} rows\";\n{}  }}\n",
                              group, p.row_blocks[group], inside);
  return text + edges + "}\n";
}

}  // namespace opgrad
