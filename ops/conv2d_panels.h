// Panels: the patches of x that some output pixels see, one row for each, unfolded from x and folded back.
#pragma once
#include <cstddef>
#include <memory>
#include <new>

#include "conv2d_kernels.h"

namespace opgrad {

// The taps of kernel rows [first_tap_row, end_tap_row) of pixels [first, end).
struct Panel {
  std::int64_t first, end, first_tap_row, end_tap_row;
};

// Writes the panel's patches one behind the other, zeros where they lie in the padding. T is float or double,
// here and below.
template <class T>
void unfold(const ConvSizes& s, const Panel& p, const T* x, T* panel);

// Adds a panel to x's gradient, of which only elements [begin, end) are ours.
template <class T>
void fold_back(const ConvSizes& s, const Panel& p, const T* panel, T* x, std::int64_t begin,
               std::int64_t end);

// to[i] += from[i] for n elements.
template <class T>
void add_to(T* to, const T* from, std::int64_t n);

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Release {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
};

// Memory that the thread keeps, aligned to 64 bytes, of at least so many elements. Which: a thread may need
// two at once.
template <int which, class T>
T* thread_buffer(std::int64_t elements) {
  thread_local std::unique_ptr<std::byte, Release> memory;
  thread_local std::int64_t capacity = 0;
  const std::int64_t bytes = elements * static_cast<std::int64_t>(sizeof(T));
  if (bytes > capacity) {
    capacity = 0;
    memory.reset();
    memory.reset(
        static_cast<std::byte*>(::operator new (static_cast<std::size_t>(bytes), std::align_val_t{64})));
    capacity = bytes;
  }
  return reinterpret_cast<T*>(memory.get());
}

}  // namespace opgrad
