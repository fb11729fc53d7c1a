// Words and texts of attribute fields.
#include "attributes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <span>

#include "../core/error.h"

namespace opgrad {

void Axes::push_back(std::int64_t v) {
  if (count == max_rank) throw UserError("a list of axes has at most 8 entries");
  values[static_cast<std::size_t>(count++)] = v;
}

void append_words(Words& w, const Axes& v) {
  append_words(w, v.count);
  for (const std::int64_t x : v) append_words(w, x);
}

void append_words(Words& w, const Shape& v) { w.push_back(intern(v)); }

void append_refs(AttributeRefs& r, const char* f, Axes& v) {
  for (int i = 0; i < v.size(); ++i) r.push_back({.field = f, .index = i, .integer = &v[i]});
}

std::string field_text(std::int64_t v) { return std::to_string(v); }
std::string field_text(double v) { return fmt::format("{}", v); }
std::string field_text(bool v) { return v ? "true" : "false"; }
std::string field_text(DType v) { return std::string(name_of(v)); }
std::string field_text(const Axes& v) {
  return fmt::format("[{}]", fmt::join(std::span(v.begin(), static_cast<std::size_t>(v.size())), ", "));
}
std::string field_text(const Shape& v) { return to_string(v); }

}  // namespace opgrad
