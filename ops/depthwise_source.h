// What depthwise kernels read and write beside the arrays themselves: each channel as often as it has
// multiples, pixels that are a stride apart side by side, and the sums over a channel's multiples.
#pragma once
#include <cstdint>

#include "conv2d_source.h"

namespace opgrad {

// Where pixels lie. Row r starts at (r - first_row)*line; in it column k lies at (k mod phases)*phase +
// (k / phases)*pixel.
struct PixelLayout {
  std::int64_t first_row, line, pixel, phases = 1, phase = 0;

  std::int64_t column(std::int64_t k) const {
    if (phases == 1) return k * pixel;
    const std::int64_t remainder = (k % phases + phases) % phases;
    return remainder * phase + (k - remainder) / phases * pixel;
  }
};

// Copies channels [first, first + count) of these rows of an image, each `multiplier` times, to where the
// layout says.
template <class T>
void spread(const Image<T>& image, Range rows, std::int64_t first, std::int64_t count,
            std::int64_t multiplier, const PixelLayout& layout, T* to);

// to[i*to_pixel + c] = sum over q < multiplier of from[i*count*multiplier + c*multiplier + q], for pixels i
// and c < count, from the first to the last.
template <class T>
void add_multiples(const T* from, std::int64_t pixels, std::int64_t count, std::int64_t multiplier, T* to,
                   std::int64_t to_pixel);

}  // namespace opgrad
