// What the gradient tester found, as a table, Markdown, JSON and JUnit XML, and as an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gradtest.h"

namespace opgrad {
namespace {

// An operation is as good as its worst row. A row that was skipped says nothing, so any other outranks it.
int severity(Verdict v) {
  switch (v) {
    case Verdict::wrong:
      return 4;
    case Verdict::missing:
      return 3;
    case Verdict::inconclusive:
      return 2;
    case Verdict::pass:
      return 1;
    case Verdict::skipped:
      break;
  }
  return 0;
}

constexpr Verdict all_verdicts[] = {Verdict::pass, Verdict::wrong, Verdict::inconclusive, Verdict::missing,
                                    Verdict::skipped};

struct Summary {
  std::map<std::string, Verdict> operations;
  double power = 0;  // of the weakest row; 0 when none was tested

  explicit Summary(const GradtestReport& report) {
    for (const GradtestRow& row : report.rows) {
      const auto [at, fresh] = operations.emplace(row.name, row.verdict);
      if (!fresh && severity(row.verdict) > severity(at->second)) at->second = row.verdict;
      if (row.verdict != Verdict::skipped) power = std::max(power, row.power);
    }
  }
  auto count(Verdict v) const {
    return std::ranges::count_if(operations, [v](const auto& o) { return o.second == v; });
  }
};

// 0 stands for "nothing was measured".
std::string scientific(double x) { return x == 0 ? "0" : fmt::format("{:.1e}", x); }
std::string measured(double x) { return x == 0 ? "-" : fmt::format("{:.1e}", x); }

std::string summary_line(const GradtestReport& report) {
  const Summary s(report);
  std::string line = fmt::format("{} operation{}:", s.operations.size(), s.operations.size() == 1 ? "" : "s");
  const char* before = " ";
  for (const Verdict v : all_verdicts) {
    line += fmt::format("{}{} {}", before, s.count(v), v == Verdict::pass ? "passed" : name_of(v));
    before = ", ";
  }
  if (s.power > 0) line += fmt::format("; power at least {:.1e}", s.power);
  return line + fmt::format("; seed {}; {:.1f} s", report.seed, report.seconds);
}

constexpr const char* heads[] = {"name",  "dtype", "order",    "cases", "max error",
                                 "bound", "power", "controls", "kinks", "verdict"};
constexpr std::size_t columns = std::size(heads);

std::vector<std::string> cells(const GradtestRow& row) {
  return {row.name,
          std::string(name_of(row.dtype)),
          fmt::to_string(row.order),
          fmt::to_string(row.cases),
          row.cases ? scientific(row.max_error) : "-",
          measured(row.bound),
          measured(row.power),
          row.not_applicable ? fmt::format("{} ({} n/a)", row.controls, row.not_applicable)
                             : fmt::to_string(row.controls),
          fmt::to_string(row.kinks),
          std::string(name_of(row.verdict))};
}

std::string title(const GradtestRow& row) {
  return fmt::format("{} {} order {}", row.name, name_of(row.dtype), row.order);
}

// Lines of `text`, each moved right.
std::string indented(const std::string& text, const std::string& by) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) out += by + text.substr(at, end - at);
    out += '\n';
    at = end + 1;
  }
  return out;
}

std::string described(const GradtestFailure& f) {
  std::string out = fmt::format("{}: {}\n", name_of(f.verdict), f.message);
  if (!f.example.empty()) out += fmt::format("  at {}\n", f.example);
  if (!f.diagnosis.empty()) out += fmt::format("  diagnosis: {}\n", f.diagnosis);
  if (!f.minimal.empty()) out += "  smallest case found:\n" + indented(f.minimal, "    ");
  if (!f.doctest.empty()) out += "  a test to paste:\n" + indented(f.doctest, "    ");
  return out;
}

// XML 1.0 has no word for most control characters; line ends in attributes must be written as references.
std::string xml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\n')
      out += "&#10;";
    else if (c == '\t' || static_cast<unsigned char>(c) >= 0x20)
      out += c;
    else
      out += '?';
  }
  return out;
}

// Many rows have the same reason.
std::map<std::string, int> counted_skips(const GradtestReport& report) {
  std::map<std::string, int> counts;
  for (const GradtestRow& row : report.rows)
    for (const std::string& skip : row.skips) ++counts[row.name + ": " + skip];
  return counts;
}

}  // namespace

std::string_view name_of(Verdict v) {
  constexpr std::string_view names[] = {"pass", "wrong", "inconclusive", "missing", "skipped"};
  return names[static_cast<int>(v)];
}

bool GradtestReport::passed() const {
  return !rows.empty() && std::ranges::all_of(rows, [](const GradtestRow& row) {
    return row.verdict == Verdict::pass || row.verdict == Verdict::skipped;
  });
}

int GradtestReport::exit_code() const {
  const auto any = [&](Verdict v) {
    return std::ranges::any_of(rows, [v](const GradtestRow& row) { return row.verdict == v; });
  };
  if (any(Verdict::wrong)) return 1;
  if (rows.empty() || any(Verdict::missing)) return 3;
  return any(Verdict::inconclusive) ? 2 : 0;
}

std::string GradtestReport::table() const {
  std::vector<std::vector<std::string>> lines{{std::begin(heads), std::end(heads)}};
  for (const GradtestRow& row : rows) lines.push_back(cells(row));
  std::size_t width[columns] = {};
  for (const auto& line : lines)
    for (std::size_t c = 0; c < columns; ++c) width[c] = std::max(width[c], line[c].size());

  std::string out;
  for (const auto& line : lines) {
    // Words to the left, numbers to the right, so that their digits stand below each other.
    for (std::size_t c = 0; c + 1 < columns; ++c)
      out += c < 2 ? fmt::format("{:<{}}  ", line[c], width[c]) : fmt::format("{:>{}}  ", line[c], width[c]);
    out += line.back() + "\n";
  }

  std::string identities;
  for (const GradtestRow& row : rows)
    for (const std::string& identity : row.identities)
      identities += fmt::format("  {}: {}\n", title(row), identity);
  if (!identities.empty()) out += "\nidentities:\n" + identities;

  if (const auto skips = counted_skips(*this); !skips.empty()) {
    out += fmt::format("\nleft out ({}):\n", skips.size());
    for (const auto& [reason, count] : skips)
      out += count == 1 ? fmt::format("  {}\n", reason) : fmt::format("  {} ({} times)\n", reason, count);
  }
  for (const GradtestRow& row : rows)
    for (const GradtestFailure& f : row.failures)
      out += fmt::format("\n{}: {}\n{}", title(row), f.check, indented(described(f), "  "));
  return out + "\n" + summary_line(*this) + "\n";
}

std::string GradtestReport::markdown() const {
  const auto line = [](const std::vector<std::string>& words) {
    std::string out = "|";
    for (const std::string& word : words) {
      out += " ";
      for (const char c : word) out += c == '|' ? "\\|" : std::string(1, c);
      out += " |";
    }
    return out + "\n";
  };
  std::string out =
      line({std::begin(heads), std::end(heads)}) + "|---|---|---:|---:|---:|---:|---:|---:|---:|---|\n";
  for (const GradtestRow& row : rows) out += line(cells(row));
  for (const GradtestRow& row : rows)
    for (const GradtestFailure& f : row.failures)
      out += fmt::format("\n**{}: {}**\n\n```\n{}```\n", title(row), f.check, described(f));
  return out + "\n" + summary_line(*this) + "\n";
}

std::string GradtestReport::json() const {
  using nlohmann::json;
  json operations = json::array();
  for (const GradtestRow& row : rows) {
    json failures = json::array();
    for (const GradtestFailure& f : row.failures)
      failures.push_back({{"check", f.check},
                          {"verdict", name_of(f.verdict)},
                          {"message", f.message},
                          {"example", f.example},
                          {"diagnosis", f.diagnosis},
                          {"minimal", f.minimal},
                          {"doctest", f.doctest}});
    operations.push_back({{"name", row.name},
                          {"dtype", name_of(row.dtype)},
                          {"order", row.order},
                          {"cases", row.cases},
                          {"max_error", row.max_error},
                          {"bound", row.bound},
                          {"power", row.power},
                          {"kinks", row.kinks},
                          {"controls", row.controls},
                          {"not_applicable", row.not_applicable},
                          {"verdict", name_of(row.verdict)},
                          {"identities", row.identities},
                          {"skips", row.skips},
                          {"failures", std::move(failures)}});
  }
  const Summary s(*this);
  json counts = {{"operations", s.operations.size()}, {"power", s.power}, {"exit_code", exit_code()}};
  for (const Verdict v : all_verdicts) counts[std::string(name_of(v))] = s.count(v);
  const json all = {{"seed", seed},
                    {"seconds", seconds},
                    {"summary", std::move(counts)},
                    {"operations", std::move(operations)}};
  // Names and messages may come from outside; what is not UTF-8 in them must not end the run.
  return all.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string GradtestReport::junit() const {
  std::size_t failed = 0, broken = 0, left_out = 0;
  std::string cases;
  for (const GradtestRow& row : rows) {
    cases += fmt::format("  <testcase classname=\"{}\" name=\"{}\"", xml(row.name), xml(title(row)));
    if (row.verdict == Verdict::pass) {
      cases += "/>\n";
      continue;
    }
    std::string reason, text;
    for (const std::string& skip : row.skips) reason += (reason.empty() ? "" : "; ") + skip;
    for (const GradtestFailure& f : row.failures) text += f.check + ": " + described(f) + "\n";
    if (row.verdict == Verdict::skipped) {
      ++left_out;
      cases += fmt::format(">\n    <skipped message=\"{}\"/>\n  </testcase>\n", xml(reason));
      continue;
    }
    // JUnit's two words: a failure is what the test found; an error kept it from finding out.
    const bool failure = row.verdict == Verdict::wrong;
    ++(failure ? failed : broken);
    const std::string& message = row.failures.empty() ? reason : row.failures.front().message;
    cases += fmt::format(">\n    <{0} type=\"{1}\" message=\"{2}\">{3}</{0}>\n  </testcase>\n",
                         failure ? "failure" : "error", name_of(row.verdict), xml(message), xml(text));
  }
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuite name=\"opgrad gradtest\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" "
      "time=\"{:.3f}\">\n"
      "  <properties>\n    <property name=\"seed\" value=\"{}\"/>\n"
      "    <property name=\"summary\" value=\"{}\"/>\n  </properties>\n{}</testsuite>\n",
      rows.size(), failed, broken, left_out, seconds, seed, xml(summary_line(*this)), cases);
}

}  // namespace opgrad
