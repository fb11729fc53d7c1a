// What a kernel is called with. A kernel reads its input views and fills its output view; it owns nothing,
// allocates nothing it keeps, and may throw (its step then has no effect).
#pragma once
#include <cstdint>
#include <span>

#include "parallel.h"
#include "view.h"

namespace opgrad {

// Told of pieces of a result while they are hot: elements [begin, end), counted row-major, have their final
// values. Pieces do not overlap and come from any thread, several at once.
using Finished = FunctionRef<void(std::int64_t begin, std::int64_t end)>;

// Makes elements [begin, end) of a value, counted row-major, densely at `to`. Each element is asked for once,
// by any thread, several at once.
using Producer = FunctionRef<void(std::int64_t begin, std::int64_t end, std::byte* to)>;

struct KernelArgs {
  std::span<const View> in;
  View out;                            // dense unless the operation is a view
  const void* attrs = nullptr;         // the operation's attribute struct
  void* workspace = nullptr;           // Op::workspace bytes, 64-byte aligned
  const Finished* finished = nullptr;  // set for operations with Traits::pieces alone, which cover all of out
  // Set for kernels that consume pieces alone: makes in[0], which then has no data.
  const Producer* producer = nullptr;
  // Where these rows begin in the whole, when they are a block of it; for Op::over_rows also how many that
  // has.
  std::int64_t first_row = 0, all_rows = 0;

  template <class A>
  const A& attributes() const {
    return *static_cast<const A*>(attrs);
  }
};

// `run` works on the element types that the shape rule admits. `dual` is the same formula on dual numbers
// (core/dual.h, views of Dual elements): the step-free oracle of the gradient tests. Kernels made by map1,
// map2, map3 have both; a plain function converts to a Kernel without `dual`.
namespace detail {
struct MapTable;
}

struct Kernel {
  using Function = void (*)(const KernelArgs&);
  Function run = nullptr;
  Function dual = nullptr;
  int inputs = 0;                         // how many it takes; 0: not said
  const detail::MapTable* map = nullptr;  // of map1, map2, map3: the loops behind `run`, by type
  bool consumes_pieces = false;           // understands KernelArgs::producer; fold does

  constexpr Kernel() = default;
  constexpr Kernel(Function f, Function d = nullptr, int count = 0, const detail::MapTable* m = nullptr)
      : run(f), dual(d), inputs(count), map(m) {}
  template <class F>
  requires std::is_convertible_v<F, Function>
  constexpr Kernel(F f) : run(f) {}
};

}  // namespace opgrad
