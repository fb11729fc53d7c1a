// opgrad gradtest, run as a program: what it chooses, its exit codes, its reports.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "../graph/registry.h"
#include "../ops/ops.h"
#include "errors.h"
#include "run_shell.h"
#include "xml.h"

using namespace opgrad::test;

namespace {

// `gradtest ARGUMENTS`; stderr is kept out, for reports are to be read by programs, unless asked for.
Run run(const std::string& arguments, const std::string& redirect = "2>/dev/null") {
  return run_shell("'" OPGRAD_COMMAND "' gradtest " + arguments + " " + redirect);
}
Run run_aloud(const std::string& arguments) { return run(arguments, "2>&1"); }

std::string wrong_rules() {
  const auto folder = std::filesystem::path(OPGRAD_COMMAND).parent_path() / "tests/plugins";
  return " --plugin '" + (folder / "wrong_rules.so").string() + "'";
}

// The names, dtypes, orders, ... of a report, each once.
template <class T>
std::set<T> all(const Run& r, const char* field) {
  std::set<T> out;
  const auto report = nlohmann::json::parse(r.output);
  for (const auto& o : report["operations"]) out.insert(o[field].get<T>());
  return out;
}

}  // namespace

TEST_CASE("gradtest command: a right operation passes with 0, and the seed is printed") {
  const Run r = run("tanh --seed 42");
  CHECK(r.code == 0);
  CHECK(std::regex_search(r.output, std::regex("\ntanh +f32 +1 .* pass\n")));
  CHECK(std::regex_search(
      r.output,
      std::regex("\n1 operation: 1 passed, 0 wrong, 0 inconclusive, 0 missing, 0 skipped; power at least "
                 "[0-9.]+e-[0-9]+; seed 42; [0-9.]+ s\n$")));
}

TEST_CASE("gradtest command: a wrong rule ends with 1, is explained, and gives a test to paste") {
  const Run r = run("test.doubled" + wrong_rules());
  CHECK(r.code == 1);
  for (const char* part : {"test.doubled f64 order 1: gradient", "claimed / true is 2", "smallest case found",
                           "TEST_CASE(\"test.doubled: gradient of x[0], f64\")"})
    CHECK_MESSAGE(contains(r.output, part), r.output);
}

TEST_CASE("gradtest command: what cannot be decided ends with 2") {
  const Run r = run("test.constant" + wrong_rules());
  CHECK_MESSAGE(r.code == 2, r.output);
  CHECK(contains(r.output, "0 passed, 0 wrong, 1 inconclusive"));
}

TEST_CASE("gradtest command: an operation without examples ends with 3") {
  const Run r = run("test.unshown" + wrong_rules());
  CHECK_MESSAGE(r.code == 3, r.output);
  CHECK(contains(r.output, "1 missing"));
}

TEST_CASE("gradtest command: the gravest verdict of several gives the exit code") {
  CHECK(run("'test\\..*'" + wrong_rules()).code == 1);
  CHECK(run("'test.(constant|unshown)'" + wrong_rules()).code == 3);
  CHECK(run("'test.constant|tanh'" + wrong_rules()).code == 2);
}

TEST_CASE("gradtest command: wrong usage ends with 4 and shows the usage") {
  for (const std::string wrong :
       {"", "--all tanh", "tanh exp", "tanh --dtype f16", "tanh --dtype f32,i64", "tanh --order 3",
        "tanh --order 0", "tanh --seed -1", "tanh --seed x", "tanh --repeat 0", "tanh --threads 0",
        "tanh --threads 1,x", "tanh --report yaml", "tanh --mutants --report json", "tanh --nonsense",
        "tanh --plugin", "'tanh('", "no_such_operation"}) {
    const Run r = run_aloud(wrong);
    CHECK_MESSAGE(r.code == 4, wrong << ": " << r.output);
    CHECK_MESSAGE(contains(r.output, "Usage:"), wrong << ": " << r.output);
  }
}

TEST_CASE("gradtest command: an unknown name is answered with names that are near") {
  const Run r = run_aloud("sigmoyd");
  CHECK(r.code == 4);
  CHECK(contains(r.output, "no operation is called sigmoyd"));
  CHECK(contains(r.output, "near it: sigmoid"));
}

TEST_CASE("gradtest command: a plug-in that is refused ends with 4 and the reason") {
  const Run r = run_aloud("tanh --plugin /nowhere/none.so");
  CHECK(r.code == 4);
  CHECK(contains(r.output, "/nowhere/none.so"));
}

TEST_CASE("gradtest command: a name is exact first, else a regular expression for whole names") {
  CHECK(all<std::string>(run("exp --report json"), "name") == std::set<std::string>{"exp"});
  CHECK(all<std::string>(run("'max.*um|ex.' --report json"), "name") ==
        std::set<std::string>{"exp", "maximum"});
}

TEST_CASE("gradtest command: --dtype and --order choose the rows, and the name may follow") {
  const Run r = run("--dtype f64 --order 2 --report json tanh");
  CHECK(r.code == 0);
  CHECK(all<std::string>(r, "dtype") == std::set<std::string>{"f64"});
  CHECK(all<int>(r, "order") == std::set<int>{2});
  const Run both = run("tanh --dtype f32,f64 --order 1,2 --report json");
  CHECK(all<std::string>(both, "dtype") == std::set<std::string>{"f32", "f64"});
  CHECK(all<int>(both, "order") == std::set<int>{1, 2});
}

TEST_CASE("gradtest command: --repeat runs as many seeds, --seed chooses the numbers") {
  const auto cases = [](const std::string& more) {
    return *all<int>(run("tanh --report json " + more), "cases").begin();
  };
  CHECK(cases("--repeat 3") == 3 * cases(""));
  const auto errors = [](const std::string& more) {
    return all<double>(run("softmax --report json " + more), "max_error");
  };
  CHECK(errors("--seed 5") == errors("--seed 5"));
  CHECK(errors("--seed 5") != errors("--seed 6"));
  CHECK(nlohmann::json::parse(run("tanh --report json --seed 5").output)["seed"] == 5);
}

TEST_CASE("gradtest command: every form of the report is what it says, with nothing around it") {
  const std::string name = "test.doubled --dtype f64 " + wrong_rules();
  const Run json = run(name + " --report json");
  CHECK(json.code == 1);
  CHECK(nlohmann::json::parse(json.output)["operations"][0]["verdict"] == "wrong");
  const Run junit = run(name + " --report junit");
  CHECK(junit.code == 1);
  CHECK(xml_fault(junit.output) == "");
  CHECK(contains(junit.output, "<failure type=\"wrong\""));
  const Run markdown = run(name + " --report markdown");
  CHECK(markdown.code == 1);
  CHECK(markdown.output.starts_with("| name | dtype |"));
  CHECK(contains(markdown.output, "| test.doubled | f64 | 1 |"));
  const Run table = run(name + " --report table");
  CHECK(table.code == 1);
  CHECK(table.output.starts_with("name "));
}

TEST_CASE("gradtest command: progress is shown on terminals only") {
  CHECK_FALSE(contains(run_aloud("tanh").output, "\r"));
}

TEST_CASE(
    "gradtest command: --mutants prints the table of wrong rules, and ends with 0 when all are rejected") {
  const Run r = run("tanh --mutants");
  CHECK_MESSAGE(r.code == 0, r.output);
  CHECK(contains(r.output, "tanh"));
  CHECK(contains(r.output, "killed"));
}

TEST_CASE("gradtest command: --mutants ends with 1 where the rule itself is rejected, which shows nothing") {
  CHECK(run("test.doubled --mutants" + wrong_rules()).code == 1);
}

TEST_CASE("gradtest command: --mutants ends with 3 where no rule can be made wrong") {
  CHECK(run("argmax --mutants").code == 3);
}

TEST_CASE("gradtest command: --all tests every operation but those of the engine") {
  const Run r = run("--all --report json");
  CHECK(r.code == 0);
  const std::set<std::string> names = all<std::string>(r, "name");
  for (const opgrad::Op* op : opgrad::all_ops()) {
    using namespace opgrad;
    const bool engine = op == &structural::leaf || op == &structural::number || op == &structural::add_any ||
                        op == &structural::detach;
    // Operations that other tests have linked into this program are not in the command.
    if (source_of(*op) == "built in") CHECK_MESSAGE(names.contains(op->name) != engine, op->name);
  }
}
