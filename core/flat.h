// Inside the room: one loop over dense memory, which elementwise operations and folds share.
#pragma once
#include "loops.h"

namespace opgrad::detail {

// Elements that one thread takes at a time.
inline constexpr std::int64_t parallel_grain = 16384;

// A loop for one dtype: which function, how many lanes, how wide the elements are.
struct Loop {
  void (*run)(const Strip&);
  int arity;
  std::int64_t lanes;
  std::int64_t bytes[3], out_bytes;
};

// n elements. Input k is dense at in[k], or the one value at in[k] where splat[k].
void run_flat(const Loop& loop, const std::byte* const* in, const bool* splat, std::byte* out,
              std::int64_t n);

// InternalError: `what` has a dtype that the kernel was not made for.
[[noreturn]] void refuse(const char* what, DType t);

}  // namespace opgrad::detail
