// The summary of a module: a table of layers, output volumes and parameters.
#include <fmt/format.h>

#include <algorithm>

#include "module_state.h"

namespace opgrad {

namespace {

std::string with_commas(std::int64_t n) {
  std::string s = std::to_string(n);
  for (auto i = std::ssize(s) - 3; i > 0; i -= 3) s.insert(static_cast<std::size_t>(i), 1, ',');
  return s;
}

}  // namespace

std::string Module::summary() const {
  struct Row {
    std::string layer, volume, parameters;
  };
  std::vector<Row> rows{{"layer", "output volume", "parameters"}};
  std::int64_t total = 0, frozen = 0;
  walk(state_, [&](const std::string& path, const State& state) {
    const ModuleState& s = *state;
    std::int64_t own = 0;
    for (const Weight& w : s.weights) {
      own += w.parameter.shape().numel();
      if (!w.parameter.trainable()) frozen += w.parameter.shape().numel();
    }
    total += own;
    if (path.empty() && s.weights.empty() && !s.parts.empty()) return;
    const std::string type = s.type.empty() ? type_name() : s.type;
    std::string layer = path.empty() ? type : path;
    if (const std::string last = layer.substr(layer.rfind('/') + 1); !last.starts_with(type))
      layer += " (" + type + ")";
    std::string volume;
    if (const ShapeId id = s.output.load(); id != no_shape)
      for (int axis = 1; axis < shape_of(id).rank(); ++axis)
        volume += (axis > 1 ? " x " : "") + std::to_string(shape_of(id)[axis]);
    rows.push_back({layer, volume, with_commas(own)});
  });
  rows.push_back({"total", "", with_commas(total)});
  if (frozen > 0) rows.push_back({"not trained", "", with_commas(frozen)});
  std::size_t first = 0, second = 0, third = 0;
  for (const Row& r : rows) {
    first = std::max(first, r.layer.size());
    second = std::max(second, r.volume.size());
    third = std::max(third, r.parameters.size());
  }
  const std::string rule = std::string(first + second + third + 4, '-') + "\n";
  std::string table;
  for (const Row& r : rows) {
    if (r.layer == "total") table += rule;
    table += fmt::format("{:<{}}  {:<{}}  {:>{}}\n", r.layer, first, r.volume, second, r.parameters, third);
    if (&r == rows.data()) table += rule;
  }
  return table;
}

}  // namespace opgrad
