// Forward and input gradient by tiles, along the lattices of their outputs.
#include "conv2d_direct.h"

#include <cstring>
#include <memory_resource>
#include <vector>

#include "conv2d_boxes.h"
#include "conv2d_lattices.h"
#include "conv2d_source.h"
#include "conv2d_tiles.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

template <class T>
struct Correlation {
  Size batch, rows, columns, in, out_rows, out_columns, out, kernel_columns;
  Lattices down, across;
  const T* x;
  const T* w;  // of the whole convolution, [tap row][tap column][channel][channel]
  T* y;
  bool transposed;  // the last axis of w is that of x

  int packs = 0;
  Size lanes = 0, vectors = 0;
  Scratch<T> packed{};  // [lattices][block of channels][taps][in][channels of the block]; empty: w itself

  Size blocks() const { return divide_up(vectors, packs); }
  Size vectors_of(Size block) const { return std::min<Size>(packs, vectors - block * packs); }
  // The last vector of a tail is moved back: its first channels are computed twice.
  Size channel(Size vector) const { return std::max<Size>(0, std::min((vector)*lanes, out - lanes)); }
};

// ------------------------------------------------------------------------------------------------ weights

// As many vectors as leave tiles that fill the registers.
template <class T>
void choose_tiles(Correlation<T>& c) {
  c.lanes = tile_lanes(sizeof(T));
  c.vectors = divide_up(c.out, c.lanes);
  const Size line = divide_up(c.out_columns, c.across.distance);
  const auto height = [&](int packs) {
    const Size most = tile_height(packs);
    return divide_up(line, divide_up(line, most));
  };
  c.packs = 2;
  if (tile_packs() == 4 && c.vectors > 2 && height(2) <= tile_height(4)) c.packs = 4;
}

// Rows of one tap: [in][width] from [in][out], or from [out][in].
template <class T>
void pack_tap(const Correlation<T>& c, const T* tap, Size block, T* to) {
  const Size count = c.vectors_of(block), width = count * c.lanes;
  for (Size v = 0; v < count; ++v) {
    const Size first = c.channel(block * c.packs + v), n = std::min(c.lanes, c.out - first);
    T* at = to + v * c.lanes;
    for (Size k = 0; k < c.in; ++k) {
      if (c.transposed)
        for (Size i = 0; i < n; ++i) at[k * width + i] = tap[(first + i) * c.in + k];
      else
        std::memcpy(at + k * width, tap + k * c.out + first, static_cast<std::size_t>(n) * sizeof(T));
      std::fill(at + k * width + n, at + k * width + c.lanes, T{});
    }
  }
}

// Weights in the order in which tiles read them. Few pixels do not repay it, if w serves as it is.
template <class T>
void pack(Correlation<T>& c) {
  const Size pixels = c.batch * c.out_rows * c.out_columns;
  if (!c.transposed && c.out % c.lanes == 0 && pixels <= 512) return;
  Size depth = 0;
  std::pmr::vector<Size> starts(scratch());
  starts.reserve(c.down.all.size() * c.across.all.size());
  for (const Lattice& a : c.down.all)
    for (const Lattice& b : c.across.all) {
      starts.push_back(depth);
      depth += static_cast<Size>(a.taps.size() * b.taps.size()) * c.in;
    }
  c.packed = Scratch<T>(depth * c.vectors * c.lanes);
  T* const all = c.packed.data();
  const auto lattices = static_cast<Size>(starts.size()), blocks = c.blocks();
  const Size one = depth * c.vectors * c.lanes / (lattices * blocks);
  parallel_ranges(
      lattices * blocks, std::max<Size>(1, 16384 / std::max<Size>(1, one)), [&](Size begin, Size end) {
        for (Size i = begin; i < end; ++i) {
          const Size lattice = i / blocks, block = i % blocks;
          const auto wide = static_cast<Size>(c.across.all.size());
          const Lattice& a = c.down.all[static_cast<std::size_t>(lattice / wide)];
          const Lattice& b = c.across.all[static_cast<std::size_t>(lattice % wide)];
          const Size taps = static_cast<Size>(a.taps.size() * b.taps.size());
          T* to =
              all + (starts[static_cast<std::size_t>(lattice)] * c.vectors + taps * c.in * block * c.packs) *
                        c.lanes;
          for (const Size m : a.taps)
            for (const Size n : b.taps) {
              pack_tap(c, c.w + (m * c.kernel_columns + n) * c.in * c.out, block, to);
              to += c.in * c.vectors_of(block) * c.lanes;
            }
        }
      });
}

// ------------------------------------------------------------------------------------------------ boxes

// The pixels of one lattice in a box of one image, channels of blocks [first_block, end_block).
template <class T>
void compute(const Correlation<T>& c, Size image, const Lattice& a, const Lattice& b, Range lines, Range p,
             const T* packed, Size first_block, Size end_block) {
  const auto taps = static_cast<Size>(a.taps.size() * b.taps.size());
  const auto rows_of = [&](Size i) {
    const auto& o = a.offsets;
    const Size from = i * c.down.step;
    const auto begin = std::lower_bound(o.begin(), o.end(), -from),
               end = std::lower_bound(begin, o.end(), c.rows - from);
    return Range{begin - o.begin(), end - o.begin()};
  };
  Source<T> source;
  std::pmr::vector<Size> offsets(scratch());
  if (taps) {
    const Size low = lines.begin * c.down.step + a.offsets.front();
    const Size high = (lines.end - 1) * c.down.step + a.offsets.back();
    const Range rows{std::clamp<Size>(low, 0, c.rows), std::clamp<Size>(high + 1, 0, c.rows)};
    const Image<T> from{c.x + image * c.rows * c.columns * c.in, c.rows, c.columns, c.in};
    source = locate<T>(from, b.offsets, c.across.step, rows, p);
    offsets.reserve(a.taps.size() * source.segments.size());
  }
  for (Size block = first_block; block < end_block; ++block) {
    const Size vectors = c.vectors_of(block), first = block * c.packs * c.lanes;
    const LineTiles<T> run(static_cast<int>(vectors), p.end - p.begin);
    const Size width = packed ? vectors * c.lanes : c.out;
    const T* w = packed ? packed + taps * c.in * first : c.w + first;
    for (Size i = lines.begin; i < lines.end; ++i) {
      const Range t = rows_of(i);
      offsets.clear();
      for (Size m = t.begin; taps && m < t.end; ++m) {
        const Size row = i * c.down.step + a.offsets[static_cast<std::size_t>(m)] - source.first_row;
        for (const Size s : source.segments) offsets.push_back(row * source.line + s);
      }
      const Size out_row = a.first + i * c.down.distance, out_column = b.first + p.begin * c.across.distance;
      run({.x = source.data,
           .step = source.step,
           .offsets = offsets.data(),
           .segments = static_cast<Size>(offsets.size()),
           .length = source.length,
           .w = w + t.begin * static_cast<Size>(b.taps.size()) * c.in * width,
           .width = width,
           .y = c.y + ((image * c.out_rows + out_row) * c.out_columns + out_column) * c.out + first,
           .y_step = c.across.distance * c.out,
           .last = c.channel(block * c.packs + vectors - 1) - first,
           .lanes = std::min(c.lanes, c.out),
           .tiles = 0});
    }
  }
}

template <class T>
void compute(const Correlation<T>& c, const Box& box, Size first_block, Size end_block) {
  for (Size image = box.first_image; image < box.end_image; ++image) {
    const T* packed = c.packed.data();
    for (const Lattice& a : c.down.all) {
      const Range lines = points(c.down, a, box.first_row, box.end_row);
      for (const Lattice& b : c.across.all) {
        const Range p = points(c.across, b, box.first_column, box.end_column);
        if (lines.begin < lines.end && p.begin < p.end)
          compute(c, image, a, b, lines, p, packed, first_block, end_block);
        if (packed) packed += static_cast<Size>(a.taps.size() * b.taps.size()) * c.in * c.vectors * c.lanes;
      }
    }
  }
}

template <class T>
void correlate(Correlation<T>& c, const Finished* finished) {
  choose_tiles(c);
  pack(c);
  const Size pixel = c.out * static_cast<Size>(sizeof(T));
  // Of products; what waking a thread costs is some 20,000 of them.
  Size depth = c.in;
  for (const Lattices* l : {&c.down, &c.across}) {
    Size taps = 0;
    for (const Lattice& one : l->all) taps += static_cast<Size>(one.taps.size());
    depth *= std::max<Size>(1, taps / l->distance);
  }
  const Size least = divide_up(100000, depth * c.out);
  const Boxes boxes(c.batch, c.out_rows, c.out_columns, std::max<Size>(1, (64 << 10) / pixel), least);
  // Few boxes: channels are cut, too.
  const bool whole = c.out % c.lanes != 0 || runs_alone();
  const Size cuts = whole || boxes.count() >= 16 ? 1 : std::min(c.blocks(), divide_up(16, boxes.count()));
  parallel_for(boxes.count() * cuts, [&](Size i) {
    const Box box = boxes[i / cuts];
    const Size cut = i % cuts, blocks = c.blocks();
    compute(c, box, cut * blocks / cuts, (cut + 1) * blocks / cuts);
    if (cuts == 1) boxes.finish(box, c.out, finished);
  });
  if (cuts > 1 && finished) (*finished)(0, c.batch * c.out_rows * c.out_columns * c.out);
}

}  // namespace

template <class T>
void direct_forward(const ConvSizes& s, const T* x, const T* w, T* y, const Finished* finished) {
  Correlation<T> c{s.batch,
                   s.rows,
                   s.columns,
                   s.in,
                   s.out_rows,
                   s.out_columns,
                   s.out,
                   s.kernel_columns,
                   forward_lattices(s.kernel_rows, s.strides[0], s.dilations[0], s.top),
                   forward_lattices(s.kernel_columns, s.strides[1], s.dilations[1], s.left),
                   x,
                   w,
                   y,
                   false};
  correlate(c, finished);
}

template <class T>
void direct_input_gradient(const ConvSizes& s, const T* delta, const T* w, T* x, const Finished* finished) {
  Correlation<T> c{s.batch,
                   s.out_rows,
                   s.out_columns,
                   s.out,
                   s.rows,
                   s.columns,
                   s.in,
                   s.kernel_columns,
                   gradient_lattices(s.kernel_rows, s.strides[0], s.dilations[0], s.top, s.rows),
                   gradient_lattices(s.kernel_columns, s.strides[1], s.dilations[1], s.left, s.columns),
                   delta,
                   w,
                   x,
                   true};
  correlate(c, finished);
}

template void direct_forward(const ConvSizes&, const float*, const float*, float*, const Finished*);
template void direct_forward(const ConvSizes&, const double*, const double*, double*, const Finished*);
template void direct_input_gradient(const ConvSizes&, const float*, const float*, float*, const Finished*);
template void direct_input_gradient(const ConvSizes&, const double*, const double*, double*, const Finished*);

}  // namespace opgrad
