// The kernel's gradient: groups of lines, whose sums are added in the end, in the order of the groups. Cuts
// follow from the sizes alone.
#include <algorithm>

#include "depthwise_kernels.h"
#include "depthwise_rectangles.h"
#include "depthwise_tiles.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

constexpr Size most_groups = 16;               // of all examples together
constexpr Size partial_bytes = Size{8} << 20;  // of their sums
constexpr Size group_pixels = 64;              // at least
constexpr Size band_bytes = 256 << 10;         // of delta: lines that stay in cache for all taps

Size padded(Size channels, std::size_t element_bytes) {
  const Size wide = 64 / static_cast<Size>(element_bytes);
  return divide_up(channels, wide) * wide;
}

// Groups of the lines of each example.
Size groups_of(const DepthwiseSizes& s, std::size_t element_bytes) {
  const Size bytes = s.kernel_size() * static_cast<Size>(element_bytes), examples = s.batch / s.images;
  const Size most = std::clamp<Size>(std::min(partial_bytes / bytes, most_groups) / examples, 1, most_groups);
  const Size lines = s.images * s.out_rows;
  return std::clamp<Size>(divide_up(lines * s.out_columns, group_pixels), 1, std::min(most, lines));
}

template <class T>
struct Job {
  const DepthwiseSizes& s;
  DepthwiseGrid grid;
  const T *x, *delta;
  Size block, bands;  // channels, lines

  bool few() const { return s.out() < depthwise_lanes(sizeof(T)); }
};

// Adds what lines of one image give to the sums of channels [begin, end).
template <class T>
void add_lines(const Job<T>& j, Size image, Range lines, Size begin, Size end, T* sums) {
  Rectangles rectangles;
  const DepthwiseSizes& s = j.s;
  const Box box{image, image + 1, lines.begin, lines.end, 0, s.out_columns};
  const Range rows = rows_read(j.grid, box);
  const Image<T> x{j.x + image * s.rows * s.columns * s.channels, s.rows, s.columns, s.channels};
  const Image<T> d{j.delta + image * s.out_rows * s.out_columns * s.out(), s.out_rows, s.out_columns,
                   s.out()};
  const Size slack = 64 / static_cast<Size>(sizeof(T));
  PixelLayout known{0, 0, -1};
  Size known_width = 0;
  for (Size first = begin, last; first < end; first = last) {
    last = block_end(first, j.block, s.channels, sizeof(T));
    const Size width = (last - first) * s.multiplier;
    PixelLayout from{0, s.columns * s.channels, s.channels}, by{0, s.out_columns * s.out(), s.out()};
    const T *in = x.data + first, *delta = d.data + first * s.multiplier;
    Scratch<T> spread_out, side_by_side;
    if (s.multiplier > 1 || j.few()) {
      from = {rows.begin, s.columns * width, width};
      spread_out = Scratch<T>((rows.end - rows.begin) * from.line + slack);
      T* const to = spread_out.data();
      spread(x, rows, first, last - first, s.multiplier, from, to);
      std::fill_n(to + (rows.end - rows.begin) * from.line, slack, T{});
      in = to;
    }
    if (j.few()) {
      by = {lines.begin, s.out_columns * width, width};
      side_by_side = Scratch<T>((lines.end - lines.begin) * by.line + slack);
      T* const to = side_by_side.data();
      spread(d, lines, 0, width, 1, by, to);
      std::fill_n(to + (lines.end - lines.begin) * by.line, slack, T{});
      delta = to;
    }
    const Size slots = padded(width, sizeof(T));
    if (known.pixel != from.pixel || known_width != slots) {
      find_rectangles(j.grid, box, from, slots, rectangles);
      known = from;
      known_width = slots;
    }
    for (const Rectangle& one : rectangles.all) {
      const DepthwiseSums<T> tile{
          .x = in,
          .first = (one.lines.begin * s.strides[0] - from.first_row) * from.line +
                   one.points.begin * s.strides[1] * from.pixel,
          .x_row = s.strides[0] * from.line,
          .x_step = s.strides[1] * from.pixel,
          .d = delta + (one.lines.begin - by.first_row) * by.line + one.points.begin * by.pixel,
          .d_row = by.line,
          .d_step = by.pixel,
          .sums = sums,
          .rows = one.lines.end - one.lines.begin,
          .columns = one.points.end - one.points.begin,
          .channels = width,
          .offsets = rectangles.offsets.data() + one.first,
          .weights = rectangles.weights.data() + one.first,
          .taps = one.taps,
          .run = one.run};
      depthwise_sums(tile);
    }
    sums += s.taps() * slots;
  }
}

// Calls f(first channel, their number, slots of the sums).
template <class F>
void for_blocks(Size begin, Size end, Size block, Size channels, Size multiplier, std::size_t bytes, F f) {
  for (Size first = begin, last; first < end; first = last) {
    last = block_end(first, block, channels, bytes);
    f(first, last - first, padded((last - first) * multiplier, bytes));
  }
}

// The sums of lines [first, end) of an example, for channels [begin, stop), to a kernel of sums.
template <class T>
void add_group(const Job<T>& j, Size example, Size first, Size end, Size begin, Size stop, T* to) {
  const DepthwiseSizes& s = j.s;
  Size slots = 0;
  const auto blocks = [&](auto f) {
    for_blocks(begin, stop, j.block, s.channels, s.multiplier, sizeof(T), f);
  };
  blocks([&](Size, Size, Size n) { slots += n; });
  const Scratch<T> memory(s.taps() * slots);
  T* const sums = memory.data();
  std::fill_n(sums, s.taps() * slots, T{});
  for (Size line = first; line < end;) {
    const Size image = line / s.out_rows, i = line % s.out_rows;
    const Size n = std::min({j.bands, s.out_rows - i, end - line});
    add_lines(j, example * s.images + image, {i, i + n}, begin, stop, sums);
    line += n;
  }
  const T* from = sums;
  const Size lanes = depthwise_lanes(sizeof(T));
  blocks([&](Size channel, Size count, Size n) {
    const Size width = count * s.multiplier;
    for (Size tap = 0; tap < s.taps(); ++tap, from += n) {
      T* const at = to + tap * s.out() + channel * s.multiplier;
      // The last vector holds the last channels, some of them for a second time.
      const Size whole = width < lanes ? width : width / lanes * lanes, rest = width - whole;
      std::copy_n(from, whole, at);
      std::copy_n(from + whole + (rest ? lanes - rest : 0), rest, at + whole);
    }
  });
}

template <class T>
struct AddGroups {
  template <int bytes>
  [[gnu::always_inline]] static void run(const T* partial, Size groups, Size apart, Size n, T* w) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    Size i = 0;
    for (; i + N <= n; i += N) {
      Pack<T, N> sum = Pack<T, N>::load(partial + i);
      for (Size g = 1; g < groups; ++g) sum = sum + Pack<T, N>::load(partial + g * apart + i);
      sum.store(w + i);
    }
    for (; i < n; ++i) {
      T sum = partial[i];
      for (Size g = 1; g < groups; ++g) sum += partial[g * apart + i];
      w[i] = sum;
    }
  }
};

}  // namespace

template <class T>
void depthwise_kernel_gradient(const DepthwiseSizes& s, const T* x, const T* delta, T* w, T* workspace) {
  const Size line_bytes = s.out_columns * s.out() * static_cast<Size>(sizeof(T));
  Job<T> j{s,
           {s.rows, s.columns, s.kernel_columns,
            forward_lattices(s.kernel_rows, s.strides[0], s.dilations[0], s.top),
            forward_lattices(s.kernel_columns, s.strides[1], s.dilations[1], s.left)},
           x,
           delta,
           0,
           std::max<Size>(1, band_bytes / line_bytes)};
  const Size rows = std::min(
      s.rows, (j.bands - 1) * std::min(s.strides[0], s.rows) + (s.kernel_rows - 1) * s.dilations[0] + 1);
  const Size copied = s.multiplier == 1 ? 0 : rows * s.columns;
  j.block = j.few() ? s.channels : block_channels(s.channels, s.multiplier, copied, sizeof(T));
  const Size groups = groups_of(s, sizeof(T)), examples = s.batch / s.images, kernel = s.kernel_size();
  const Size pieces = std::min(divide_up(most_groups, groups * examples), divide_up(s.channels, j.block)),
             lines = s.images * s.out_rows;
  const auto start = [&](Size g) {
    return s.images >= groups ? g * s.images / groups * s.out_rows : g * lines / groups;
  };
  // Pieces are of whole blocks, as many as there are beginnings of blocks before the last.
  Size blocks = 0;
  for_blocks(0, s.channels, j.block, s.channels, 1, sizeof(T), [&](Size, Size, Size) { ++blocks; });
  const auto channel = [&](Size piece) {
    return piece == pieces ? s.channels : std::min(s.channels, piece * blocks / pieces * j.block);
  };
  parallel_for(examples * groups * pieces, [&](Size chunk) {
    const Size piece = chunk % pieces, group = chunk / pieces % groups, example = chunk / pieces / groups;
    const Size begin = channel(piece), end = channel(piece + 1);
    if (begin == end) return;
    T* const to = groups == 1 ? w + example * kernel : workspace + (example * groups + group) * kernel;
    add_group(j, example, start(group), start(group + 1), begin, end, to);
  });
  if (groups == 1) return;
  parallel_ranges(kernel, 4096, [&](Size first, Size end) {
    for (Size e = 0; e < examples; ++e)
      in_vectors<AddGroups<T>, const T*, Size, Size, Size, T*>(
          workspace + e * groups * kernel + first, groups, kernel, end - first, w + e * kernel + first);
  });
}

std::size_t depthwise_gradient_workspace(const DepthwiseSizes& s, std::size_t element_bytes) {
  const Size groups = groups_of(s, element_bytes);
  return groups == 1
             ? 0
             : static_cast<std::size_t>(s.batch / s.images * groups * s.kernel_size()) * element_bytes;
}

template void depthwise_kernel_gradient(const DepthwiseSizes&, const float*, const float*, float*, float*);
template void depthwise_kernel_gradient(const DepthwiseSizes&, const double*, const double*, double*,
                                        double*);

}  // namespace opgrad
