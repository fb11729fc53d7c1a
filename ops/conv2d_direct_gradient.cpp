// The groups, bands and tiles of the kernel's gradient.
#include "conv2d_direct_gradient.h"

#include <vector>

#include "conv2d_boxes.h"
#include "conv2d_source.h"
#include "conv2d_tiles.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

constexpr Size most_groups = 8;
constexpr Size partial_bytes = Size{8} << 20;  // for all groups together
constexpr Size band_bytes = 128 << 10;         // of x and delta: lines that are in cache for all taps
constexpr Size short_segment = 5;              // shorter ones leave registers empty

// Independent of the instruction set, as plans are.
Size padded(Size channels, std::size_t element_bytes) {
  const Size wide = 64 / static_cast<Size>(element_bytes);
  return divide_up(channels, wide) * wide;
}

Size groups_of(const ConvSizes& s, std::size_t element_bytes) {
  const Size bytes = s.depth() * padded(s.out, element_bytes) * static_cast<Size>(element_bytes);
  const Size most = std::clamp<Size>(partial_bytes / bytes, 1, most_groups);
  return std::clamp<Size>(divide_up(s.pixels(), 64), 1, std::min(most, s.batch * s.out_rows));
}

// All that a band's tiles share.
template <class T>
struct Job {
  const ConvSizes& s;
  const T *x, *delta;
  T* sum;      // [depth][width]
  Size width;  // padded
  Size lanes, vectors;
  int packs;
  Size first, end;            // of the tiles, counted over blocks and taps: this piece's
  std::vector<Size> offsets;  // of the columns
};

template <class T>
Size channel(const Job<T>& j, Size vector) {
  return std::max<Size>(0, std::min(vector * j.lanes, j.s.out - j.lanes));
}

// Taps [begin, end) of the depth, which are of kernel row `row`, or, where that is negative, of several.
struct Taps {
  Size begin, end, row;
};

// The depth in tiles: runs of each segment, cut evenly.
std::vector<Taps> tiles_of(const ConvSizes& s, Size segment, bool scattered, int packs) {
  std::vector<Taps> tiles;
  const Size run = scattered ? s.depth() : segment, row = s.kernel_columns * s.in;
  const Size count = divide_up(run, tile_height(packs));
  for (Size at = 0; at < s.depth(); at += run)
    for (Size i = 0; i < count; ++i)
      tiles.push_back({at + i * run / count, at + (i + 1) * run / count, scattered ? -1 : at / row});
  return tiles;
}

// Adds what pixels `p` of lines `lines` of an image give.
template <class T>
void add_band(const Job<T>& j, const std::vector<Taps>& tiles, Size image, Range lines, Range p,
              bool scattered) {
  const ConvSizes& s = j.s;
  thread_local Source<T> source;
  thread_local std::vector<Size> offsets;
  const auto row_of = [&](Size line, Size m) { return line * s.strides[0] + m * s.dilations[0] - s.top; };
  Range rows{row_of(lines.begin, 0), row_of(lines.end - 1, s.kernel_rows - 1) + 1};
  if (!scattered) rows = {std::clamp<Size>(rows.begin, 0, s.rows), std::clamp<Size>(rows.end, 0, s.rows)};
  locate<T>({j.x + image * s.rows * s.columns * s.in, s.rows, s.columns, s.in}, j.offsets, s.strides[1], rows,
            p, source);

  const Size pixels = p.end - p.begin;
  const T* d = j.delta + ((image * s.out_rows + lines.begin) * s.out_columns + p.begin) * s.out;
  Size d_step = s.out, d_line = s.out_columns * s.out;
  if (s.out < j.lanes) {
    T* to = thread_buffer<2, T>((lines.end - lines.begin) * pixels * j.lanes);
    for (Size i = 0; i < lines.end - lines.begin; ++i)
      for (Size k = 0; k < pixels; ++k) {
        T* at = to + (i * pixels + k) * j.lanes;
        std::copy_n(d + i * d_line + k * d_step, s.out, at);
        std::fill(at + s.out, at + j.lanes, T{});
      }
    d = to;
    d_step = j.lanes;
    d_line = pixels * j.lanes;
  }

  if (scattered) {
    offsets.clear();
    for (Size m = 0; m < s.kernel_rows; ++m)
      for (const Size segment : source.segments)
        for (Size k = 0; k < source.length; ++k)
          offsets.push_back(m * s.dilations[0] * source.line + segment + k);
  }
  const auto count = static_cast<Size>(tiles.size()), row_taps = s.kernel_columns * s.in;
  for (Size i = j.first; i < j.end; ++i) {
    const Size block = i / count, first = block * j.packs * j.lanes;
    const Size vectors = std::min<Size>(j.packs, j.vectors - block * j.packs);
    const Taps& taps = tiles[static_cast<std::size_t>(i % count)];
    Range of = lines;
    Size at = (row_of(lines.begin, 0) - source.first_row) * source.line;
    if (!scattered) {
      // Lines whose row for these taps lies in the image.
      const Size start = s.top - taps.row * s.dilations[0];
      of.begin = std::max(of.begin, start <= 0 ? 0 : divide_up(start, s.strides[0]));
      of.end = s.rows + start <= 0 ? 0 : std::min(of.end, divide_up(s.rows + start, s.strides[0]));
      if (of.begin >= of.end) continue;
      const Size k = taps.begin - taps.row * row_taps;
      at = (row_of(of.begin, taps.row) - source.first_row) * source.line +
           source.segments[static_cast<std::size_t>(k / source.length)] + k % source.length;
    }
    const GradientTile<T> tile{.x = source.data + at,
                               .x_step = source.step,
                               .x_line = s.strides[0] * source.line,
                               .offsets = scattered ? offsets.data() + taps.begin : nullptr,
                               .d = d + (of.begin - lines.begin) * d_line + first,
                               .d_step = d_step,
                               .d_line = d_line,
                               .last = channel(j, block * j.packs + vectors - 1) - first,
                               .lines = of.end - of.begin,
                               .pixels = pixels,
                               .sum = j.sum + taps.begin * j.width + first,
                               .width = j.width,
                               .fresh = false};
    gradient_tile<T>(static_cast<int>(vectors), static_cast<int>(taps.end - taps.begin), scattered)(&tile);
  }
}

// Lines [first, end) of all images; line i of image b is b * out_rows + i.
template <class T>
void add_lines(Job<T>& j, Size piece, Size pieces, Size first, Size end) {
  const ConvSizes& s = j.s;
  const Size row_taps = s.kernel_columns * s.in;
  const bool dense = s.dilations[1] == 1 || s.kernel_columns == 1;
  const Size segment = dense ? row_taps : s.in;
  // Tiles over several kernel rows need all of them, in the padding or not, which must not be far apart.
  const bool near = s.strides[0] <= 4 && s.dilations[0] <= 4;
  const bool scattered = near && segment <= short_segment && s.depth() > segment;
  for (Size n = 0; n < s.kernel_columns; ++n) j.offsets.push_back(n * s.dilations[1] - s.left);
  const std::vector<Taps> tiles = tiles_of(s, segment, scattered, j.packs);
  const Size all = static_cast<Size>(tiles.size()) * divide_up(j.vectors, j.packs);
  j.first = piece * all / pieces;
  j.end = (piece + 1) * all / pieces;
  for (Size i = j.first; i < j.end; ++i) {
    const Taps& t = tiles[static_cast<std::size_t>(i) % tiles.size()];
    const Size from = i / static_cast<Size>(tiles.size()) * j.packs * j.lanes;
    for (Size k = t.begin; k < t.end; ++k)
      std::fill(j.sum + k * j.width + from, j.sum + k * j.width + std::min(j.width, from + j.packs * j.lanes),
                T{});
  }

  const Size reads = std::min<Size>(s.strides[0], 4) * std::min<Size>(s.strides[1], 4);
  const Size pixel = (reads * s.in + s.out) * static_cast<Size>(sizeof(T));
  const Size fitting = std::max<Size>(1, band_bytes / pixel);
  const Size columns = std::min(s.out_columns, std::max<Size>(64, fitting));
  const Size height = std::max<Size>(1, fitting / columns);
  for (Size line = first; line < end;) {
    const Size image = line / s.out_rows, i = line % s.out_rows;
    const Size n = std::min({height, s.out_rows - i, end - line});
    for (Size c = 0; c < s.out_columns; c += columns)
      add_band(j, tiles, image, {i, i + n}, {c, std::min(c + columns, s.out_columns)}, scattered);
    line += n;
  }
}

template <class T>
struct AddGroups {
  template <int bytes>
  [[gnu::always_inline]] static void run(const T* partial, Size groups, Size apart, Size width, Size channels,
                                         Size rows, T* w) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    for (Size r = 0; r < rows; ++r, partial += width, w += channels)
      for (Size v = 0; v * N < channels; ++v) {
        const T* from = partial + v * N;
        Pack<T, N> sum = Pack<T, N>::load(from);
        for (Size g = 1; g < groups; ++g) sum = sum + Pack<T, N>::load(from + g * apart);
        if (channels >= N)
          sum.store(w + std::min<Size>(v * N, channels - N));
        else
          for (int i = 0; i < channels; ++i) w[i] = sum[i];
      }
  }
};

}  // namespace

template <class T>
void add_groups(const T* partial, Size groups, Size rows, Size width, Size channels, T* w) {
  parallel_ranges(rows, std::max<Size>(1, 4096 / width), [&](Size first, Size end) {
    in_vectors<AddGroups<T>>(partial + first * width, groups, rows * width, width, channels, end - first,
                             w + first * channels);
  });
}

template <class T>
void direct_kernel_gradient(const ConvSizes& s, const T* x, const T* delta, T* w, T* workspace) {
  const Size width = padded(s.out, sizeof(T)), groups = groups_of(s, sizeof(T)), depth = s.depth();
  const bool in_place = groups == 1 && width == s.out;
  const Size lanes = tile_lanes(sizeof(T)), vectors = divide_up(s.out, lanes);
  const int packs = tile_packs() == 4 && vectors > 2 ? 4 : 2;
  const Size pieces = divide_up(16, groups), lines = s.batch * s.out_rows;
  parallel_for(groups * pieces, [&](Size chunk) {
    const Size group = chunk / pieces;
    Job<T> job{s, x, delta, in_place ? w : workspace + group * depth * width, width, lanes, vectors, packs,
               0, 0, {}};
    const auto start = [&](Size g) {
      return s.batch >= groups ? g * s.batch / groups * s.out_rows : g * lines / groups;
    };
    add_lines(job, chunk % pieces, pieces, start(group), start(group + 1));
  });
  if (!in_place) add_groups<T>(workspace, groups, depth, width, s.out, w);
}

std::size_t direct_gradient_workspace(const ConvSizes& s, std::size_t element_bytes) {
  const Size width = padded(s.out, element_bytes), groups = groups_of(s, element_bytes);
  if (groups == 1 && width == s.out) return 0;
  return static_cast<std::size_t>(groups * s.depth() * width) * element_bytes;
}

template void direct_kernel_gradient(const ConvSizes&, const float*, const float*, float*, float*);
template void direct_kernel_gradient(const ConvSizes&, const double*, const double*, double*, double*);
template void add_groups(const float*, Size, Size, Size, Size, float*);
template void add_groups(const double*, Size, Size, Size, Size, double*);

}  // namespace opgrad
