// Lines and pieces of printed text, and the form of a drawing, for the tests of reports.
#pragma once
#include <sstream>
#include <string>
#include <vector>

#include "errors.h"

namespace opgrad::test {

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The lines that contain `part`.
inline std::vector<std::string> lines_with(const std::string& text, const std::string& part) {
  std::vector<std::string> found;
  for (const std::string& line : lines_of(text))
    if (contains(line, part)) found.push_back(line);
  return found;
}

inline std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++n;
  return n;
}

// Outside quotes every brace and bracket has its partner, and the last brace ends the text.
inline bool balanced(const std::string& dot) {
  std::string open;
  bool quoted = false;
  for (std::size_t i = 0; i < dot.size(); ++i) {
    const char c = dot[i];
    if (quoted && c == '\\') {
      ++i;
      continue;
    }
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == '{' || c == '[') open += c;
    if (c == '}' || c == ']') {
      if (open.empty() || open.back() != (c == '}' ? '{' : '[')) return false;
      open.pop_back();
      if (open.empty() && dot.find_first_not_of('\n', i + 1) != dot.npos) return false;
    }
  }
  return open.empty() && !quoted && dot.starts_with("digraph ");
}

}  // namespace opgrad::test
