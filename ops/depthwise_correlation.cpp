// Forward convolution and input gradient: boxes of the result, blocks of channels that stay in cache, and
// rectangles in them that read the same taps.
#include <algorithm>

#include "depthwise_kernels.h"
#include "depthwise_rectangles.h"
#include "depthwise_tiles.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

constexpr Size box_bytes = 128 << 10;  // of the result
constexpr Size box_products = 100000;  // what waking a thread costs is some 20,000 of them

template <class T>
struct Correlation {
  const DepthwiseSizes& s;
  DepthwiseGrid grid;
  Size in, out_rows, out_columns, out;  // channels of what is read, sizes of what is written
  const T *x, *w;
  T* y;

  Size wide() const { return std::max(in, out); }  // channels times multiplier, as the kernel has them
  bool spreads() const { return in < out; }
  bool folds() const { return out < in; }
  bool lines() const { return wide() < depthwise_lanes(sizeof(T)); }
};

template <class T>
struct Side {
  PixelLayout layout;
  T* data;
};

// Lines of y that are not side by side, through a line that is.
template <class T>
void scattered_lines(DepthwiseTiles<T> t) {
  T* const y = t.y;
  const Size y_row = t.y_row, y_step = t.y_step, rows = t.rows;
  const Scratch<T> line(t.columns * t.channels);
  t.y = line.data();
  t.y_step = t.channels;
  t.rows = 1;
  for (Size r = 0; r < rows; ++r, t.first += t.x_row) {
    depthwise_lines(t);
    for (Size p = 0; p < t.columns; ++p)
      std::copy_n(line.data() + p * t.channels, t.channels, y + r * y_row + p * y_step);
  }
}

// The rectangles of a box, of channels that begin at w and at the data of both sides.
template <class T>
void compute(const Correlation<T>& c, const Rectangles& r, const Side<const T>& from, const T* w,
             const Side<T>& to, Size first_column, Size channels) {
  for (const Rectangle& one : r.all) {
    const Size row = one.a->first + one.lines.begin * c.grid.down.distance - to.layout.first_row,
               column = one.b->first + one.points.begin * c.grid.across.distance - first_column;
    const DepthwiseTiles<T> tiles{
        .x = from.data,
        .first = (one.lines.begin * c.grid.down.step - from.layout.first_row) * from.layout.line +
                 from.layout.column(one.points.begin * c.grid.across.step),
        .x_row = c.grid.down.step * from.layout.line,
        .x_step = from.layout.phases == 1 ? c.grid.across.step * from.layout.pixel : from.layout.pixel,
        .w = w,
        .y = to.data + row * to.layout.line + column * to.layout.pixel,
        .y_row = c.grid.down.distance * to.layout.line,
        .y_step = c.grid.across.distance * to.layout.pixel,
        .rows = one.lines.end - one.lines.begin,
        .columns = one.points.end - one.points.begin,
        .channels = channels,
        .offsets = r.offsets.data() + one.first,
        .weights = r.weights.data() + one.first,
        .taps = one.taps,
        .run = one.run};
    if (!c.lines())
      depthwise_tiles(tiles);
    else if (tiles.y_step == channels)
      depthwise_lines(tiles);
    else
      scattered_lines(tiles);
  }
}

template <class T>
void compute(const Correlation<T>& c, const Box& box) {
  Rectangles rectangles;
  const Size m = c.s.multiplier, channels = c.s.channels;
  const Size lines = box.end_row - box.first_row, box_columns = box.end_column - box.first_column;
  const Range rows = rows_read(c.grid, box);
  const bool copies = c.spreads() || (c.lines() && c.grid.across.step > 1);
  const Size copied = std::max(c.spreads() ? (rows.end - rows.begin) * c.grid.columns : 0,
                               c.folds() ? lines * box_columns : 0);
  const Size block = c.lines() ? channels : block_channels(channels, m, copied, sizeof(T));
  Size known = -1;
  for (Size image = box.first_image; image < box.end_image; ++image) {
    const Image<T> whole{c.x + image * c.grid.rows * c.grid.columns * c.in, c.grid.rows, c.grid.columns,
                         c.in};
    const T* w = c.w + image / c.s.images * c.s.kernel_size();
    T* y = c.y + ((image * c.out_rows + box.first_row) * c.out_columns + box.first_column) * c.out;
    for (Size first = 0, end; first < channels; first = end) {
      end = block_end(first, block, channels, sizeof(T));
      const Size width = (end - first) * m;
      Scratch<T> spread_out, multiples;
      Side<const T> from{{0, c.grid.columns * c.in, c.in}, whole.data + (c.spreads() ? first : first * m)};
      if (copies) {
        PixelLayout copy{rows.begin, 0, width, c.lines() ? c.grid.across.step : 1, 0};
        const Size phases = std::min(copy.phases, c.grid.columns);
        copy.phase = divide_up(c.grid.columns, phases) * width;
        copy.line = phases * copy.phase;
        spread_out = Scratch<T>((rows.end - rows.begin) * copy.line);
        spread(whole, rows, first, end - first, c.spreads() ? m : 1, copy, spread_out.data());
        from = {copy, spread_out.data()};
      }
      if (known != from.layout.pixel) find_rectangles(c.grid, box, from.layout, c.wide(), rectangles);
      known = from.layout.pixel;
      Side<T> to{{box.first_row, c.out_columns * c.out, c.out}, y + (c.folds() ? first : first * m)};
      if (c.folds()) {
        multiples = Scratch<T>(lines * box_columns * width);
        to = {{box.first_row, box_columns * width, width}, multiples.data()};
      }
      compute(c, rectangles, from, w + first * m, to, box.first_column, width);
      if (c.folds())
        for (Size r = 0; r < lines; ++r)
          add_multiples(to.data + r * to.layout.line, box_columns, end - first, m,
                        y + r * c.out_columns * c.out + first, c.out);
    }
  }
}

template <class T>
void correlate(const Correlation<T>& c, const Finished* finished) {
  const Size bytes = static_cast<Size>(sizeof(T)) * c.out;
  const Size products = c.s.taps() * c.s.out_rows * c.s.out_columns * c.wide();  // of an image
  const Size least = divide_up(box_products * c.out_rows * c.out_columns, products);
  const Boxes boxes(c.s.batch, c.out_rows, c.out_columns, std::max<Size>(1, box_bytes / bytes), least);
  parallel_for(boxes.count(), [&](Size i) {
    const Box box = boxes[i];
    compute(c, box);
    boxes.finish(box, c.out, finished);
  });
}

}  // namespace

template <class T>
void depthwise_forward(const DepthwiseSizes& s, const T* x, const T* w, T* y, const Finished* finished) {
  const Correlation<T> c{s,
                         {s.rows, s.columns, s.kernel_columns,
                          forward_lattices(s.kernel_rows, s.strides[0], s.dilations[0], s.top),
                          forward_lattices(s.kernel_columns, s.strides[1], s.dilations[1], s.left)},
                         s.channels,
                         s.out_rows,
                         s.out_columns,
                         s.out(),
                         x,
                         w,
                         y};
  correlate(c, finished);
}

template <class T>
void depthwise_input_gradient(const DepthwiseSizes& s, const T* delta, const T* w, T* x,
                              const Finished* finished) {
  const Correlation<T> c{
      s,
      {s.out_rows, s.out_columns, s.kernel_columns,
       gradient_lattices(s.kernel_rows, s.strides[0], s.dilations[0], s.top, s.rows),
       gradient_lattices(s.kernel_columns, s.strides[1], s.dilations[1], s.left, s.columns)},
      s.out(),
      s.rows,
      s.columns,
      s.channels,
      delta,
      w,
      x};
  correlate(c, finished);
}

template void depthwise_forward(const DepthwiseSizes&, const float*, const float*, float*, const Finished*);
template void depthwise_forward(const DepthwiseSizes&, const double*, const double*, double*,
                                const Finished*);
template void depthwise_input_gradient(const DepthwiseSizes&, const float*, const float*, float*,
                                       const Finished*);
template void depthwise_input_gradient(const DepthwiseSizes&, const double*, const double*, double*,
                                       const Finished*);

}  // namespace opgrad
