// opgrad gradtest, run as a program: what it chooses, its exit codes, its reports.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "../graph/registry.h"
#include "../ops/ops.h"
#include "xml.h"

namespace {

struct Result {
  int code;
  std::string out;
};

// `gradtest ARGUMENTS`; stderr is kept out, for reports are to be read by programs, unless asked for.
Result run(const std::string& arguments, const std::string& redirect = "2>/dev/null") {
  std::FILE* pipe = popen(("'" OPGRAD_COMMAND "' gradtest " + arguments + " " + redirect).c_str(), "r");
  REQUIRE(pipe);
  Result r{0, ""};
  std::array<char, 4096> part{};
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    r.out.append(part.data(), n);
  const int status = pclose(pipe);
  r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return r;
}
Result run_aloud(const std::string& arguments) { return run(arguments, "2>&1"); }

bool contains(const std::string& s, const std::string& part) { return s.find(part) != s.npos; }

std::string wrong_rules() {
  const auto folder = std::filesystem::path(OPGRAD_COMMAND).parent_path() / "tests/plugins";
  return " --plugin '" + (folder / "wrong_rules.so").string() + "'";
}

// The names, dtypes, orders, ... of a report, each once.
template <class T>
std::set<T> all(const Result& r, const char* field) {
  std::set<T> out;
  const auto report = nlohmann::json::parse(r.out);
  for (const auto& o : report["operations"]) out.insert(o[field].get<T>());
  return out;
}

}  // namespace

TEST_CASE("gradtest command: a right operation passes with 0, and the seed is printed") {
  const Result r = run("tanh --seed 42");
  CHECK(r.code == 0);
  CHECK(std::regex_search(r.out, std::regex("\ntanh +f32 +1 .* pass\n")));
  CHECK(std::regex_search(
      r.out,
      std::regex("\n1 operation: 1 passed, 0 wrong, 0 inconclusive, 0 missing, 0 skipped; power at least "
                 "[0-9.]+e-[0-9]+; seed 42; [0-9.]+ s\n$")));
}

TEST_CASE("gradtest command: a wrong rule ends with 1, is explained, and gives a test to paste") {
  const Result r = run("test.doubled" + wrong_rules());
  CHECK(r.code == 1);
  for (const char* part : {"test.doubled f64 order 1: gradient", "claimed / true is 2", "smallest case found",
                           "TEST_CASE(\"test.doubled: gradient of x[0], f64\")"})
    CHECK_MESSAGE(contains(r.out, part), r.out);
}

TEST_CASE("gradtest command: what cannot be decided ends with 2") {
  const Result r = run("test.constant" + wrong_rules());
  CHECK_MESSAGE(r.code == 2, r.out);
  CHECK(contains(r.out, "0 passed, 0 wrong, 1 inconclusive"));
}

TEST_CASE("gradtest command: an operation without examples ends with 3") {
  const Result r = run("test.unshown" + wrong_rules());
  CHECK_MESSAGE(r.code == 3, r.out);
  CHECK(contains(r.out, "1 missing"));
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
    const Result r = run_aloud(wrong);
    CHECK_MESSAGE(r.code == 4, wrong << ": " << r.out);
    CHECK_MESSAGE(contains(r.out, "Usage:"), wrong << ": " << r.out);
  }
}

TEST_CASE("gradtest command: an unknown name is answered with names that are near") {
  const Result r = run_aloud("sigmoyd");
  CHECK(r.code == 4);
  CHECK(contains(r.out, "no operation is called sigmoyd"));
  CHECK(contains(r.out, "near it: sigmoid"));
}

TEST_CASE("gradtest command: a plug-in that is refused ends with 4 and the reason") {
  const Result r = run_aloud("tanh --plugin /nowhere/none.so");
  CHECK(r.code == 4);
  CHECK(contains(r.out, "/nowhere/none.so"));
}

TEST_CASE("gradtest command: a name is exact first, else a regular expression for whole names") {
  CHECK(all<std::string>(run("exp --report json"), "name") == std::set<std::string>{"exp"});
  CHECK(all<std::string>(run("'max.*um|ex.' --report json"), "name") ==
        std::set<std::string>{"exp", "maximum"});
}

TEST_CASE("gradtest command: --dtype and --order choose the rows, and the name may follow") {
  const Result r = run("--dtype f64 --order 2 --report json tanh");
  CHECK(r.code == 0);
  CHECK(all<std::string>(r, "dtype") == std::set<std::string>{"f64"});
  CHECK(all<int>(r, "order") == std::set<int>{2});
  const Result both = run("tanh --dtype f32,f64 --order 1,2 --report json");
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
  CHECK(nlohmann::json::parse(run("tanh --report json --seed 5").out)["seed"] == 5);
}

TEST_CASE("gradtest command: every form of the report is what it says, with nothing around it") {
  const std::string name = "test.doubled --dtype f64 " + wrong_rules();
  const Result json = run(name + " --report json");
  CHECK(json.code == 1);
  CHECK(nlohmann::json::parse(json.out)["operations"][0]["verdict"] == "wrong");
  const Result junit = run(name + " --report junit");
  CHECK(junit.code == 1);
  CHECK(xml_fault(junit.out) == "");
  CHECK(contains(junit.out, "<failure type=\"wrong\""));
  const Result markdown = run(name + " --report markdown");
  CHECK(markdown.code == 1);
  CHECK(markdown.out.starts_with("| name | dtype |"));
  CHECK(contains(markdown.out, "| test.doubled | f64 | 1 |"));
  const Result table = run(name + " --report table");
  CHECK(table.code == 1);
  CHECK(table.out.starts_with("name "));
}

TEST_CASE("gradtest command: progress is shown on terminals only") {
  CHECK_FALSE(contains(run_aloud("tanh").out, "\r"));
}

TEST_CASE(
    "gradtest command: --mutants prints the table of wrong rules, and ends with 0 when all are rejected") {
  const Result r = run("tanh --mutants");
  CHECK_MESSAGE(r.code == 0, r.out);
  CHECK(contains(r.out, "tanh"));
  CHECK(contains(r.out, "killed"));
}

TEST_CASE("gradtest command: --mutants ends with 1 where the rule itself is rejected, which shows nothing") {
  CHECK(run("test.doubled --mutants" + wrong_rules()).code == 1);
}

TEST_CASE("gradtest command: --mutants ends with 3 where no rule can be made wrong") {
  CHECK(run("argmax --mutants").code == 3);
}

TEST_CASE("gradtest command: --all tests every operation but those of the engine") {
  const Result r = run("--all --report json");
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
