// What a kernel is called with. A kernel reads its input views and fills its output view; it owns nothing,
// allocates nothing it keeps, and may throw (its step then has no effect).
#pragma once
#include <span>

#include "view.h"

namespace opgrad {

struct KernelArgs {
  std::span<const View> in;
  View out;                     // dense unless the operation is a view
  const void* attrs = nullptr;  // the operation's attribute struct
  void* workspace = nullptr;    // Op::workspace bytes, 64-byte aligned

  template <class A>
  const A& attributes() const {
    return *static_cast<const A*>(attrs);
  }
};

// `run` works on the element types that the shape rule admits. `dual` is the same formula on dual numbers
// (core/dual.h, views of Dual elements): the step-free oracle of the gradient tests. Kernels made by map1,
// map2, map3 have both; a plain function converts to a Kernel without `dual`.
struct Kernel {
  using Function = void (*)(const KernelArgs&);
  Function run = nullptr;
  Function dual = nullptr;
  int inputs = 0;  // how many it takes; 0: not said

  constexpr Kernel() = default;
  constexpr Kernel(Function f, Function d = nullptr, int count = 0) : run(f), dual(d), inputs(count) {}
  template <class F>
  requires std::is_convertible_v<F, Function>
  constexpr Kernel(F f) : run(f) {}
};

}  // namespace opgrad
