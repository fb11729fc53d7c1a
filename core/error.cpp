#include "error.h"

#include <fmt/format.h>

namespace opgrad {

void internal_check(bool ok, const char* condition, const char* file, int line) {
  if (ok) return;
  throw InternalError(fmt::format("internal error in opgrad at {}:{}: {} does not hold; please report this",
                                  file, line, condition));
}

}  // namespace opgrad
