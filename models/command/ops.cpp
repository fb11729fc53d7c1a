// opgrad ops: what the registry knows of every operation.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cctype>
#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>

#include "../../graph/registry.h"
#include "../../ops/ops.h"
#include "command.h"

namespace opgrad {
namespace {

struct Options {
  std::string name;
  bool json = false;
};

using Texts = std::vector<std::string>;

struct Facts {
  const Op& op;
  Texts inputs, attributes, traits, conventions;
  bool differentiable;
  std::size_t examples, bad_calls;
};

Texts trait_names(Traits traits) {
  constexpr std::array<std::pair<Traits, const char*>, 7> names{{{Traits::pointwise, "pointwise"},
                                                                 {Traits::movement, "movement"},
                                                                 {Traits::dense_inputs, "dense inputs"},
                                                                 {Traits::commutative, "commutative"},
                                                                 {Traits::nothrow, "nothrow"},
                                                                 {Traits::reduction, "reduction"},
                                                                 {Traits::linear, "linear"}}};
  Texts found;
  for (const auto& [trait, name] : names)
    if (has(traits, trait)) found.emplace_back(name);
  return found;
}

Texts input_names(int arity) {
  if (arity < 0) return {"x1", "..."};
  if (arity == 1) return {"x"};
  Texts names;
  for (int i = 1; i <= arity; ++i) names.push_back(fmt::format("x{}", i));
  return names;
}

// The words before each '=' of an attribute struct's text.
Texts attribute_names(const AttributeInfo* info) {
  if (!info) return {};
  // Plain structs, for which all zeros are as good as any value.
  const std::vector<std::max_align_t> zeros(info->size / sizeof(std::max_align_t) + 1);
  const std::string text = info->text(zeros.data());
  Texts names;
  for (std::size_t at = 0; (at = text.find('=', at)) != text.npos; ++at) {
    std::size_t begin = at;
    while (begin > 0 && (std::isalnum(static_cast<unsigned char>(text[begin - 1])) || text[begin - 1] == '_'))
      --begin;
    names.push_back(text.substr(begin, at - begin));
  }
  return names;
}

Facts facts_of(const Op& op) {
  Facts f{op,
          input_names(op.arity),
          attribute_names(op.attributes),
          trait_names(op.traits),
          {},
          op.backward != no_gradient,
          op.examples ? op.examples().size() : 0,
          op.bad_calls ? op.bad_calls().size() : 0};
  if (op.kinks)
    for (const Kink& kink : op.kinks()) f.conventions.emplace_back(kink.convention);
  return f;
}

std::string counted(std::size_t n, const char* what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string text_of(const Facts& f) {
  std::string text = fmt::format("{}({}{}{})", f.op.name, fmt::join(f.inputs, ", "),
                                 f.attributes.empty() ? "" : "; ", fmt::join(f.attributes, ", "));
  if (!f.traits.empty()) text += fmt::format("  {}", fmt::join(f.traits, ", "));
  if (f.op.about && *f.op.about) text += fmt::format("\n    {}", f.op.about);
  text += f.differentiable ? "\n    has a gradient" : "\n    has no gradient";
  if (!f.conventions.empty()) text += fmt::format("; at kinks: {}", fmt::join(f.conventions, "; "));
  return text + fmt::format("\n    {}, {}; {}\n", counted(f.examples, "example"),
                            counted(f.bad_calls, "bad call"), source_of(f.op));
}

nlohmann::ordered_json json_of(const Facts& f) {
  return {{"name", f.op.name},
          {"arity", f.op.arity},
          {"inputs", f.inputs},
          {"attributes", f.attributes},
          {"traits", f.traits},
          {"about", f.op.about ? f.op.about : ""},
          {"differentiable", f.differentiable},
          {"kinks", f.conventions},
          {"examples", f.examples},
          {"bad_calls", f.bad_calls},
          {"source", source_of(f.op)}};
}

int run(const Options& options) {
  std::vector<const Op*> ops = all_ops();
  if (!options.name.empty()) {
    const Op* const op = find_op(options.name);
    if (!op) {
      const Texts near = near_names(options.name);
      throw UsageError(near.empty() ? fmt::format("there is no operation \"{}\"", options.name)
                                    : fmt::format("there is no operation \"{}\"; near: {}", options.name,
                                                  fmt::join(near, ", ")));
    }
    ops = {op};
  }
  if (options.json) {
    auto list = nlohmann::ordered_json::array();
    for (const Op* op : ops) list.push_back(json_of(facts_of(*op)));
    fmt::print("{}\n", list.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  for (const Op* op : ops) fmt::print("{}", text_of(facts_of(*op)));
  if (options.name.empty()) fmt::print("{}\n", counted(ops.size(), "operation"));
  return 0;
}

}  // namespace

Command add_ops(CLI::App& app) {
  CLI::App* ops = app.add_subcommand("ops", "Describe every operation, or one, and say where it comes from");
  const auto options = std::make_shared<Options>();
  ops->add_option("NAME", options->name, "Only this operation");
  ops->add_flag("--json", options->json, "As JSON, for programs");
  return {ops, [options] { return run(*options); }, 4};
}

}  // namespace opgrad
