// opgrad graph: makes a plan with the passes that are asked for and shows what it consists of.
#include "graph.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../../core/file.h"
#include "../../graph/plan.h"
#include "../../graph/run.h"
#include "../flops.h"
#include "../lecture.h"
#include "../opgrad.h"
#include "../plan_facts.h"
#include "../plan_text.h"
#include "bench.h"
#include "graph_svg.h"

namespace opgrad {
namespace {

struct Options {
  bool backward = false, step = false, report = false;
  std::int64_t batch = 0;  // 0: 128, or the work's own size
  std::string after, format = "text", output, work;
};

// What is shown: run again and again, it ends in one plan.
struct Subject {
  std::string title;
  std::function<void()> run;
};

Subject lecture_subject(const Options& options) {
  const std::int64_t batch = options.batch > 0 ? options.batch : 128;
  const auto net = std::make_shared<Sequential>(lecture_network());
  net->initialize(1);
  const auto pixels = static_cast<std::size_t>(batch) * 28 * 28;
  const Tensor images = tensor(std::vector<float>(pixels, 0.5F), {batch, 28, 28, 1});
  const Tensor labels = tensor(std::vector<std::int64_t>(static_cast<std::size_t>(batch)), {batch});
  net->build({1, 28, 28, 1});
  const std::string title = fmt::format("the lecture's network, {} parameters, {} image{}",
                                        with_commas(net->parameter_count()), batch, batch == 1 ? "" : "s");
  if (options.step) {
    const auto adam = std::make_shared<Adam>(AdamOptions{.learning_rate = 1e-3, .epsilon = 1e-8});
    return {title + ", a training step with Adam",
            [=] { adam->step(cross_entropy((*net)(images), labels)); }};
  }
  if (options.backward)
    return {title + ", loss and gradients", [=] {
              Gradients g = gradients(cross_entropy((*net)(images), labels));
              g.gradients.push_back(g.loss);
              eval(g.gradients);
            }};
  net->eval();
  return {title + ", forward", [=] { eval((*net)(images)); }};
}

Subject subject_of(const Options& options) {
  if (options.work.empty()) return lecture_subject(options);
  const Work& work = work_called(options.work);
  const std::int64_t size = options.batch > 0 ? options.batch : work.size;
  return {fmt::format("{}: {}{}", work.name, work.about,
                      size == work.size ? "" : fmt::format("; here of size {}", size)),
          [step = work.start(size)] { step(); }};
}

// The passes that are on and stand no later than `last`; "capture" stands before all.
PassSet passes_up_to(std::string_view last, PassSet on) {
  PassSet set = PassSet::none();
  if (last == "capture") return set;
  for (const Pass& pass : passes()) {
    if (on.has(pass.name)) set = set.with(pass.name);
    if (pass.name == last) return set;
  }
  return set;
}

// The plan for the subject once its structure no longer changes (an optimizer's first steps may differ).
std::shared_ptr<const Plan> plan_of(const Subject& subject, PassSet set) {
  set_passes(set);
  const Plan* before = nullptr;
  for (int i = 0; i < 10; ++i) {
    subject.run();
    const std::shared_ptr<const Plan> plan = last_plan();
    if (plan.get() == before) return plan;
    before = plan.get();
  }
  throw UserError("graph: this work makes a new plan each time it runs");
}

std::string change(std::size_t before, std::size_t after) {
  return before == after ? fmt::format("{}", after) : fmt::format("{} -> {}", before, after);
}

// The smallest of some times for each pass, each taken on a fresh copy of what was captured.
std::vector<PassReport> timed_passes(const Plan& captured, PassSet set) {
  std::vector<PassReport> least;
  for (int i = 0; i < 5; ++i) {
    Program program = captured.program;
    program.order.clear();
    program.tail = no_index;
    std::vector<PassReport> report;
    run_passes(program, set, &report);
    if (least.empty()) least = report;
    for (std::size_t k = 0; k < report.size(); ++k)
      least[k].milliseconds = std::min(least[k].milliseconds, report[k].milliseconds);
  }
  return least;
}

// What each pass does: values and steps before and after, the arena of a plan with the passes up to it,
// memory shared, the bound that no arena can beat, its time.
std::string report_text(const Subject& subject, const std::string& last, PassSet on) {
  const PassSet all = passes_up_to(last, on);
  const std::shared_ptr<const Plan> captured = plan_of(subject, PassSet::none());
  const std::vector<PassReport> times = timed_passes(*captured, all);
  std::string text = fmt::format("{:<12} {:>14} {:>14} {:>10} {:>10} {:>9}  {}\n", "pass", "values", "steps",
                                 "arena", "bound", "ms", "what it does");
  const auto row = [&](const char* name, const Plan& from, const Plan& to, const std::string& ms,
                       const char* about) {
    text += fmt::format("{:<12} {:>14} {:>14} {:>10} {:>10} {:>9}  {}\n", name,
                        change(from.program.items.size(), to.program.items.size()),
                        change(from.steps.size(), to.steps.size()),
                        bytes_text(static_cast<double>(to.arena_bytes)),
                        bytes_text(static_cast<double>(to.live_bytes_bound)), ms, about);
  };
  const bool shared = on.has("arena");
  std::shared_ptr<const Plan> before = captured;
  if (shared) before = plan_of(subject, PassSet::none().with("arena"));
  row("capture", *before, *before, "", "one value for each node");
  for (const Pass& pass : passes()) {
    if (!all.has(pass.name)) continue;
    PassSet set = passes_up_to(pass.name, on);
    if (shared) set = set.with("arena");
    const std::shared_ptr<const Plan> after = plan_of(subject, set);
    const auto time = std::ranges::find(times, std::string_view(pass.name),
                                        [](const PassReport& r) { return std::string_view(r.name); });
    row(pass.name, *before, *after,
        time == times.end() ? "planner" : fmt::format("{:.3f}", time->milliseconds), pass.about);
    before = after;
  }
  clear_plan_cache();
  plan_of(subject, all);
  return text + fmt::format("\nmaking the whole plan took {:.2f} ms\n", plan_stats().last_milliseconds);
}

std::string heading(const Subject& subject, const Plan& plan, const std::string& after) {
  double flops = 0;
  for (std::uint32_t i = 0; i < plan.program.items.size(); ++i) flops += flops_of(plan.program, i);
  return fmt::format(
      "{}\n{} values, {} steps, {} output{} after {}; arena {}, bound {}{}{}\n\n", subject.title,
      plan.program.items.size(), plan.steps.size(), plan.program.outputs.size(),
      plan.program.outputs.size() == 1 ? "" : "s", after, bytes_text(static_cast<double>(plan.arena_bytes)),
      bytes_text(static_cast<double>(plan.live_bytes_bound)), flops > 0 ? "; " : "", flops_text(flops));
}

void check(const Options& options, PassSet on) {
  if (options.backward && options.step)
    throw UsageError("give either --backward or --step: a step contains the gradients");
  if (!options.work.empty() && (options.backward || options.step))
    throw UsageError(fmt::format(
        "--work {} is shown as it runs; --backward and --step are for the lecture's network", options.work));
  if (options.report && options.format != "text" && options.output.empty())
    throw UsageError(
        fmt::format("--report is text; with --format {} give --output FILE for the drawing", options.format));
  if (options.after.empty() || options.after == "capture") return;
  std::vector<std::string> names{"capture"};
  for (const Pass& pass : passes()) names.emplace_back(pass.name);
  if (std::ranges::find(names, options.after) == names.end())
    throw UsageError(
        fmt::format("there is no pass \"{}\"; --after takes {}", options.after, fmt::join(names, ", ")));
  if (!on.has(options.after))
    throw UsageError(fmt::format("the pass \"{}\" is off: OPGRAD_PASSES is \"{}\"", options.after,
                                 getenv("OPGRAD_PASSES")));
}

int run(const Options& options) {
  const PassSet on = current_passes();
  check(options, on);
  const Subject subject = subject_of(options);
  set_up(0);
  const std::string last = options.after.empty() ? "" : options.after;
  const std::shared_ptr<const Plan> plan = plan_of(subject, passes_up_to(last, on));

  const std::string after = last.empty()        ? "all passes"
                            : last == "capture" ? "capture, before any pass"
                                                : last;
  const std::string drawn = options.format == "text"  ? heading(subject, *plan, after) + plan_text(*plan)
                            : options.format == "dot" ? plan_dot(*plan)
                                                      : svg_of(plan_dot(*plan), plan->program.items.size());
  if (options.output.empty()) {
    fmt::print("{}", drawn);
  } else {
    write_file(options.output, std::as_bytes(std::span(drawn)));
    fmt::print("written to {}\n", options.output);
  }
  if (options.report) fmt::print("{}{}", options.output.empty() ? "\n" : "", report_text(subject, last, on));
  return 0;
}

}  // namespace

Command add_graph(CLI::App& app) {
  CLI::App* graph = app.add_subcommand(
      "graph",
      "Show the captured graph of the lecture's network, forward only, after all passes or some of them");
  const auto options = std::make_shared<Options>();
  std::string list = "Passes, in the order in which they run:";
  for (const Pass& pass : passes()) list += fmt::format("\n  {:<10} {}", pass.name, pass.about);
  graph->footer(list);
  graph->add_flag("--backward", options->backward, "The loss and the gradients of all parameters");
  graph->add_flag("--step", options->step, "A whole training step with Adam");
  graph
      ->add_option("--batch", options->batch,
                   "Images, or the size of the work (default: 128, or the work's own)")
      ->check(number("a whole number from 1 to 1000000", [](double x) { return x >= 1 && x <= 1e6; }));
  graph->add_option(
      "--after", options->after,
      "Only the passes up to this one; capture: none (default: all, or those of OPGRAD_PASSES)");
  graph->add_option("--format", options->format, "text; dot, for Graphviz; svg, drawn by Graphviz")
      ->capture_default_str()
      ->check(CLI::IsMember({"text", "dot", "svg"}));
  graph->add_flag("--report", options->report, "Also what each pass does: values, steps, bytes, time");
  graph->add_option("--output", options->output, "Write to this file instead of standard output");
  graph->add_option("--work", options->work, "A standard work instead (opgrad bench --help lists them)");
  return {graph, [options] { return run(*options); }};
}

}  // namespace opgrad
