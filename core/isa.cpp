// The choice of vector instructions.
#include "isa.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "error.h"

namespace opgrad {

namespace detail {
constinit std::atomic<int> chosen_isa{-1};

Isa choose_isa() {
  Isa choice = best_isa();
  if (const char* asked = std::getenv("OPGRAD_ISA"); asked && *asked) {
    int i = 0;
    while (i < isa_count && std::string_view(asked) != name_of(static_cast<Isa>(i))) ++i;
    if (i == isa_count)
      throw UserError(
          fmt::format("OPGRAD_ISA is '{}'; set it to baseline, avx2 or avx512, or leave it unset for the "
                      "best this machine has",
                      asked));
    choice = std::min(choice, static_cast<Isa>(i));
  }
  // A set_isa that came first stays.
  int unset = -1;
  return chosen_isa.compare_exchange_strong(unset, static_cast<int>(choice)) ? choice
                                                                             : static_cast<Isa>(unset);
}
}  // namespace detail

const char* name_of(Isa i) {
  constexpr const char* names[isa_count] = {"baseline", "avx2", "avx512"};
  return names[static_cast<int>(i)];
}

Isa best_isa() {
  static const Isa best = [] {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::baseline;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      return Isa::avx512;
    return Isa::avx2;
  }();
  return best;
}

void set_isa(Isa wanted) {
  if (wanted > best_isa())
    throw UserError(fmt::format("set_isa: {} was asked for, but this machine has no more than {}",
                                name_of(wanted), name_of(best_isa())));
  detail::chosen_isa.store(static_cast<int>(wanted), std::memory_order_relaxed);
}

}  // namespace opgrad
