// Kernels run on plain vectors, on every instruction set, for the tests of loops, packs and folds.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "../core/loops.h"
#include "../core/parallel.h"

namespace opgrad::test {

// Sets instructions and threads back at the end of a test.
struct Restore {
  Isa before = isa();
  int threads_before = threads();
  ~Restore() {
    set_isa(before);
    set_threads(threads_before);
  }
};

// Calls f on every instruction set this machine has.
template <class F>
void on_each_isa(F f) {
  const Restore restore;
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    set_isa(static_cast<Isa>(i));
    INFO("on " << std::string(name_of(isa())));
    f();
  }
}

template <class T>
std::vector<T> numbers(std::int64_t n, std::uint64_t seed = 1) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (auto& x : v) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    x = static_cast<T>(static_cast<std::int64_t>(seed >> 40) % 2001 - 1000) /
        static_cast<T>(std::is_floating_point_v<T> ? 128 : 1);
  }
  return v;
}

template <class T>
View dense(std::vector<T>& v, const Shape& s) {
  return dense_view(v.data(), {dtype_of<T>, s});
}
// bool arrays: std::vector<bool> has no memory of its own to look at.
inline View dense_bool(std::vector<std::uint8_t>& v, const Shape& s) {
  return dense_view(v.data(), {DType::bool_, s});
}

inline void run(const Kernel& k, std::vector<View> in, const View& out) {
  KernelArgs a;
  a.in = in;
  a.out = out;
  k.run(a);
}

// Memory and strides of a view.
struct Layout {
  Shape shape;
  std::vector<std::int64_t> strides;
  std::int64_t origin, memory;
};
template <class T>
View view_of(std::vector<T>& memory, const Layout& l) {
  View v{memory.data() + l.origin, {dtype_of<T>, l.shape}, {}};
  std::copy(l.strides.begin(), l.strides.end(), v.strides.begin());
  return v;
}
template <class T>
std::vector<T> dense_copy(const View& v) {
  std::vector<T> d(static_cast<std::size_t>(v.numel()) + 1);
  copy(v, dense_view(d.data(), v.type));
  return d;
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace opgrad::test
