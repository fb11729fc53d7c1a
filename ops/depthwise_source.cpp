// The copies that depthwise kernels make.
#include "depthwise_source.h"

#include <algorithm>
#include <cstring>

namespace opgrad {
namespace {

using Size = std::int64_t;

template <Size M, class T>
void spread_pixel(const T* from, Size count, Size multiplier, T* to) {
  const Size m = M ? M : multiplier;
  for (Size c = 0; c < count; ++c)
    for (Size q = 0; q < m; ++q) to[c * m + q] = from[c];
}

template <Size M, class T>
void add_pixel(const T* from, Size count, Size multiplier, T* to) {
  const Size m = M ? M : multiplier;
  for (Size c = 0; c < count; ++c) {
    T sum = from[c * m];
    for (Size q = 1; q < m; ++q) sum += from[c * m + q];
    to[c] = sum;
  }
}

}  // namespace

template <class T>
void spread(const Image<T>& image, Range rows, Size first, Size count, Size multiplier,
            const PixelLayout& layout, T* to) {
  const auto each = [&](auto pixel) {
    for (Size r = rows.begin; r < rows.end; ++r) {
      const T* from = image.data + r * image.columns * image.channels + first;
      T* line = to + (r - layout.first_row) * layout.line;
      for (Size phase = 0; phase < std::min(layout.phases, image.columns); ++phase) {
        T* at = line + phase * layout.phase;
        for (Size k = phase; k < image.columns; k += layout.phases, at += layout.pixel)
          pixel(from + k * image.channels, at);
      }
    }
  };
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
  if (multiplier == 1)
    each([&](const T* from, T* at) { std::memcpy(at, from, bytes); });
  else if (multiplier == 2)
    each([&](const T* from, T* at) { spread_pixel<2>(from, count, 2, at); });
  else if (multiplier == 4)
    each([&](const T* from, T* at) { spread_pixel<4>(from, count, 4, at); });
  else if (multiplier == 8)
    each([&](const T* from, T* at) { spread_pixel<8>(from, count, 8, at); });
  else
    each([&](const T* from, T* at) { spread_pixel<0>(from, count, multiplier, at); });
}

template <class T>
void add_multiples(const T* from, Size pixels, Size count, Size multiplier, T* to, Size to_pixel) {
  for (Size i = 0; i < pixels; ++i, from += count * multiplier, to += to_pixel) {
    if (multiplier == 2)
      add_pixel<2>(from, count, multiplier, to);
    else
      add_pixel<0>(from, count, multiplier, to);
  }
}

template void spread(const Image<float>&, Range, Size, Size, Size, const PixelLayout&, float*);
template void spread(const Image<double>&, Range, Size, Size, Size, const PixelLayout&, double*);
template void add_multiples(const float*, Size, Size, Size, float*, Size);
template void add_multiples(const double*, Size, Size, Size, double*, Size);

}  // namespace opgrad
