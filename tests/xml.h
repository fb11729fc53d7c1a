// Whether a text is well-formed XML, as far as reports use it: elements, attributes, references; no comments.
#pragma once
#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

// What is wrong first, with the place; empty when nothing is.
inline std::string xml_fault(std::string_view s) {
  std::size_t at = 0;
  const auto fault = [&](const std::string& what) { return what + " at byte " + std::to_string(at); };
  const auto is_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  const auto name = [&] {
    const std::size_t from = at;
    while (at < s.size() && is_name(s[at])) ++at;
    return std::string(s.substr(from, at - from));
  };
  const auto space = [&] {
    while (at < s.size() && (s[at] == ' ' || s[at] == '\n')) ++at;
  };
  // A legal character or reference, stepped over.
  const auto character = [&]() -> bool {
    const auto c = static_cast<unsigned char>(s[at]);
    if (c == '<' || (c < 0x20 && c != '\n' && c != '\t' && c != '\r')) return false;
    if (c != '&') return ++at, true;
    const std::size_t end = s.find(';', at);
    if (end == s.npos) return false;
    const std::string_view reference = s.substr(at + 1, end - at - 1);
    at = end + 1;
    const std::set<std::string_view> known{"amp", "lt", "gt", "quot", "apos"};
    return known.contains(reference) ||
           (reference.size() > 1 && reference[0] == '#' &&
            std::ranges::all_of(reference.substr(1), [](char d) { return d >= '0' && d <= '9'; }));
  };

  if (s.starts_with("<?xml")) {
    at = s.find("?>");
    if (at == s.npos) return "a declaration without end";
    at += 2;
  }
  std::vector<std::string> open;
  bool root_seen = false;
  for (space(); at < s.size();) {
    if (s[at] != '<') {
      if (open.empty()) return fault("text outside the root");
      if (!character()) return fault("a bad character or reference");
      continue;
    }
    ++at;
    if (at < s.size() && s[at] == '/') {
      ++at;
      const std::string closed = name();
      if (open.empty() || open.back() != closed) return fault("</" + closed + "> closes nothing");
      open.pop_back();
      if (at >= s.size() || s[at] != '>') return fault("a bad end tag");
      ++at;
    } else {
      const std::string element = name();
      if (element.empty()) return fault("a tag without name");
      if (open.empty() && root_seen) return fault("a second root");
      root_seen = true;
      std::set<std::string> attributes;
      for (space(); at < s.size() && is_name(s[at]); space()) {
        if (!attributes.insert(name()).second) return fault("an attribute twice");
        if (s.substr(at, 2) != "=\"") return fault("an attribute without a quoted value");
        for (at += 2; at < s.size() && s[at] != '"';)
          if (!character()) return fault("a bad character in an attribute");
        ++at;
      }
      const bool empty = at < s.size() && s[at] == '/';
      if (empty) ++at;
      if (at >= s.size() || s[at] != '>') return fault("a bad start tag");
      ++at;
      if (!empty) open.push_back(element);
    }
    if (open.empty()) space();
  }
  if (!open.empty()) return "<" + open.back() + "> is never closed";
  return root_seen ? "" : "no element";
}
