// Errors of two kinds: UserError is the caller's fault and says how to put it right, InternalError is ours.
// This file may touch nothing else of opgrad.
#pragma once
#include <stdexcept>
#include <string>

namespace opgrad {

// Where the user wrote a call. Filled by __builtin_FILE()/__builtin_LINE() as default arguments; static
// storage.
struct Location {
  const char* file = "";
  int line = 0;
};

// Base of both kinds. what() is the whole message.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The call was wrong: the message names the operation, the numbers, the rule that failed and the way out.
class UserError : public Error {
 public:
  using Error::Error;
};

// opgrad broke one of its own promises; please report it.
class InternalError : public Error {
 public:
  using Error::Error;
};

// Throws InternalError naming file, line and `condition` when `ok` is false.
void internal_check(bool ok, const char* condition, const char* file = __builtin_FILE(),
                    int line = __builtin_LINE());

}  // namespace opgrad
