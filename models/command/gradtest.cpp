// The gradient tester on the command line: which operations, how, and in what form the report is wanted.
#include "gradtest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "../../graph/registry.h"
#include "../../ops/gradtest/gradtest.h"
#include "../../ops/gradtest/mutants.h"

namespace opgrad {
namespace {

struct Options {
  std::string name, report = "table";
  bool all = false, mutants = false;
  std::vector<std::string> dtypes{"f32", "f64"};
  GradtestOptions of_test;
};

bool made_by_engine(const Op* op) {
  return op == &structural::leaf || op == &structural::number || op == &structural::add_any ||
         op == &structural::detach;
}

// The operation of that name, else all whose whole name the regular expression matches.
std::vector<std::string> chosen(const Options& options) {
  if (options.all == !options.name.empty())
    throw UsageError(options.all ? fmt::format("give either --all or {}, not both", options.name)
                                 : "name an operation or a regular expression, or give --all");
  if (find_op(options.name)) return {options.name};
  std::vector<std::string> names;
  try {
    const std::regex pattern(options.all ? ".*" : options.name);
    for (const Op* op : all_ops())
      if (!made_by_engine(op) && std::regex_match(op->name, pattern)) names.push_back(op->name);
  } catch (const std::regex_error& e) {
    throw UsageError(
        fmt::format("{} is neither an operation nor a regular expression: {}", options.name, e.what()));
  }
  if (!names.empty()) return names;
  const std::vector<std::string> near = near_names(options.name);
  throw UsageError(fmt::format(
      "no operation is called {}, and as a regular expression it matches none; {}", options.name,
      near.empty() ? "opgrad ops lists them all" : fmt::format("near it: {}", fmt::join(near, ", "))));
}

// On a terminal, one line that says what is being tested.
class Progress {
 public:
  explicit Progress(std::size_t count) : count_(count), terminal_(isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (terminal_) fmt::print(stderr, "\r\x1b[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(const std::string& name) {
    ++at_;
    if (terminal_) fmt::print(stderr, "\r{}/{}  {}\x1b[K", at_, count_, name);
  }

 private:
  std::size_t count_, at_ = 0;
  bool terminal_;
};

int test(const std::vector<std::string>& names, const Options& options) {
  GradtestReport report;
  report.seed = options.of_test.seed;
  {
    Progress progress(names.size());
    for (const std::string& name : names) {
      progress.show(name);
      GradtestReport one = gradtest(name, options.of_test);
      report.seconds += one.seconds;
      std::ranges::move(one.rows, std::back_inserter(report.rows));
    }
  }
  fmt::print("{}", options.report == "json"       ? report.json()
                   : options.report == "junit"    ? report.junit()
                   : options.report == "markdown" ? report.markdown()
                                                  : report.table());
  return report.exit_code();
}

// Wrong rules made from the right ones, each of which the tester must reject.
int test_the_tester(const std::vector<std::string>& names, const Options& options) {
  // Names consist of letters, digits, '_' and '.': only the last has a second meaning.
  std::string expression;
  for (const std::string& name : names) {
    if (!expression.empty()) expression += '|';
    for (const char c : name) expression += c == '.' ? "\\." : std::string(1, c);
  }
  try {
    const GradtestMutants mutants = gradtest_mutants(expression, options.of_test);
    fmt::print("{}", mutants.table());
    return mutants.all_killed() ? 0 : 1;
  } catch (const UserError& e) {
    fmt::print(stderr, "opgrad: {}\n", e.what());
    return 3;  // none of them has a gradient and examples
  }
}

int run(const Options& options) {
  const std::vector<std::string> names = chosen(options);
  if (options.mutants && options.report != "table")
    throw UsageError(
        fmt::format("--mutants prints a table; --report {} is not known for it", options.report));
  set_up(0);
  try {
    return options.mutants ? test_the_tester(names, options) : test(names, options);
  } catch (const std::exception& e) {
    // main's 1 would say that a gradient is wrong.
    fmt::print(stderr, "opgrad: the test ended early: {}\n", e.what());
    return 2;
  }
}

}  // namespace

Command add_gradtest(CLI::App& app) {
  CLI::App* gradtest = app.add_subcommand("gradtest",
                                          "Test the gradients of operations.\nExit codes: 0 passed, 1 wrong "
                                          "gradient, 2 inconclusive, 3 no rule or no "
                                          "examples, 4 wrong usage");
  const auto options = std::make_shared<Options>();
  gradtest->add_option("NAME", options->name,
                       "The operation; or a regular expression that whole names must match");
  gradtest->add_flag("--all", options->all, "Test all operations");
  // One argument each, so that the operation's name may follow.
  const auto list = [](CLI::Option* option) {
    option->delimiter(',')->allow_extra_args(false)->capture_default_str();
    return option;
  };
  list(gradtest->add_option("--dtype", options->dtypes, "Float types to test"))
      ->check(CLI::IsMember({"f32", "f64"}));
  list(gradtest->add_option("--order", options->of_test.orders, "1: gradients; 2: gradients of gradients"))
      ->check(CLI::IsMember({1, 2}));
  gradtest->add_option("--seed", options->of_test.seed, "Seed of inputs and directions")
      ->capture_default_str()
      ->check(number("a whole number from 0", [](double x) { return x >= 0; }));
  gradtest->add_option("--repeat", options->of_test.repeat, "Runs with this seed, the next, ...")
      ->capture_default_str()
      ->check(number("a whole number from 1 to 1000000", [](double x) { return x >= 1 && x <= 1e6; }));
  list(gradtest->add_option("--threads", options->of_test.threads,
                            "Numbers of threads that must give the same bits"))
      ->check(number("a whole number from 1 to 1024", [](double x) { return x >= 1 && x <= 1024; }));
  gradtest->add_option("--report", options->report, "Form of the report")
      ->capture_default_str()
      ->check(CLI::IsMember({"table", "json", "junit", "markdown"}));
  gradtest->add_flag("--mutants", options->mutants,
                     "Test the tester: wrong rules, derived from the right ones, must all be rejected");
  return {gradtest,
          [options] {
            options->of_test.dtypes.clear();
            for (const std::string& name : options->dtypes)
              options->of_test.dtypes.push_back(name == "f32" ? DType::f32 : DType::f64);
            return run(*options);
          },
          4};
}

}  // namespace opgrad
