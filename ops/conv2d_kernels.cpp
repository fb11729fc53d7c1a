// Which algorithm computes which convolution.
#include "conv2d_kernels.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

#include "../core/error.h"
#include "conv2d_direct.h"
#include "conv2d_direct_gradient.h"
#include "conv2d_fold.h"
#include "conv2d_winograd.h"
#include "ops.h"

namespace opgrad {
namespace {

using Size = std::int64_t;

bool winograd_at_first() {
  const char* text = std::getenv("OPGRAD_WINOGRAD");
  const std::string_view value = text ? text : "";
  if (value != "" && value != "0" && value != "1")
    throw UserError(fmt::format(
        "OPGRAD_WINOGRAD is '{}' but must be 0 (plain sums) or 1 (Winograd's algorithm where it is faster); "
        "unset it for 1",
        value));
  return value != "0";
}
std::atomic<bool>& winograd_switch() {
  static std::atomic<bool> on{winograd_at_first()};
  return on;
}

// The side of Winograd's tiles, 2 or 4, where it wins (tests/bench/README.md), else 0: few tiles an image do
// not repay the transformed kernels. Greater tiles save less where much of the last ones is left over, and
// their kernels have to stay in the cache that threads share.
int winning_side(ConvDirection direction, const ConvSizes& s, DType dtype) {
  constexpr Size most_kernels = 256 * 256;
  if (dtype != DType::f32 || !winograd_fits(s)) return 0;
  const bool input = direction == ConvDirection::input_gradient;
  const Size rows = input ? s.rows : s.out_rows, columns = input ? s.columns : s.out_columns;
  if (direction != ConvDirection::kernel_gradient && rows * columns < 36) return 0;
  const Size products = winograd_products(direction, s, 4), of_smaller = winograd_products(direction, s, 2);
  return 5 * products < 4 * of_smaller && s.in * s.out <= most_kernels ? 4 : 2;
}
int winograd_side(ConvDirection direction, const ConvSizes& s, DType dtype) {
  return winograd() ? winning_side(direction, s, dtype) : 0;
}

// A kernel of one pixel sees neighbouring lines, and images, as one line.
ConvSizes one_line(const ConvSizes& s) {
  ConvSizes line = s;
  if (!s.plain()) return s;
  line.batch = line.rows = line.out_rows = 1;
  line.columns = line.out_columns = s.pixels();
  return line;
}

template <class T>
void zeros(T* to, Size n, const Finished* finished) {
  std::fill_n(to, n, T{});
  if (finished && n > 0) (*finished)(0, n);
}

}  // namespace

bool ConvSizes::plain() const {
  return kernel_rows == 1 && kernel_columns == 1 && strides[0] == 1 && strides[1] == 1 && top == 0 &&
         left == 0 && out_rows == rows && out_columns == columns;
}

void set_winograd(bool on) { winograd_switch().store(on, std::memory_order_relaxed); }
bool winograd() { return winograd_switch().load(std::memory_order_relaxed); }

const char* conv2d_choice(ConvDirection direction, const ConvSizes& s, DType dtype) {
  if (const int side = winograd_side(direction, s, dtype)) return side == 4 ? "winograd 4x4" : "winograd 2x2";
  return direction == ConvDirection::input_gradient && fold_fits(s) ? "few channels" : "direct";
}

template <class T>
void convolve_forward(const ConvSizes& s, const T* x, const T* w, T* y, [[maybe_unused]] const T* prepared,
                      const Finished* finished) {
  const Size size = s.pixels() * s.out;
  if (size == 0 || s.in == 0) return zeros(y, size, finished);
  if constexpr (std::is_same_v<T, float>)
    if (const int side = winograd_side(ConvDirection::forward, s, DType::f32))
      return winograd_forward(s, side, x, w, y, prepared, finished);
  direct_forward(one_line(s), x, w, y, finished);
}

template <class T>
void convolve_kernel_gradient(const ConvSizes& s, const T* x, const T* delta, T* w, T* workspace) {
  if (s.kernel_size() == 0 || s.pixels() == 0) return zeros(w, s.kernel_size(), nullptr);
  if constexpr (std::is_same_v<T, float>)
    if (const int side = winograd_side(ConvDirection::kernel_gradient, s, DType::f32))
      return winograd_kernel_gradient(s, side, x, delta, w, workspace);
  direct_kernel_gradient(s, x, delta, w, workspace);
}

template <class T>
void convolve_input_gradient(const ConvSizes& s, const T* delta, const T* w, T* x,
                             [[maybe_unused]] const T* prepared, const Finished* finished) {
  const Size size = s.batch * s.rows * s.columns * s.in;
  if (size == 0 || s.pixels() * s.out == 0) return zeros(x, size, finished);
  if constexpr (std::is_same_v<T, float>)
    if (const int side = winograd_side(ConvDirection::input_gradient, s, DType::f32))
      return winograd_input_gradient(s, side, delta, w, x, prepared, finished);
  if (fold_fits(s)) return fold_input_gradient(s, delta, w, x, finished);
  direct_input_gradient(one_line(s), delta, w, x, finished);
}

std::size_t kernel_gradient_workspace(const ConvSizes& s, DType dtype) {
  if (s.kernel_size() == 0 || s.pixels() == 0) return 0;
  const std::size_t direct = direct_gradient_workspace(s, size_of(dtype));
  const int side = winning_side(ConvDirection::kernel_gradient, s, dtype);
  return side ? std::max(direct, winograd_gradient_workspace(s, side)) : direct;
}

// Transformed sums are as large as a kernel and more, so Winograd's way has few parts.
Size kernel_gradient_part_images(const ConvSizes& s, DType dtype) {
  if (s.kernel_size() == 0 || s.pixels() == 0 || winning_side(ConvDirection::kernel_gradient, s, dtype))
    return 0;
  return direct_gradient_part_images(s, size_of(dtype));
}

std::size_t prepared_bytes(ConvDirection direction, const ConvSizes& s, DType dtype) {
  if (s.kernel_size() == 0 || s.pixels() == 0) return 0;
  const int side = winning_side(direction, s, dtype);
  return side ? winograd_workspace(direction, s, side) : 0;
}

template <class T>
void prepare_convolution(ConvDirection direction, const ConvSizes& s, const T* w, T* prepared) {
  if constexpr (std::is_same_v<T, float>)
    if (const int side = winograd_side(direction, s, DType::f32))
      (direction == ConvDirection::forward ? winograd_prepare_forward : winograd_prepare_input_gradient)(
          s, side, w, prepared);
}

template void convolve_forward(const ConvSizes&, const float*, const float*, float*, const float*,
                               const Finished*);
template void convolve_forward(const ConvSizes&, const double*, const double*, double*, const double*,
                               const Finished*);
template void convolve_kernel_gradient(const ConvSizes&, const float*, const float*, float*, float*);
template void convolve_kernel_gradient(const ConvSizes&, const double*, const double*, double*, double*);
template void convolve_input_gradient(const ConvSizes&, const float*, const float*, float*, const float*,
                                      const Finished*);
template void convolve_input_gradient(const ConvSizes&, const double*, const double*, double*, const double*,
                                      const Finished*);
template void prepare_convolution(ConvDirection, const ConvSizes&, const float*, float*);
template void prepare_convolution(ConvDirection, const ConvSizes&, const double*, double*);

}  // namespace opgrad
