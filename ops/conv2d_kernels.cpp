// Convolution by unfolding: row p of the panel U holds the patch of x that output pixel p sees, so that
//
//     Y = U W,    dW = U^T dY,    dU = dY W^T, folded back: each element of dU is added to where U took it
//     from.
//
// U is never whole: panels of some rows fit the cache, and each is one single-threaded product. Where patches
// are short, conv2d_small.h does the first two instead.
#include "conv2d_kernels.h"

#include <algorithm>

#include "../core/gemm.h"
#include "../core/parallel.h"
#include "conv2d_panels.h"
#include "conv2d_small.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

constexpr Size panel_bytes = 512 << 10, panel_rows = 128;
constexpr Size groups = 16;                    // of pixels, each with partial sums of its own
constexpr Size partial_bytes = Size{4} << 20;  // for all groups together

// -------------------------------------------------------------------------------- the cut into panels

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

// -------------------------------------------------------------------------------- partial sums

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
    if (small) return small_kernel_gradient(s, x, delta, first, end, to);
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
    for (Size g = 1; g < cut.groups; ++g) add_to<T>(w + first, partial(g) + first, end - first);
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
      fold_back<T>(s, {p, p + n, 0, s.kernel_rows}, panel, x, begin_element, end_element);
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
