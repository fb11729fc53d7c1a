// Copies of image lines with borders of zeros.
#include "conv2d_source.h"

#include "conv2d_boxes.h"

namespace opgrad {

using Size = std::int64_t;

template <class T>
Source<T> locate(const Image<T>& image, std::span<const Size> offsets, Size step, Range rows, Range p) {
  Source<T> s;
  const Size channels = image.channels, count = static_cast<Size>(offsets.size()), pixels = p.end - p.begin;
  const Size low = p.begin * step + offsets.front(), high = (p.end - 1) * step + offsets.back() + 1;
  const bool copied = low < 0 || high > image.columns || rows.begin < 0 || rows.end > image.rows;
  const bool unfolded = copied && pixels * count < high - low;
  const bool dense = unfolded || offsets.back() - offsets.front() == count - 1;
  s.length = dense ? count * channels : channels;
  s.segments.reserve(dense ? 1 : offsets.size());
  for (const Size offset : offsets) {
    s.segments.push_back((offset - offsets.front()) * channels);
    if (dense) break;
  }
  s.first_row = rows.begin;
  if (!copied) {
    s.line = image.columns * channels;
    s.step = step * channels;
    s.data = image.data + (rows.begin * image.columns + low) * channels;
    return s;
  }
  s.line = (unfolded ? pixels * count : high - low) * channels;
  s.step = (unfolded ? count : step) * channels;
  s.copy = Scratch<T>(std::max<Size>(0, rows.end - rows.begin) * s.line);
  T* to = s.copy.data();
  s.data = to;
  // `n` columns of row r from `from` on, wherever they lie.
  const auto copy = [&](Size r, Size from, Size n) {
    const bool there = r >= 0 && r < image.rows;
    const Size before = there ? std::clamp<Size>(-from, 0, n) : n;
    const Size within = std::clamp<Size>(image.columns - from, before, n) - before;
    std::fill_n(to, before * channels, T{});
    if (within)
      std::copy_n(image.data + (r * image.columns + from + before) * channels, within * channels,
                  to + before * channels);
    std::fill_n(to + (before + within) * channels, (n - before - within) * channels, T{});
    to += n * channels;
  };
  for (Size r = rows.begin; r < rows.end; ++r) {
    if (!unfolded) {
      copy(r, low, high - low);
      continue;
    }
    for (Size j = p.begin; j < p.end; ++j)
      for (const Size offset : offsets) copy(r, j * step + offset, 1);
  }
  return s;
}

template Source<float> locate(const Image<float>&, std::span<const Size>, Size, Range, Range);
template Source<double> locate(const Image<double>&, std::span<const Size>, Size, Range, Range);

}  // namespace opgrad
