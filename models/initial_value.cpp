// The rules of Glorot and He, by counter-based random numbers.
#include "initial_value.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "../core/loops.h"
#include "../core/parallel.h"

namespace opgrad {

namespace {

template <class T>
void fill(Initializer initializer, std::uint64_t stream, std::int64_t fan_in, std::int64_t fan_out,
          std::span<T> out) {
  const Key key{stream, 0};
  const auto in = static_cast<double>(fan_in), both = static_cast<double>(fan_in + fan_out);
  const auto uniform = [&](double limit) {
    parallel_ranges(std::ssize(out), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      T* x = out.data() + begin;
      fill_uniform(key, begin, end - begin, x);
      for (std::int64_t i = 0; i < end - begin; ++i)
        x[i] = static_cast<T>(limit * (2 * static_cast<double>(x[i]) - 1));
    });
  };
  switch (initializer) {
    case Initializer::glorot_uniform:
      return uniform(std::sqrt(6 / both));
    case Initializer::he_uniform:
      return uniform(std::sqrt(6 / in));
    case Initializer::he_normal: {
      // The deviation of a standard normal cut at +-2 is this much less than 1.
      const double scale = std::sqrt(2 / in) / 0.87962566103423978;
      const std::int64_t n = std::ssize(out);
      fill_normal(key, 0, n, out.data());
      for (std::int64_t i = 0; i < n; ++i) {
        T& x = out[static_cast<std::size_t>(i)];
        for (std::int64_t again = i + n; std::abs(x) > 2; again += n) fill_normal(key, again, 1, &x);
        x = static_cast<T>(scale * static_cast<double>(x));
      }
      return;
    }
    case Initializer::zeros:
      return std::fill(out.begin(), out.end(), T(0));
    case Initializer::ones:
      return std::fill(out.begin(), out.end(), T(1));
  }
}

}  // namespace

Tensor initial_value(Initializer initializer, std::uint64_t stream, std::int64_t fan_in, std::int64_t fan_out,
                     const Shape& shape, DType dtype) {
  const auto count = static_cast<std::size_t>(shape.numel());
  BufferRef buffer = allocate(count * size_of(dtype));
  dispatch_float(dtype, [&]<class T>() {
    fill(initializer, stream, fan_in, fan_out, std::span<T>(reinterpret_cast<T*>(buffer->data), count));
  });
  return leaf(std::move(buffer), dtype, shape, {});
}

}  // namespace opgrad
