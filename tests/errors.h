// The text of a refusal, for tests that hold errors to their words.
#pragma once
#include <string>
#include <string_view>

#include "../core/error.h"

namespace opgrad::test {

// What the error says that f() throws; "no error" if it throws none of this kind.
template <class E = UserError>
std::string message(auto&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "no error";
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace opgrad::test
