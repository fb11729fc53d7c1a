// Convolution by unfolding: row p of the panel U holds the patch of x that output pixel p sees, so that
//
//     Y = U W,    dW = U^T dY,    dU = dY W^T, folded back: each element of dU is added to where U took it
//     from.
//
// U is never whole: panels of some rows fit the cache, and each is one single-threaded product. Where patches
// are short (few input channels) a product of one's own keeps its accumulators in registers and reads x in
// place.
#include "conv2d_kernels.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "../core/gemm.h"
#include "../core/parallel.h"
#include "vectors.h"

namespace opgrad {
namespace {

using Size = std::int64_t;
using kernel::Pack;

constexpr Size panel_bytes = 512 << 10, panel_rows = 128;
constexpr Size small_depth = 32;               // patches this short do without OpenBLAS
constexpr Size groups = 16;                    // of pixels, each with partial sums of its own
constexpr Size partial_bytes = Size{4} << 20;  // for all groups together

bool is_small(const ConvSizes& s) { return s.depth() <= small_depth; }

Size divide_up(Size a, Size b) { return (a + b - 1) / b; }

// ------------------------------------------------------------------------------------------------ memory of
// a thread

struct Release {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
};

// Which: a thread may need two at once.
template <int which, class T>
T* thread_buffer(Size elements) {
  thread_local std::unique_ptr<std::byte, Release> memory;
  thread_local Size capacity = 0;
  const Size bytes = elements * static_cast<Size>(sizeof(T));
  if (bytes > capacity) {
    capacity = 0;
    memory.reset();
    memory.reset(
        static_cast<std::byte*>(::operator new (static_cast<std::size_t>(bytes), std::align_val_t{64})));
    capacity = bytes;
  }
  return reinterpret_cast<T*>(memory.get());
}

// ------------------------------------------------------------------------------------------------ the cut
// into panels

// Pixels of a panel over `pixels` pixels: as many as fit the bytes, at least 128 (packing W costs a product
// as much as some 30 rows do), and all panels alike.
template <class T>
Size panel_height(const ConvSizes& s, Size pixels) {
  const Size patch = std::max<Size>(1, s.depth()) * static_cast<Size>(sizeof(T));
  const Size most = std::max(panel_rows, panel_bytes / patch);
  const Size panels = std::max<Size>(1, divide_up(pixels, most));
  return std::max<Size>(1, divide_up(pixels, panels));
}

// The same, but with pieces for 16 threads where panels of 64 pixels and more allow.
template <class T>
Size shared_panel_height(const ConvSizes& s) {
  const Size fair = std::max<Size>(64, divide_up(s.pixels(), 16));
  return std::min(fair, panel_height<T>(s, s.pixels()));
}

// ------------------------------------------------------------------------------------------------ unfold and
// fold

template <int bytes, class T>
[[gnu::always_inline]] inline void copy_run(T* to, const T* from, Size n) {
  constexpr int N = bytes / static_cast<int>(sizeof(T));
  Size i = 0;
  for (; i + N <= n; i += N) Pack<T, N>::load(from + i).store(to + i);
  for (; i < n; ++i) to[i] = from[i];
}
template <int bytes, class T>
[[gnu::always_inline]] inline void add_run(T* to, const T* from, Size n) {
  constexpr int N = bytes / static_cast<int>(sizeof(T));
  Size i = 0;
  for (; i + N <= n; i += N) (Pack<T, N>::load(to + i) + Pack<T, N>::load(from + i)).store(to + i);
  for (; i < n; ++i) to[i] += from[i];
}
template <class T>
[[gnu::always_inline]] inline void clear_run(T* to, Size n) {
  for (Size i = 0; i < n; ++i) to[i] = T{};
}

// A panel: the taps of kernel rows [first_tap_row, end_tap_row) of pixels [first, end).
struct Panel {
  Size first, end, first_tap_row, end_tap_row;
};

// Walks a panel's runs in order. inside(at, offset, n): its n elements from `at` on are those of x from
// `offset` on; outside(at, n): they lie in the padding.
template <class Inside, class Outside>
[[gnu::always_inline]] inline void walk(const ConvSizes& s, const Panel& p, Inside inside, Outside outside) {
  Size j = p.first % s.out_columns, i = p.first / s.out_columns % s.out_rows, b = p.first / s.image_pixels();
  const Size line = s.kernel_columns * s.in;
  Size at = 0;
  for (Size pixel = p.first; pixel < p.end; ++pixel) {
    const Size column = j * s.strides[1] - s.left;
    for (Size m = p.first_tap_row; m < p.end_tap_row; ++m) {
      const Size row = i * s.strides[0] + m * s.dilations[0] - s.top;
      if (row < 0 || row >= s.rows) {
        outside(at, line);
        at += line;
        continue;
      }
      const Size begin = (b * s.rows + row) * s.columns;
      if (s.dilations[1] == 1) {
        const Size before = std::clamp<Size>(-column, 0, s.kernel_columns);
        const Size within = std::clamp<Size>(s.columns - column, before, s.kernel_columns) - before;
        const Size after = s.kernel_columns - before - within;
        if (before) outside(at, before * s.in);
        if (within) inside(at + before * s.in, (begin + column + before) * s.in, within * s.in);
        if (after) outside(at + (before + within) * s.in, after * s.in);
        at += line;
        continue;
      }
      for (Size n = 0; n < s.kernel_columns; ++n, at += s.in) {
        const Size c = column + n * s.dilations[1];
        if (c < 0 || c >= s.columns)
          outside(at, s.in);
        else
          inside(at, (begin + c) * s.in, s.in);
      }
    }
    if (++j == s.out_columns) {
      j = 0;
      if (++i == s.out_rows) i = 0, ++b;
    }
  }
}

template <class T>
struct Unfold {
  template <int bytes>
  [[gnu::always_inline]] static void run(const ConvSizes* s, const Panel* p, const T* x, T* panel) {
    walk(
        *s, *p,
        [=](Size at, Size offset, Size n)
            __attribute__((always_inline)) { copy_run<bytes>(panel + at, x + offset, n); },
        [=](Size at, Size n) __attribute__((always_inline)) { clear_run(panel + at, n); });
  }
};
template <class T>
void unfold(const ConvSizes& s, const Panel& p, const T* x, T* panel) {
  in_vectors<Unfold<T>>(&s, &p, x, panel);
}

// Adds a panel to x's gradient, of which only elements [begin, end) are ours.
template <class T>
struct Fold {
  template <int bytes>
  [[gnu::always_inline]] static void run(const ConvSizes* s, const Panel* p, const T* panel, T* x, Size begin,
                                         Size end) {
    walk(
        *s, *p,
        [=](Size at, Size offset, Size n) __attribute__((always_inline)) {
          if (offset >= begin && offset < end) add_run<bytes>(x + offset, panel + at, n);
        },
        [](Size, Size) __attribute__((always_inline)){});
  }
};

// ------------------------------------------------------------------------------------------------ short
// patches

// Patches of `depth` elements: element k of pixel p of a line lies at x + p*step + offset[k].
struct Patches {
  Size depth, step;
  std::array<Size, small_depth> offset;
};

bool has_padding(const ConvSizes& s) {
  for (const int axis : {0, 1}) {
    const Size size = axis ? s.columns : s.rows, before = axis ? s.left : s.top;
    const Size taps = axis ? s.kernel_columns : s.kernel_rows, outputs = axis ? s.out_columns : s.out_rows;
    const auto a = static_cast<std::size_t>(axis);
    if (before > 0 || (outputs - 1) * s.strides[a] + (taps - 1) * s.dilations[a] >= size) return true;
  }
  return false;
}

Patches patches_in_place(const ConvSizes& s) {
  Patches p{s.depth(), s.strides[1] * s.in, {}};
  std::size_t k = 0;
  for (Size m = 0; m < s.kernel_rows; ++m)
    for (Size n = 0; n < s.kernel_columns; ++n)
      for (Size c = 0; c < s.in; ++c)
        p.offset[k++] = (m * s.dilations[0] * s.columns + n * s.dilations[1]) * s.in + c;
  return p;
}
Patches patches_in_panel(const ConvSizes& s) {
  Patches p{s.depth(), s.depth(), {}};
  for (Size k = 0; k < s.depth(); ++k) p.offset[static_cast<std::size_t>(k)] = k;
  return p;
}

// Calls use(patches, x, first, n) for the pixels [first, first + n) of pieces of lines; reads x in place
// unless there is padding, then from an unfolded piece of a line.
template <class T, class Use>
void for_each_line(const ConvSizes& s, const T* x, Size first, Size end, Use use) {
  const bool in_place = !has_padding(s);
  const Patches patches = in_place ? patches_in_place(s) : patches_in_panel(s);
  constexpr Size piece = 256;
  for (Size line = first; line < end; ++line) {
    const Size b = line / s.out_rows, i = line % s.out_rows, pixel = line * s.out_columns;
    for (Size j = 0; j < s.out_columns; j += piece) {
      const Size n = std::min(piece, s.out_columns - j);
      if (in_place) {
        use(patches, x + ((b * s.rows + i * s.strides[0]) * s.columns + j * s.strides[1]) * s.in, pixel + j,
            n);
      } else {
        T* panel = thread_buffer<0, T>(piece * small_depth);
        unfold(s, {pixel + j, pixel + j + n, 0, s.kernel_rows}, x, panel);
        use(patches, panel, pixel + j, n);
      }
    }
  }
}

// Lines of a chunk: some 64 KiB of y.
Size line_grain(const ConvSizes& s) {
  return std::max<Size>(1, 16384 / std::max<Size>(1, s.out_columns * s.out));
}

// y[p, :] = sum over k of patch[p, k] w[k, :]; w's rows are `width` apart, a multiple of all packs and zero
// beyond `out`. Six pixels by two packs of channels are summed in registers.
template <class T>
struct SmallForward {
  template <int bytes, int pixels, int packs>
  [[gnu::always_inline]] static void tile(const Patches& a, const T* x, const T* w, Size width, T* y,
                                          Size out, Size channels) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    Pack<T, N> sum[pixels][packs];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) sum[p][v] = Pack<T, N>(T{});
    for (Size k = 0; k < a.depth; ++k) {
      const T* from = x + a.offset[static_cast<std::size_t>(k)];
      Pack<T, N> weight[packs];
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) weight[v] = Pack<T, N>::load(w + k * width + v * N);
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) {
        const Pack<T, N> value = from[p * a.step];
#pragma GCC unroll 2
        for (int v = 0; v < packs; ++v) sum[p][v] = sum[p][v] + value * weight[v];
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) {
        if (channels >= (v + 1) * N)
          sum[p][v].store(y + p * out + v * N);
        else if (channels > v * N)
          std::memcpy(y + p * out + v * N, &sum[p][v].v,
                      static_cast<std::size_t>(channels - v * N) * sizeof(T));
      }
  }
  template <int bytes, int packs>
  [[gnu::always_inline]] static void strip(const Patches& a, const T* x, Size n, const T* w, Size width, T* y,
                                           Size out, Size channels) {
    Size p = 0;
    for (; p + 6 <= n; p += 6) tile<bytes, 6, packs>(a, x + p * a.step, w, width, y + p * out, out, channels);
    for (; p < n; ++p) tile<bytes, 1, packs>(a, x + p * a.step, w, width, y + p * out, out, channels);
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const Patches* a, const T* x, Size n, const T* w, Size width, T* y,
                                         Size out) {
    constexpr Size N = bytes / static_cast<Size>(sizeof(T));
    for (Size o = 0; o < out; o += 2 * N)
      if (out - o > N)
        strip<bytes, 2>(*a, x, n, w + o, width, y + o, out, out - o);
      else
        strip<bytes, 1>(*a, x, n, w + o, width, y + o, out, out - o);
  }
};

// w[k, :] += sum over p of patch[p, k] delta[p, :], three taps by two packs of channels in registers.
template <class T>
struct SmallKernelGradient {
  template <int bytes, int taps, int packs>
  [[gnu::always_inline]] static void tile(const Size* offset, Size step, const T* x, Size n, const T* delta,
                                          Size out, T* w, Size channels) {
    constexpr int N = bytes / static_cast<int>(sizeof(T));
    Pack<T, N> sum[taps][packs];
#pragma GCC unroll 4
    for (int k = 0; k < taps; ++k)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) sum[k][v] = load<N>(w + k * out + v * N, channels - v * N);
    for (Size p = 0; p < n; ++p) {
      Pack<T, N> d[packs];
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) d[v] = load<N>(delta + p * out + v * N, channels - v * N);
#pragma GCC unroll 4
      for (int k = 0; k < taps; ++k) {
        const Pack<T, N> value = x[p * step + offset[k]];
#pragma GCC unroll 2
        for (int v = 0; v < packs; ++v) sum[k][v] = sum[k][v] + value * d[v];
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < taps; ++k)
#pragma GCC unroll 2
      for (int v = 0; v < packs; ++v) {
        if (channels >= (v + 1) * N)
          sum[k][v].store(w + k * out + v * N);
        else if (channels > v * N)
          std::memcpy(w + k * out + v * N, &sum[k][v].v,
                      static_cast<std::size_t>(channels - v * N) * sizeof(T));
      }
  }
  template <int N>
  [[gnu::always_inline]] static Pack<T, N> load(const T* from, Size n) {
    if (n >= N) return Pack<T, N>::load(from);
    Pack<T, N> part = T{};
    std::memcpy(&part.v, from, static_cast<std::size_t>(n) * sizeof(T));
    return part;
  }
  template <int bytes, int packs>
  [[gnu::always_inline]] static void strip(const Patches& a, const T* x, Size n, const T* delta, Size out,
                                           T* w, Size channels) {
    Size k = 0;
    for (; k + 3 <= a.depth; k += 3)
      tile<bytes, 3, packs>(&a.offset[static_cast<std::size_t>(k)], a.step, x, n, delta, out, w + k * out,
                            channels);
    for (; k < a.depth; ++k)
      tile<bytes, 1, packs>(&a.offset[static_cast<std::size_t>(k)], a.step, x, n, delta, out, w + k * out,
                            channels);
  }
  template <int bytes>
  [[gnu::always_inline]] static void run(const Patches* a, const T* x, Size n, const T* delta, Size out,
                                         T* w) {
    constexpr Size N = bytes / static_cast<Size>(sizeof(T));
    for (Size o = 0; o < out; o += 2 * N)
      if (out - o > N)
        strip<bytes, 2>(*a, x, n, delta + o, out, w + o, out - o);
      else
        strip<bytes, 1>(*a, x, n, delta + o, out, w + o, out - o);
  }
};

template <class T>
void small_forward(const ConvSizes& s, const T* x, const T* w, T* y) {
  parallel_ranges(s.batch * s.out_rows, line_grain(s), [&](Size first, Size end) {
    const Size width = divide_up(s.out, 16) * 16;
    T* weights = thread_buffer<1, T>(s.depth() * width);
    for (Size k = 0; k < s.depth(); ++k) {
      std::copy_n(w + k * s.out, s.out, weights + k * width);
      std::fill_n(weights + k * width + s.out, width - s.out, T{});
    }
    for_each_line(s, x, first, end, [&](const Patches& a, const T* from, Size pixel, Size n) {
      in_vectors<SmallForward<T>>(&a, from, n, static_cast<const T*>(weights), width, y + pixel * s.out,
                                  s.out);
    });
  });
}

// ------------------------------------------------------------------------------------------------ partial
// sums

// How the kernel gradient is cut: into groups of pixels with partial sums of their own and, where long
// kernels leave few groups, by kernel rows.
struct Cut {
  Size groups, pieces;
};
Cut cut_of(const ConvSizes& s, std::size_t element_bytes) {
  const Size bytes = std::max<Size>(1, s.kernel_size()) * static_cast<Size>(element_bytes);
  const Size most = std::clamp<Size>(partial_bytes / bytes, 1, groups);
  const Size count = std::clamp<Size>(divide_up(s.pixels(), 64), 1, most);
  return {count, most == groups || is_small(s) ? 1 : s.kernel_rows};
}

template <class T>
struct AddRun {
  template <int bytes>
  [[gnu::always_inline]] static void run(T* to, const T* from, Size n) {
    add_run<bytes>(to, from, n);
  }
};

}  // namespace

bool ConvSizes::plain() const {
  return kernel_rows == 1 && kernel_columns == 1 && strides[0] == 1 && strides[1] == 1 && top == 0 &&
         left == 0 && out_rows == rows && out_columns == columns;
}

template <class T>
void convolve_forward(const ConvSizes& s, const T* x, const T* w, T* y) {
  if (s.pixels() == 0 || s.out == 0) return;
  const Size depth = s.depth();
  if (s.plain()) return gemm<T>(s.pixels(), s.out, depth, {x, depth}, {w, s.out}, y, s.out, false);
  if (is_small(s)) return small_forward(s, x, w, y);
  parallel_ranges(s.pixels(), shared_panel_height<T>(s), [&](Size first, Size end) {
    T* panel = thread_buffer<0, T>((end - first) * depth);
    unfold(s, {first, end, 0, s.kernel_rows}, x, panel);
    gemm_tile<T>(end - first, s.out, depth, {panel, depth}, {w, s.out}, y + first * s.out, s.out, false);
  });
}

template <class T>
void convolve_kernel_gradient(const ConvSizes& s, const T* x, const T* delta, T* w, T* workspace) {
  const Size size = s.kernel_size();
  if (size == 0) return;
  const Cut cut = cut_of(s, sizeof(T));
  if (s.plain() && cut.groups == 1)
    return gemm<T>(s.in, s.out, s.pixels(), {x, s.in, true}, {delta, s.out}, w, s.out, false);

  const auto partial = [&](Size group) { return cut.groups == 1 ? w : workspace + group * size; };
  const bool small = is_small(s);
  // Short patches go by lines, others by pixels.
  const Size items = small ? s.batch * s.out_rows : s.pixels();
  parallel_for(cut.groups * cut.pieces, [&](Size chunk) {
    const Size group = chunk / cut.pieces, piece = chunk % cut.pieces;
    const Size first = group * items / cut.groups, end = (group + 1) * items / cut.groups;
    const Size rows = s.kernel_rows / cut.pieces, depth = rows * s.kernel_columns * s.in;
    T* to = partial(group) + piece * depth * s.out;
    std::fill_n(to, depth * s.out, T{});
    if (small)
      return for_each_line(s, x, first, end, [&](const Patches& a, const T* from, Size pixel, Size n) {
        in_vectors<SmallKernelGradient<T>>(&a, from, n, delta + pixel * s.out, s.out, to);
      });
    const Size height = panel_height<T>(s, end - first);
    for (Size p = first; p < end; p += height) {
      const Size n = std::min(height, end - p);
      const T* patches = x + p * s.in;
      if (!s.plain()) {
        T* panel = thread_buffer<0, T>(n * depth);
        unfold(s, {p, p + n, piece * rows, (piece + 1) * rows}, x, panel);
        patches = panel;
      }
      gemm_tile<T>(depth, s.out, n, {patches, depth, true}, {delta + p * s.out, s.out}, to, s.out, p > first);
    }
  });
  if (cut.groups == 1) return;
  parallel_ranges(size, 4096, [&](Size first, Size end) {
    std::copy(workspace + first, workspace + end, w + first);
    for (Size g = 1; g < cut.groups; ++g)
      in_vectors<AddRun<T>>(w + first, static_cast<const T*>(partial(g) + first), end - first);
  });
}

template <class T>
void convolve_input_gradient(const ConvSizes& s, const T* delta, const T* w, T* x) {
  const Size image = s.rows * s.columns * s.in, depth = s.depth();
  if (s.batch * image == 0) return;
  if (s.plain()) return gemm<T>(s.pixels(), s.in, s.out, {delta, s.out}, {w, s.out, true}, x, s.in, false);

  // A chunk is some whole images, or, in small batches, a band of rows of one image; neighbouring bands share
  // output lines, whose products they both compute, so bands are four times as high as what they share.
  const Size fitting = panel_height<T>(s, s.pixels()) / std::max<Size>(1, s.image_pixels());
  const Size images = std::clamp<Size>(fitting, 1, divide_up(s.batch, 16));
  const Size extent = (s.kernel_rows - 1) * s.dilations[0];
  const Size bands =
      s.batch >= 16 ? 1 : std::clamp<Size>(divide_up(16, s.batch), 1, 1 + s.rows / (4 * (extent + 1)));
  parallel_for(divide_up(s.batch, images) * bands, [&](Size chunk) {
    const Size first = chunk / bands * images, end = std::min(first + images, s.batch), band = chunk % bands;
    const Size first_row = band * s.rows / bands, end_row = (band + 1) * s.rows / bands;
    const Size row_size = s.columns * s.in;
    const Size begin_element = first * image + first_row * row_size;
    const Size end_element = (end - 1) * image + end_row * row_size;
    std::fill(x + begin_element, x + end_element, T{});
    Size first_line = 0, end_line = s.out_rows;
    if (bands > 1) {
      // Line i touches rows i*stride - top to i*stride - top + extent.
      first_line = divide_up(std::max<Size>(0, first_row + s.top - extent), s.strides[0]);
      end_line = std::min(end_line, (end_row - 1 + s.top) / s.strides[0] + 1);
    }
    const Size first_pixel = first * s.image_pixels() + first_line * s.out_columns;
    const Size end_pixel = (end - 1) * s.image_pixels() + end_line * s.out_columns;
    const Size height = panel_height<T>(s, end_pixel - first_pixel);
    for (Size p = first_pixel; p < end_pixel; p += height) {
      const Size n = std::min(height, end_pixel - p);
      T* panel = thread_buffer<0, T>(n * depth);
      gemm_tile<T>(n, depth, s.out, {delta + p * s.out, s.out}, {w, s.out, true}, panel, depth, false);
      const Panel whole{p, p + n, 0, s.kernel_rows};
      in_vectors<Fold<T>>(&s, &whole, static_cast<const T*>(panel), x, begin_element, end_element);
    }
  });
}

std::size_t kernel_gradient_workspace(const ConvSizes& s, std::size_t element_bytes) {
  const Cut cut = cut_of(s, element_bytes);
  return cut.groups == 1 ? 0 : static_cast<std::size_t>(cut.groups * s.kernel_size()) * element_bytes;
}

template void convolve_forward(const ConvSizes&, const float*, const float*, float*);
template void convolve_forward(const ConvSizes&, const double*, const double*, double*);
template void convolve_kernel_gradient(const ConvSizes&, const float*, const float*, float*, float*);
template void convolve_kernel_gradient(const ConvSizes&, const double*, const double*, double*, double*);
template void convolve_input_gradient(const ConvSizes&, const float*, const float*, float*);
template void convolve_input_gradient(const ConvSizes&, const double*, const double*, double*);

}  // namespace opgrad
