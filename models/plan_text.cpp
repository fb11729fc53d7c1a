// A plan as text and as a drawing.
#include "plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "../graph/program_dot.h"
#include "flops.h"
#include "plan_facts.h"

namespace opgrad {
namespace {

const char* where(Base base) {
  switch (base) {
    case Base::arena:
      return "arena";
    case Base::slot:
      return "input";
    case Base::output:
      return "output";
    case Base::number:
      return "number";
    case Base::constant:
      return "constant";
    case Base::tile:
      return "tile";
    case Base::block:
      return "block";
  }
  return "";
}

class Listing {
 public:
  explicit Listing(const Plan& plan) : plan_(plan), p_(plan.program), outputs_(p_.items.size()) {
    for (std::size_t k = 0; k < p_.outputs.size(); ++k) {
      std::string& text = outputs_[p_.outputs[k].item];
      text += fmt::format("{}output {}", text.empty() ? "" : ", ", k);
      if (const std::uint32_t donor = plan.outputs[k].donor; donor != no_index)
        text += fmt::format(" over input {}", donor);
    }
  }

  std::string text() {
    for (std::uint32_t i = 0; i < p_.items.size(); ++i)
      if (p_.items[i].kind != ItemKind::op) value("given", i, "");
    for (std::uint32_t s = 0; s < plan_.steps.size(); ++s) {
      const PlanStep& step = plan_.steps[s];
      const std::string name = fmt::format("step {}", s + 1);
      if (step.rows == 0) {
        one(name, step);
        continue;
      }
      const std::int64_t blocks = (step.rows + step.block - 1) / step.block;
      const auto* const parts = &plan_.parts[step.first];
      const auto folded =
          std::count_if(parts, parts + step.count, [&](const PlanStep& p) { return plan_.folds_rows(p); });
      heading(name, fmt::format("{} rows in {} blocks of {}, each through {} parts before the next{}",
                                step.rows, blocks, step.block, step.count,
                                folded > 0 ? fmt::format("; {} folded over all blocks", folded) : ""));
      for (std::uint32_t k = 0; k < step.count; ++k)
        one(fmt::format(" part {}", k + 1), plan_.parts[step.first + k]);
    }
    views_before(no_index);
    return laid_out();
  }

 private:
  // step, value, type, bytes, place, arithmetic, line, attributes and outputs
  using Cells = std::array<std::string, 8>;

  void heading(const std::string& name, const std::string& words) { lines_.push_back({name, words}); }

  void one(const std::string& name, const PlanStep& step) {
    if (step.count == 0) return call(name, step.head, false);
    if (step.fold != no_index)
      heading(name, fmt::format("{} together, tile by tile, into a reduction", calls_text(step)));
    else if (step.head == no_index)
      heading(name, fmt::format("{} together, tile by tile", calls_text(step)));
    else
      heading(name, fmt::format("a kernel, and {} on each piece that it finishes", calls_text(step)));
    if (step.head != no_index) call("    |", step.head, true);
    for (std::uint32_t c = step.first; c < step.first + step.count; ++c) call("    |", c, false);
    if (step.fold != no_index) call("    |", step.fold, false);
  }

  // "12 operations, 7 of them in 2 loops"
  std::string calls_text(const PlanStep& step) const {
    std::uint32_t loops = 0, joined = 0;
    for (const PlanLoop& loop : plan_.loops)
      if (loop.first >= step.first && loop.first < step.first + step.count) {
        ++loops;
        joined += loop.count;
      }
    std::string text = fmt::format("{} operation{}", step.count, step.count == 1 ? "" : "s");
    if (loops == 1 && joined == step.count) return text + " as one loop";
    if (loops > 0) text += fmt::format(", {} of them in {} loop{},", joined, loops, loops == 1 ? "" : "s");
    return text;
  }

  void call(const std::string& name, std::uint32_t c, bool pieces) {
    const PlanCall& call = plan_.calls[c];
    const PlanOperand& out = plan_.operands[call.operands + call.inputs];
    if (call.op) {
      views_before(call.item);
      return value(name, call.item, where(out.base), algorithm_text(plan_, call, pieces));
    }
    const Item& item = p_.items[call.item];
    lines_.push_back({name, fmt::format("a dense copy of %{}", call.item),
                      to_string(Type{item.dtype, shape_of(item.shape)}),
                      bytes_text(static_cast<double>(p_.bytes_of(item))), where(out.base), "",
                      origin_text(plan_, call.item), ""});
  }

  // Views cost nothing and are no steps; they stand where the order has them.
  void views_before(std::uint32_t item) {
    for (; next_ < p_.order.size() && p_.order[next_] != item; ++next_)
      if (has(p_.items[p_.order[next_]].op->traits, Traits::movement)) value("view", p_.order[next_], "");
    if (next_ < p_.order.size()) ++next_;
  }

  void value(const std::string& name, std::uint32_t i, const std::string& place,
             const std::string& algorithm = "") {
    const Item& item = p_.items[i];
    const std::string type = to_string(Type{item.dtype, shape_of(item.shape)});
    std::string words = to_text(p_, i, i + 1);  // "%3 = sum(%2; axes=[0]) f32[8]\n"
    words.resize(words.size() - type.size() - 2);
    std::string more = item.attributes ? item.op->attributes->text(item.attributes) : "";
    if (!more.empty()) {
      const std::size_t begin = words.size() - more.size() - 1;
      words.resize(item.count > 0 ? begin - 2 : begin);
      words += ')';
    }
    if (!algorithm.empty()) more = fmt::format("{}{}{}", algorithm.substr(1), more.empty() ? "" : " ", more);
    if (!outputs_[i].empty()) more = fmt::format("-> {}{}{}", outputs_[i], more.empty() ? "" : "  ", more);
    const bool memory = item.kind == ItemKind::slot || item.kind == ItemKind::constant || !place.empty();
    lines_.push_back({name, words, type, memory ? bytes_text(static_cast<double>(p_.bytes_of(item))) : "",
                      place, flops_text(flops_of(p_, i)), origin_text(plan_, i), more});
  }

  std::string laid_out() const {
    // What is longer sticks out of its column.
    constexpr std::array<std::size_t, 8> widest{12, 48, 28, 12, 8, 12, 40, 0};
    std::array<std::size_t, 8> width{};
    const auto is_heading = [](const Cells& c) { return c[2].empty(); };
    for (const Cells& cells : lines_)
      for (std::size_t k = 0; k < cells.size(); ++k)
        if (k != 1 || !is_heading(cells)) width[k] = std::max(width[k], std::min(cells[k].size(), widest[k]));
    std::string text;
    for (const Cells& c : lines_) {
      std::string line = fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>{}}  {:<{}}  {:>{}}  {:<{}}  {}", c[0],
                                     width[0], c[1], width[1], c[2], width[2], c[3], width[3], c[4], width[4],
                                     c[5], width[5], c[6], width[6], c[7]);
      line.resize(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    return text;
  }

  const Plan& plan_;
  const Program& p_;
  std::vector<std::string> outputs_;  // what is said of an item that is one
  std::size_t next_ = 0;              // in the order
  std::vector<Cells> lines_;
};

}  // namespace

std::string plan_text(const Plan& plan) { return Listing(plan).text(); }

std::string plan_dot(const Plan& plan) {
  const Program& p = plan.program;
  return to_dot(p, [&](std::uint32_t i) {
    const Item& item = p.items[i];
    const bool memory = item.kind != ItemKind::number &&
                        !(item.kind == ItemKind::op && has(item.op->traits, Traits::movement));
    std::string text = memory ? bytes_text(static_cast<double>(p.bytes_of(item))) : "";
    for (const std::string& more : {flops_text(flops_of(p, i)), origin_text(plan, i)})
      if (!more.empty()) text += (text.empty() ? "" : "\n") + more;
    return text;
  });
}

}  // namespace opgrad
