// The lattices of both directions, and where their taps leave the image.
#include "conv2d_lattices.h"

#include <algorithm>

#include "conv2d_boxes.h"

namespace opgrad {

using Size = std::int64_t;

Lattices forward_lattices(Size taps, Size stride, Size dilation, Size pad) {
  Lattices l{stride, 1};
  Lattice& one = l.all.emplace_back(Lattice{0});
  one.taps.reserve(static_cast<std::size_t>(taps));
  one.offsets.reserve(static_cast<std::size_t>(taps));
  for (Size t = 0; t < taps; ++t) {
    one.taps.push_back(t);
    one.offsets.push_back(t * dilation - pad);
  }
  return l;
}

Lattices gradient_lattices(Size taps, Size stride, Size dilation, Size pad, Size outputs) {
  Lattices l{1, stride};
  l.all.reserve(static_cast<std::size_t>(std::min(stride, outputs)));
  for (Size first = 0; first < std::min(stride, outputs); ++first) {
    Lattice& one = l.all.emplace_back(Lattice{first});
    for (Size t = taps - 1; t >= 0; --t)
      if (const Size from = first + pad - t * dilation; from % stride == 0) {
        one.taps.push_back(t);
        one.offsets.push_back(from / stride);
      }
  }
  return l;
}

Range points(const Lattices& l, const Lattice& one, Size from, Size to) {
  const auto before = [&](Size output) {
    return output <= one.first ? 0 : divide_up(output - one.first, l.distance);
  };
  return {before(from), before(to)};
}

std::pmr::vector<Segment> segments(const Lattices& l, const Lattice& one, Range p, Size size) {
  std::pmr::vector<Segment> all(scratch());
  const auto& o = one.offsets;
  // The first point whose input by a tap lies at `input` or after it.
  const auto reaches = [&](Size tap, Size input) {
    const Size way = input - o[static_cast<std::size_t>(tap)];
    return way <= 0 ? 0 : divide_up(way, l.step);
  };
  while (p.begin < p.end) {
    const Size at = p.begin * l.step;
    const auto begin = std::lower_bound(o.begin(), o.end(), -at),
               end = std::lower_bound(begin, o.end(), size - at);
    const Range taps{begin - o.begin(), end - o.begin()};
    // Further on, a tap before these may come in, and the last of these or of those before may leave.
    Size next = p.end;
    if (taps.begin > 0) next = std::min(next, reaches(taps.begin - 1, 0));
    if (taps.begin < taps.end) next = std::min(next, reaches(taps.end - 1, size));
    all.push_back({{p.begin, next}, taps});
    p.begin = next;
  }
  return all;
}

}  // namespace opgrad
