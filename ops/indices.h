// What operations that are indexed by tensors of integers share: which indices they take.
#pragma once
#include <cstdint>
#include <span>

#include "../core/view.h"
#include "../graph/ir.h"

namespace opgrad {

// For shape rules: UserError unless input i holds integers.
void need_integers(const Call& call, int i);

// For kernels: UserError for the first index outside [0, limit). The indices are dense. `labels`: they are
// the classes of a cross-entropy.
void check_range(const char* operation, const View& indices, std::int64_t limit, bool labels = false,
                 std::int64_t first_row = 0);

// Calls f.template operator()<I>() with the C++ type of an integer dtype.
template <class F>
void dispatch_integer(DType t, F f) {
  if (t == DType::i32) return f.template operator()<std::int32_t>();
  if (t == DType::u8) return f.template operator()<std::uint8_t>();
  f.template operator()<std::int64_t>();
}

// The sizes of head, then those of tail.
Shape joined(const Shape& head, std::span<const std::int64_t> tail);

}  // namespace opgrad
