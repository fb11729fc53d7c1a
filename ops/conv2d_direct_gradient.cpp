// The parts, bands and tiles of the kernel's gradient.
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

constexpr Size fewest_parts = 8;               // as long as images and memory suffice
constexpr Size small_bytes = Size{512} << 10;  // for all parts together, to have many
constexpr Size partial_bytes = Size{8} << 20;  // and at most
constexpr Size band_bytes = 128 << 10;         // of x and delta: lines that are in cache for all taps
constexpr Size short_segment = 5;              // shorter ones leave registers empty

// Independent of the instruction set, as plans are.
Size padded(Size channels, std::size_t element_bytes) {
  const Size wide = 64 / static_cast<Size>(element_bytes);
  return divide_up(channels, wide) * wide;
}

// How lines of all images are cut into parts with sums of their own: parts of `images` each, or, where images
// are few, evenly.
struct Parts {
  Size count, images;  // 0 images: evenly
  Size first_line(const ConvSizes& s, Size part) const {
    const Size lines = s.batch * s.out_rows;
    return images > 0 ? std::min(part * images * s.out_rows, lines) : part * lines / count;
  }
};
Parts parts_of(const ConvSizes& s, std::size_t element_bytes) {
  const Size bytes = s.depth() * padded(s.out, element_bytes) * static_cast<Size>(element_bytes);
  const Size few = std::clamp<Size>(partial_bytes / bytes, 1, fewest_parts);
  if (s.batch < few)
    return {std::clamp<Size>(divide_up(s.pixels(), 64), 1, std::min(few, s.batch * s.out_rows)), 0};
  // The fewer images a part has, the more blocks of them begin with one.
  const Size most = divide_up(s.batch, few);
  Size images = 1;
  while (images < most &&
         (images * s.image_pixels() < 64 || divide_up(s.batch, images) * bytes > small_bytes))
    images *= 2;
  images = std::min(images, most);
  return {divide_up(s.batch, images), images};
}

// Taps [begin, end) of the depth, which are of kernel row `row`, or, where that is negative, of several.
struct Taps {
  Size begin, end, row;
};

// The depth in tiles: runs of each segment, cut evenly.
std::pmr::vector<Taps> tiles_of(const ConvSizes& s, Size segment, bool scattered, int packs) {
  std::pmr::vector<Taps> tiles(scratch());
  const Size run = scattered ? s.depth() : segment, row = s.kernel_columns * s.in;
  const Size count = divide_up(run, tile_height(packs));
  tiles.reserve(static_cast<std::size_t>(divide_up(s.depth(), run) * count));
  for (Size at = 0; at < s.depth(); at += run)
    for (Size i = 0; i < count; ++i)
      tiles.push_back({at + i * run / count, at + (i + 1) * run / count, scattered ? -1 : at / row});
  return tiles;
}

// All that bands share.
template <class T>
struct Job {
  const ConvSizes& s;
  const T *x, *delta;
  Size width;  // padded
  Size lanes, vectors;
  int packs;
  bool scattered;
  std::pmr::vector<Size> offsets{scratch()};  // of the columns
  std::pmr::vector<Taps> tiles{scratch()};

  Job(const ConvSizes& sizes, const T* from, const T* deltas)
      : s(sizes),
        x(from),
        delta(deltas),
        width(padded(s.out, sizeof(T))),
        lanes(tile_lanes(sizeof(T))),
        vectors(divide_up(s.out, lanes)),
        packs(tile_packs() == 4 && vectors > 2 ? 4 : 2) {
    const bool dense = s.dilations[1] == 1 || s.kernel_columns == 1;
    const Size segment = dense ? s.kernel_columns * s.in : s.in;
    // Tiles over several kernel rows need all of them, in the padding or not, which must not be far apart.
    const bool near = s.strides[0] <= 4 && s.dilations[0] <= 4;
    scattered = near && segment <= short_segment && s.depth() > segment;
    offsets.reserve(static_cast<std::size_t>(s.kernel_columns));
    for (Size n = 0; n < s.kernel_columns; ++n) offsets.push_back(n * s.dilations[1] - s.left);
    tiles = tiles_of(s, segment, scattered, packs);
  }
  Size channel(Size vector) const { return std::max<Size>(0, std::min(vector * lanes, s.out - lanes)); }
};

// Adds what pixels `p` of lines `lines` of an image give to `sum`, [depth][width]: tiles `which`, counted
// over blocks and taps.
template <class T>
void add_band(const Job<T>& j, T* sum, Range which, Size image, Range lines, Range p) {
  const ConvSizes& s = j.s;
  const bool scattered = j.scattered;
  const auto row_of = [&](Size line, Size m) { return line * s.strides[0] + m * s.dilations[0] - s.top; };
  Range rows{row_of(lines.begin, 0), row_of(lines.end - 1, s.kernel_rows - 1) + 1};
  if (!scattered) rows = {std::clamp<Size>(rows.begin, 0, s.rows), std::clamp<Size>(rows.end, 0, s.rows)};
  const Source<T> source = locate<T>({j.x + image * s.rows * s.columns * s.in, s.rows, s.columns, s.in},
                                     j.offsets, s.strides[1], rows, p);

  const Size pixels = p.end - p.begin;
  const T* d = j.delta + ((image * s.out_rows + lines.begin) * s.out_columns + p.begin) * s.out;
  Size d_step = s.out, d_line = s.out_columns * s.out;
  Scratch<T> widened;
  if (s.out < j.lanes) {
    widened = Scratch<T>((lines.end - lines.begin) * pixels * j.lanes);
    T* const to = widened.data();
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

  std::pmr::vector<Size> offsets(scratch());
  if (scattered) {
    offsets.reserve(static_cast<std::size_t>(s.depth()));
    for (Size m = 0; m < s.kernel_rows; ++m)
      for (const Size segment : source.segments)
        for (Size k = 0; k < source.length; ++k)
          offsets.push_back(m * s.dilations[0] * source.line + segment + k);
  }
  const auto count = static_cast<Size>(j.tiles.size()), row_taps = s.kernel_columns * s.in;
  for (Size i = which.begin; i < which.end; ++i) {
    const Size block = i / count, first = block * j.packs * j.lanes;
    const Size vectors = std::min<Size>(j.packs, j.vectors - block * j.packs);
    const Taps& taps = j.tiles[static_cast<std::size_t>(i % count)];
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
                               .last = j.channel(block * j.packs + vectors - 1) - first,
                               .lines = of.end - of.begin,
                               .pixels = pixels,
                               .sum = sum + taps.begin * j.width + first,
                               .width = j.width,
                               .fresh = false};
    gradient_tile<T>(static_cast<int>(vectors), static_cast<int>(taps.end - taps.begin), scattered)(&tile);
  }
}

// What lines [first, end) of all images give to `sum`; line i of image b is b * out_rows + i. One of so many
// pieces, which are of different taps and channels.
template <class T>
void fold_lines(const Job<T>& j, T* sum, Size piece, Size pieces, Size first, Size end) {
  const ConvSizes& s = j.s;
  const Size all = static_cast<Size>(j.tiles.size()) * divide_up(j.vectors, j.packs);
  const Range which{piece * all / pieces, (piece + 1) * all / pieces};
  for (Size i = which.begin; i < which.end; ++i) {
    const Taps& t = j.tiles[static_cast<std::size_t>(i) % j.tiles.size()];
    const Size from = i / static_cast<Size>(j.tiles.size()) * j.packs * j.lanes;
    for (Size k = t.begin; k < t.end; ++k)
      std::fill(sum + k * j.width + from, sum + k * j.width + std::min(j.width, from + j.packs * j.lanes),
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
      add_band(j, sum, which, image, {i, i + n}, {c, std::min(c + columns, s.out_columns)});
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
  const Parts parts = parts_of(s, sizeof(T));
  const Job<T> job(s, x, delta);
  const bool in_place = parts.count == 1 && job.width == s.out;
  const Size pieces = divide_up(16, parts.count), size = s.depth() * job.width;
  parallel_for(parts.count * pieces, [&](Size chunk) {
    const Size part = chunk / pieces;
    fold_lines(job, in_place ? w : workspace + part * size, chunk % pieces, pieces, parts.first_line(s, part),
               parts.first_line(s, part + 1));
  });
  if (!in_place) add_groups<T>(workspace, parts.count, s.depth(), job.width, s.out, w);
}

Size direct_gradient_part_images(const ConvSizes& s, std::size_t element_bytes) {
  const Parts parts = parts_of(s, element_bytes);
  return parts.count > 1 ? parts.images : 0;
}

template <class T>
void direct_gradient_parts(const ConvSizes& s, Size first, Size images, const T* x, const T* delta,
                           T* workspace) {
  ConvSizes own = s;
  own.batch = images;
  const Job<T> job(own, x, delta);
  const Size each = parts_of(s, sizeof(T)).images, size = s.depth() * job.width;
  for (Size at = 0; at < images; at += each)
    fold_lines(job, workspace + (first + at) / each * size, 0, 1, at * s.out_rows,
               std::min(at + each, images) * s.out_rows);
}

template <class T>
void direct_gradient_of_parts(const ConvSizes& s, const T* workspace, T* w) {
  add_groups<T>(workspace, parts_of(s, sizeof(T)).count, s.depth(), padded(s.out, sizeof(T)), s.out, w);
}

std::size_t direct_gradient_workspace(const ConvSizes& s, std::size_t element_bytes) {
  const Size width = padded(s.out, element_bytes), count = parts_of(s, element_bytes).count;
  if (count == 1 && width == s.out) return 0;
  return static_cast<std::size_t>(count * s.depth() * width) * element_bytes;
}

template void direct_gradient_parts(const ConvSizes&, Size, Size, const float*, const float*, float*);
template void direct_gradient_parts(const ConvSizes&, Size, Size, const double*, const double*, double*);
template void direct_gradient_of_parts(const ConvSizes&, const float*, float*);
template void direct_gradient_of_parts(const ConvSizes&, const double*, double*);
template void direct_kernel_gradient(const ConvSizes&, const float*, const float*, float*, float*);
template void direct_kernel_gradient(const ConvSizes&, const double*, const double*, double*, double*);
template void add_groups(const float*, Size, Size, Size, Size, float*);
template void add_groups(const double*, Size, Size, Size, Size, double*);

}  // namespace opgrad
