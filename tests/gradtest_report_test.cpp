// The gradient tester's reports, from rows made by hand.
#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "../ops/gradtest/gradtest.h"
#include "xml.h"

using namespace opgrad;

namespace {

GradtestRow row(const std::string& name, Verdict verdict, DType dtype = DType::f64, int order = 1) {
  GradtestRow r;
  r.name = name;
  r.dtype = dtype;
  r.order = order;
  r.verdict = verdict;
  return r;
}

GradtestRow tested(const std::string& name, Verdict verdict, double power) {
  GradtestRow r = row(name, verdict);
  r.cases = 5;
  r.max_error = 3.25e-15;
  r.bound = 1.5e-13;
  r.power = power;
  r.controls = 12;
  r.not_applicable = 3;
  r.kinks = 2;
  return r;
}

GradtestReport report(std::vector<GradtestRow> rows) {
  GradtestReport r;
  r.rows = std::move(rows);
  r.seed = 17;
  r.seconds = 3.44;
  return r;
}

// One of each verdict, with all that a row can hold.
GradtestReport mixed() {
  GradtestReport r =
      report({tested("tanh", Verdict::pass, 2e-13), tested("mine.long_name", Verdict::wrong, 1.2e-9),
              row("noise", Verdict::inconclusive), row("bare", Verdict::missing),
              row("argmax", Verdict::skipped), row("argmax", Verdict::skipped, DType::f32)});
  r.rows[0].identities = {"tanh' = 1 - y^2: holds to 2e-16"};
  r.rows[1].failures.push_back({"gradient", Verdict::wrong,
                                "element 1 is 4, but should be 2 & no \"more\" <0>",
                                "example 2 of 5, seed 17: f64[2, 3]", "a factor 2 is too much",
                                "input 0 = {1}\nclaimed 4", "TEST_CASE(\"x\") {\n}\n"});
  r.rows[2].failures.push_back({"noise", Verdict::inconclusive, "no digits left", "", "", "", ""});
  r.rows[4].skips = r.rows[5].skips = {"no_gradient: an index"};
  return r;
}

bool contains(const std::string& s, const std::string& part) { return s.find(part) != s.npos; }

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("gradtest report: every verdict has its name") {
  CHECK(name_of(Verdict::pass) == "pass");
  CHECK(name_of(Verdict::wrong) == "wrong");
  CHECK(name_of(Verdict::inconclusive) == "inconclusive");
  CHECK(name_of(Verdict::missing) == "missing");
  CHECK(name_of(Verdict::skipped) == "skipped");
}

TEST_CASE("gradtest report: passed means that there are rows, each passed or skipped") {
  CHECK(report({row("a", Verdict::pass), row("b", Verdict::skipped)}).passed());
  CHECK_FALSE(report({}).passed());
  for (const Verdict v : {Verdict::wrong, Verdict::inconclusive, Verdict::missing})
    CHECK_FALSE(report({row("a", Verdict::pass), row("b", v)}).passed());
}

TEST_CASE("gradtest report: the exit code is that of the gravest verdict") {
  const auto code = [](std::vector<GradtestRow> rows) { return report(std::move(rows)).exit_code(); };
  const auto a = [](Verdict v) { return row("a", v); };
  CHECK(code({a(Verdict::pass), a(Verdict::skipped)}) == 0);
  CHECK(code({a(Verdict::pass), a(Verdict::inconclusive)}) == 2);
  CHECK(code({a(Verdict::inconclusive), a(Verdict::missing)}) == 3);
  CHECK(code({a(Verdict::missing), a(Verdict::inconclusive), a(Verdict::wrong)}) == 1);
  CHECK(code({}) == 3);
}

TEST_CASE("gradtest report: the table has one aligned line per row, under its head") {
  const std::vector<std::string> lines = lines_of(mixed().table());
  REQUIRE(lines.size() > 7);
  for (const char* head :
       {"name", "dtype", "order", "cases", "max error", "bound", "power", "controls", "kinks", "verdict"})
    CHECK_MESSAGE(contains(lines[0], head), head);
  const std::size_t verdict = lines[0].find("verdict"), dtype = lines[0].find("dtype");
  const char* verdicts[] = {"pass", "wrong", "inconclusive", "missing", "skipped", "skipped"};
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(lines[i + 1].substr(verdict) == verdicts[i]);
    CHECK(lines[i + 1].substr(dtype, 3) == (i == 5 ? "f32" : "f64"));
  }
  CHECK(contains(lines[1], " 3.2e-15  "));
  CHECK(contains(lines[1], " 1.5e-13  "));
  CHECK(contains(lines[1], " 2.0e-13  "));
  CHECK(contains(lines[1], " 12 (3 n/a)  "));
}

TEST_CASE("gradtest report: below the table stand identities, counted skips, and failures in full") {
  const std::string table = mixed().table();
  CHECK(contains(table, "tanh f64 order 1: tanh' = 1 - y^2: holds to 2e-16"));
  CHECK(contains(table, "left out (1):\n  argmax: no_gradient: an index (2 times)"));
  for (const char* part : {"mine.long_name f64 order 1: gradient", "element 1 is 4, but should be 2",
                           "example 2 of 5, seed 17", "diagnosis: a factor 2 is too much", "input 0 = {1}",
                           "claimed 4", "TEST_CASE(\"x\") {", "no digits left"})
    CHECK_MESSAGE(contains(table, part), part);
}

TEST_CASE("gradtest report: the last line counts operations by their gravest verdict, not rows") {
  CHECK(lines_of(mixed().table()).back() ==
        "5 operations: 1 passed, 1 wrong, 1 inconclusive, 1 missing, 1 skipped; power at least 1.2e-09; seed "
        "17; "
        "3.4 s");
  const GradtestReport one =
      report({row("a", Verdict::pass), row("a", Verdict::skipped, DType::f32), row("a", Verdict::wrong)});
  CHECK(contains(one.table(), "1 operation: 0 passed, 1 wrong, 0 inconclusive"));
  CHECK_FALSE(contains(one.table(), "power at least"));
}

TEST_CASE("gradtest report: JSON gives back every field of every row") {
  const GradtestReport r = mixed();
  const auto parsed = nlohmann::json::parse(r.json());
  CHECK(parsed["seed"] == 17);
  CHECK(parsed["seconds"] == doctest::Approx(3.44));
  CHECK(parsed["summary"]["operations"] == 5);
  CHECK(parsed["summary"]["wrong"] == 1);
  CHECK(parsed["summary"]["exit_code"] == 1);
  REQUIRE(parsed["operations"].size() == r.rows.size());
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const auto& o = parsed["operations"][i];
    CHECK(o["name"] == r.rows[i].name);
    CHECK(o["dtype"] == std::string(name_of(r.rows[i].dtype)));
    CHECK(o["order"] == r.rows[i].order);
    CHECK(o["cases"] == r.rows[i].cases);
    CHECK(o["max_error"] == r.rows[i].max_error);
    CHECK(o["bound"] == r.rows[i].bound);
    CHECK(o["power"] == r.rows[i].power);
    CHECK(o["kinks"] == r.rows[i].kinks);
    CHECK(o["controls"] == r.rows[i].controls);
    CHECK(o["not_applicable"] == r.rows[i].not_applicable);
    CHECK(o["verdict"] == std::string(name_of(r.rows[i].verdict)));
    CHECK(o["identities"].get<std::vector<std::string>>() == r.rows[i].identities);
    CHECK(o["skips"].get<std::vector<std::string>>() == r.rows[i].skips);
    REQUIRE(o["failures"].size() == r.rows[i].failures.size());
  }
  const auto& failure = parsed["operations"][1]["failures"][0];
  const GradtestFailure& f = r.rows[1].failures[0];
  CHECK(failure["check"] == f.check);
  CHECK(failure["verdict"] == "wrong");
  CHECK(failure["message"] == f.message);
  CHECK(failure["example"] == f.example);
  CHECK(failure["diagnosis"] == f.diagnosis);
  CHECK(failure["minimal"] == f.minimal);
  CHECK(failure["doctest"] == f.doctest);
}

TEST_CASE("gradtest report: JSON stands numbers that are not finite and text that is not UTF-8") {
  GradtestReport r = report({tested("a", Verdict::wrong, 1)});
  r.rows[0].max_error = std::numeric_limits<double>::quiet_NaN();
  r.rows[0].bound = std::numeric_limits<double>::infinity();
  r.rows[0].name = "bad \xff name";
  const auto parsed = nlohmann::json::parse(r.json());
  CHECK(parsed["operations"][0]["max_error"].is_null());
  CHECK(parsed["operations"][0]["bound"].is_null());
}

TEST_CASE("gradtest report: JUnit is well-formed and counts a case per row") {
  const std::string xml = mixed().junit();
  CHECK(xml_fault(xml) == "");
  CHECK(contains(xml, "tests=\"6\" failures=\"1\" errors=\"2\" skipped=\"2\""));
  CHECK(contains(xml, "<property name=\"seed\" value=\"17\"/>"));
  CHECK(
      contains(xml,
               "<failure type=\"wrong\" message=\"element 1 is 4, but should be 2 &amp; no &quot;more&quot; "
               "&lt;0&gt;\">"));
  CHECK(contains(xml, "<error type=\"inconclusive\" message=\"no digits left\">"));
  CHECK(contains(xml, "<skipped message=\"no_gradient: an index\"/>"));
}

TEST_CASE("gradtest report: JUnit stays well-formed whatever the messages hold") {
  GradtestReport r = mixed();
  std::string all;
  for (int c = 1; c < 128; ++c) all += static_cast<char>(c);
  r.rows[1].name = all;
  r.rows[1].failures[0].message = all;
  r.rows[4].skips = {all};
  CHECK(xml_fault(r.junit()) == "");
}

TEST_CASE("gradtest report: the check of XML sees what is not well-formed") {
  CHECK(xml_fault("<?xml version=\"1.0\"?>\n<a b=\"c&amp;\"><d/>text</a>\n") == "");
  for (const char* bad : {"<a><b></a></b>", "<a>", "</a>", "<a b=\"<\"/>", "<a b=c/>", "<a>&</a>",
                          "<a>&who;</a>", "<a>\x01</a>", "<a/><b/>", "", "<a b=\"1\" b=\"2\"/>"})
    CHECK_MESSAGE(xml_fault(bad) != "", bad);
}

TEST_CASE("gradtest report: Markdown is a table of as many columns in every line") {
  GradtestReport r = mixed();
  r.rows[0].name = "a|b";
  const std::vector<std::string> lines = lines_of(r.markdown());
  const auto bars = [](const std::string& line) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < line.size(); ++i) n += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
    return n;
  };
  REQUIRE(lines.size() > 8);
  for (std::size_t i = 0; i < 8; ++i) CHECK(bars(lines[i]) == 11);
  CHECK(lines[1].starts_with("|---|"));
  CHECK(contains(lines[2], "| a\\|b | f64 | 1 | 5 |"));
  CHECK(contains(r.markdown(), "element 1 is 4"));
}
