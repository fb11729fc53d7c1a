// What reports say of a plan's steps and values.
#include "plan_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "../graph/scope.h"
#include "flops.h"

namespace opgrad {
namespace {

std::string call_name(const PlanCall& call) { return call.op ? call.op->name : "copy"; }

// "multiply, add x2"
std::string names(const Plan& plan, std::uint32_t first, std::uint32_t count) {
  std::string text;
  for (std::uint32_t c = first; c < first + count;) {
    const std::string name = call_name(plan.calls[c]);
    std::uint32_t end = c + 1;
    while (end < first + count && call_name(plan.calls[end]) == name) ++end;
    text += fmt::format("{}{}", c == first ? "" : ", ", name);
    if (end - c > 1) text += fmt::format(" x{}", end - c);
    c = end;
  }
  return text;
}

bool in_memory(Base base) { return base != Base::number && base != Base::tile && base != Base::block; }

// Elements that an operand shows again and again are there once.
double operand_bytes(const Plan& plan, const PlanOperand& o) {
  const Shape& shape = shape_of(o.shape);
  double elements = 1;
  for (int a = 0; a < shape.rank(); ++a)
    if (plan.layouts[o.layout][static_cast<std::size_t>(a)] != 0 || shape[a] == 0)
      elements *= static_cast<double>(shape[a]);
  return elements * static_cast<double>(size_of(o.dtype));
}

std::string scaled(double x, const char* unit) {
  const char* const prefixes[] = {"", "k", "M", "G", "T"};
  std::size_t k = 0;
  for (; x >= 1000 && k < std::size(prefixes) - 1; ++k) x /= 1000;
  return k == 0 ? fmt::format("{:.0f} {}", x, unit) : fmt::format("{:.1f} {}{}", x, prefixes[k], unit);
}

}  // namespace

std::string algorithm_text(const Plan& plan, const PlanCall& call, bool pieces) {
  if (!call.op || !call.op->algorithm) return "";
  std::vector<View> views;  // without data
  for (std::uint32_t k = 0; k <= call.inputs; ++k) {
    const PlanOperand& o = plan.operands[call.operands + k];
    views.push_back({nullptr, {o.dtype, shape_of(o.shape)}, plan.layouts[o.layout]});
  }
  const auto nobody = [](std::int64_t, std::int64_t) {};
  const Finished finished(nobody);
  return fmt::format(" [{}]", call.op->algorithm({.in = {views.data(), call.inputs},
                                                  .out = views.back(),
                                                  .attrs = call.attributes,
                                                  .finished = pieces ? &finished : nullptr}));
}

std::vector<std::uint32_t> calls_of(const Plan& plan, const PlanStep& step) {
  std::vector<std::uint32_t> calls;
  const auto append = [&](const PlanStep& s) {
    if (s.head != no_index) calls.push_back(s.head);
    for (std::uint32_t c = s.first; c < s.first + s.count; ++c) calls.push_back(c);
    if (s.fold != no_index) calls.push_back(s.fold);
  };
  if (step.rows == 0) append(step);
  for (std::uint32_t k = 0; step.rows > 0 && k < step.count; ++k) append(plan.parts[step.first + k]);
  return calls;
}

std::string name_of(const Plan& plan, const PlanStep& step) {
  std::string text;
  for (std::uint32_t k = 0; step.rows > 0 && k < step.count; ++k)
    text += (k ? "; " : "") + name_of(plan, plan.parts[step.first + k]);
  if (step.rows > 0) return text;
  if (step.head != no_index)
    text = call_name(plan.calls[step.head]) + algorithm_text(plan, plan.calls[step.head], step.count > 0);
  if (step.head != no_index && step.count > 0) text += " + ";
  text += names(plan, step.first, step.count);
  return step.fold == no_index ? text : fmt::format("{} into {}", text, call_name(plan.calls[step.fold]));
}

double flops_of(const Plan& plan, const PlanStep& step) {
  double flops = 0;
  for (const std::uint32_t c : calls_of(plan, step))
    if (plan.calls[c].op) flops += flops_of(plan.program, plan.calls[c].item);
  return flops;
}

double bytes_of(const Plan& plan, const PlanStep& step) {
  using Place = std::tuple<Base, std::uint32_t, std::int64_t>;
  std::set<Place> read, written;
  double bytes = 0;
  for (const std::uint32_t c : calls_of(plan, step)) {
    const PlanCall& call = plan.calls[c];
    for (std::uint32_t k = 0; k <= call.inputs; ++k) {
      const PlanOperand& o = plan.operands[call.operands + k];
      if (!in_memory(o.base)) continue;
      const Place place{o.base, o.index, o.offset};
      const bool output = k == call.inputs;
      if (output ? written.insert(place).second : !written.contains(place) && read.insert(place).second)
        bytes += operand_bytes(plan, o);
    }
  }
  return bytes;
}

std::string origin_text(const Plan& plan, std::uint32_t item) {
  const std::uint32_t node = plan.program.items[item].node;
  return node == no_index ? "" : to_string(*plan.origins[node]);
}

std::string origin_text(const Plan& plan, const PlanStep& step) {
  return origin_text(plan, plan.calls[step.first_call(plan.parts)].item);
}

std::string bytes_text(double bytes) { return scaled(bytes, "B"); }

std::string flops_text(double flops) { return flops > 0 ? scaled(flops, "FLOP") : ""; }

std::string with_commas(std::int64_t n) {
  std::string s = std::to_string(n);
  for (auto i = std::ssize(s) - 3; i > 0; i -= 3) s.insert(static_cast<std::size_t>(i), 1, ',');
  return s;
}

}  // namespace opgrad
