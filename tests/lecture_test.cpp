// The lecture's identities: what the gradients of a convolution are in terms of convolution and correlation,
// each by its name, on images of one channel taken from batches with channels.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "numeric_gradient.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

struct Setting {
  std::int64_t batch, rows, columns, in, kernel_rows, kernel_columns, out, stride, dilation, pad;

  std::int64_t size(std::int64_t pixels, std::int64_t taps) const {
    return (pixels + 2 * pad - (taps - 1) * dilation - 1) / stride + 1;
  }
  std::int64_t out_rows() const { return size(rows, kernel_rows); }
  std::int64_t out_columns() const { return size(columns, kernel_columns); }
  Shape x() const { return {batch, rows, columns, in}; }
  Shape w() const { return {kernel_rows, kernel_columns, in, out}; }
  Shape delta() const { return {batch, out_rows(), out_columns(), out}; }
  Window window() const {
    return {{stride, stride}, {dilation, dilation}, Padding::valid, {pad, pad, pad, pad}};
  }
};

const std::vector<Setting> settings = {{1, 5, 5, 1, 3, 3, 1, 1, 1, 0},  {1, 6, 5, 1, 2, 4, 1, 1, 1, 0},
                                       {2, 7, 6, 2, 3, 2, 3, 1, 1, 1},  {2, 9, 8, 2, 3, 3, 2, 2, 1, 0},
                                       {1, 8, 8, 1, 3, 2, 2, 2, 1, 1},  {2, 9, 10, 2, 2, 3, 1, 1, 2, 0},
                                       {1, 10, 9, 3, 3, 2, 2, 3, 2, 2}, {3, 4, 4, 2, 4, 4, 2, 1, 1, 0}};

double at(const std::vector<double>& v, const Shape& s, std::int64_t a, std::int64_t b, std::int64_t c,
          std::int64_t d) {
  return v[static_cast<std::size_t>(((a * s[1] + b) * s[2] + c) * s[3] + d)];
}
// o[b, row, column, c], 0 outside the image.
double input_at(const Setting& s, const std::vector<double>& o, std::int64_t b, std::int64_t row,
                std::int64_t column, std::int64_t c) {
  const bool inside = row >= 0 && row < s.rows && column >= 0 && column < s.columns;
  return inside ? at(o, s.x(), b, row, column, c) : 0;
}

// dE/dw[m, n] = sum over i, j of delta[i, j] o[i + m, j + n], for each pair of channels, summed over the
// batch.
std::vector<double> double_sum(const Setting& s, const std::vector<double>& o,
                               const std::vector<double>& delta) {
  std::vector<double> dw;
  for (std::int64_t m = 0; m < s.kernel_rows; ++m)
    for (std::int64_t n = 0; n < s.kernel_columns; ++n)
      for (std::int64_t c = 0; c < s.in; ++c)
        for (std::int64_t k = 0; k < s.out; ++k) {
          double sum = 0;
          for (std::int64_t b = 0; b < s.batch; ++b)
            for (std::int64_t i = 0; i < s.out_rows(); ++i)
              for (std::int64_t j = 0; j < s.out_columns(); ++j)
                sum += at(delta, s.delta(), b, i, j, k) * input_at(s, o, b,
                                                                   i * s.stride + m * s.dilation - s.pad,
                                                                   j * s.stride + n * s.dilation - s.pad, c);
          dw.push_back(sum);
        }
  return dw;
}

Tensor image(const Tensor& x, std::int64_t b, std::int64_t channel) {
  const Tensor one = slice(x, {b, 0, 0, channel}, {b + 1, x.dim(1), x.dim(2), channel + 1});
  return reshape(one, Shape{x.dim(1), x.dim(2)});
}

// The kernel gradient put together from images: combine(padded input image, delta dilated by the stride) is a
// whole plane of shifts, of which every dilation-th is a tap. Rows of input that no window reaches are left
// out.
template <class Combine>
std::vector<double> kernel_gradient_by_images(const Setting& s, const Tensor& x, const Tensor& delta,
                                              Combine combine) {
  std::vector<double> dw(static_cast<std::size_t>(s.w().numel()));
  const std::int64_t high = (s.kernel_rows - 1) * s.dilation + 1,
                     wide = (s.kernel_columns - 1) * s.dilation + 1;
  for (std::int64_t c = 0; c < s.in; ++c)
    for (std::int64_t k = 0; k < s.out; ++k)
      for (std::int64_t b = 0; b < s.batch; ++b) {
        const Tensor padded = pad(image(x, b, c), {s.pad, s.pad}, {s.pad, s.pad});
        const Tensor reached = slice(
            padded, {0, 0}, {(s.out_rows() - 1) * s.stride + high, (s.out_columns() - 1) * s.stride + wide});
        const Tensor dilated = pad(image(delta, b, k), {0, 0}, {0, 0}, {s.stride - 1, s.stride - 1});
        const Tensor shifts = combine(reached, dilated);
        REQUIRE(shifts.shape() == Shape{high, wide});
        const std::vector<double> taps =
            slice(shifts, {0, 0}, {high, wide}, {s.dilation, s.dilation}).to_vector<double>();
        for (std::int64_t t = 0; t < s.kernel_rows * s.kernel_columns; ++t)
          dw[static_cast<std::size_t>((t * s.in + c) * s.out + k)] += taps[static_cast<std::size_t>(t)];
      }
  return dw;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::fabs(a[i] - b[i]));
  return most;
}

// Some hundred products of numbers below 1.
constexpr double rounding = 1e-13;

}  // namespace

TEST_CASE("the kernel gradient equals the double sum of delta times o") {
  for (const Setting& s : settings) {
    const std::vector<double> o = numbers(s.x().numel(), 1), delta = numbers(s.delta().numel(), 2);
    const Tensor x = tensor(o, s.x()), w = variable(random_tensor(s.w(), 3));
    const Tensor error = sum(conv2d(x, w, s.window()) * tensor(delta, s.delta()));
    CHECK(largest_difference(grad(error, w).to_vector<double>(), double_sum(s, o, delta)) < rounding);
  }
}

TEST_CASE("the kernel gradient equals the convolution with the flipped delta") {
  for (const Setting& s : settings) {
    const std::vector<double> o = numbers(s.x().numel(), 1), d = numbers(s.delta().numel(), 2);
    const Tensor x = tensor(o, s.x()), delta = tensor(d, s.delta());
    const std::vector<double> flipped = kernel_gradient_by_images(
        s, x, delta,
        [](const Tensor& image, const Tensor& kernel) { return convolve2d(image, rot180(kernel)); });
    CHECK(largest_difference(flipped, double_sum(s, o, d)) < rounding);
    CHECK(largest_difference(
              flipped, conv2d_kernel_gradient(x, delta, s.w(), s.window()).to_vector<double>()) < rounding);
  }
}

TEST_CASE("the kernel gradient equals the correlation with delta") {
  for (const Setting& s : settings) {
    const std::vector<double> o = numbers(s.x().numel(), 1), d = numbers(s.delta().numel(), 2);
    const Tensor x = tensor(o, s.x()), delta = tensor(d, s.delta());
    const std::vector<double> correlated = kernel_gradient_by_images(
        s, x, delta, [](const Tensor& image, const Tensor& kernel) { return correlate2d(image, kernel); });
    CHECK(largest_difference(correlated, double_sum(s, o, d)) < rounding);
    CHECK(largest_difference(correlated,
                             conv2d_kernel_gradient(x, delta, s.w(), s.window()).to_vector<double>()) <
          rounding);
  }
}

TEST_CASE("the correlation with the flipped delta is rejected wherever delta differs from its flip") {
  const auto wrong = [](const Tensor& image, const Tensor& kernel) {
    return correlate2d(image, rot180(kernel));
  };
  int rejected = 0, symmetric = 0;
  for (const Setting& s : settings) {
    const Tensor x = tensor(numbers(s.x().numel(), 1), s.x());
    const Tensor some = tensor(numbers(s.delta().numel(), 2), s.delta());
    // A delta that equals its flip is the one case where the wrong formula is right.
    for (const Tensor& delta : {some, some + flip(some, {1, 2})}) {
      const bool differs = delta.to_vector<double>() != flip(delta, {1, 2}).to_vector<double>();
      const std::vector<double> right = double_sum(s, x.to_vector<double>(), delta.to_vector<double>());
      const double difference = largest_difference(kernel_gradient_by_images(s, x, delta, wrong), right);
      if (differs)
        CHECK(difference > 1e-3);
      else
        CHECK(difference < rounding);
      ++(differs ? rejected : symmetric);
    }
  }
  CHECK(rejected >= 7);
  CHECK(symmetric >= 7);
}

TEST_CASE("the input gradient equals the full convolution of delta with the kernel") {
  for (const Setting& s : settings) {
    const std::vector<double> d = numbers(s.delta().numel(), 2), taps = numbers(s.w().numel(), 3);
    const Tensor delta = tensor(d, s.delta()), w = tensor(taps, s.w());
    const Tensor x = variable(random_tensor(s.x(), 1));
    const std::vector<double> gradient = grad(sum(conv2d(x, w, s.window()) * delta), x).to_vector<double>();
    std::vector<double> loops(gradient.size()), images(gradient.size());
    const auto index = [&](std::int64_t b, std::int64_t row, std::int64_t column, std::int64_t c) {
      return static_cast<std::size_t>(((b * s.rows + row) * s.columns + column) * s.in + c);
    };
    for (std::int64_t b = 0; b < s.batch; ++b)
      for (std::int64_t c = 0; c < s.in; ++c)
        for (std::int64_t k = 0; k < s.out; ++k) {
          for (std::int64_t i = 0; i < s.out_rows(); ++i)
            for (std::int64_t j = 0; j < s.out_columns(); ++j)
              for (std::int64_t m = 0; m < s.kernel_rows; ++m)
                for (std::int64_t n = 0; n < s.kernel_columns; ++n) {
                  const std::int64_t row = i * s.stride + m * s.dilation - s.pad,
                                     column = j * s.stride + n * s.dilation - s.pad;
                  if (row < 0 || row >= s.rows || column < 0 || column >= s.columns) continue;
                  loops[index(b, row, column, c)] +=
                      at(d, s.delta(), b, i, j, k) * at(taps, s.w(), m, n, c, k);
                }
          // Both dilated; the plane is the padded input as far as windows reach.
          const Tensor kernel =
              reshape(slice(w, {0, 0, c, k}, {s.kernel_rows, s.kernel_columns, c + 1, k + 1}),
                      Shape{s.kernel_rows, s.kernel_columns});
          const Tensor plane =
              convolve2d(pad(image(delta, b, k), {0, 0}, {0, 0}, {s.stride - 1, s.stride - 1}),
                         pad(kernel, {0, 0}, {0, 0}, {s.dilation - 1, s.dilation - 1}), true);
          const std::vector<double> values = plane.to_vector<double>();
          for (std::int64_t row = 0; row < s.rows; ++row)
            for (std::int64_t column = 0; column < s.columns; ++column)
              if (row + s.pad < plane.dim(0) && column + s.pad < plane.dim(1))
                images[index(b, row, column, c)] +=
                    values[static_cast<std::size_t>((row + s.pad) * plane.dim(1) + column + s.pad)];
        }
    CHECK(largest_difference(gradient, loops) < rounding);
    CHECK(largest_difference(gradient, images) < rounding);
  }
}

TEST_CASE("rot180 reverses rows and columns of kernels, images and batches") {
  CHECK(rot180(tensor({{1.0, 2.0}, {3.0, 4.0}, {5.0, 6.0}})).to_vector<double>() ==
        std::vector<double>{6, 5, 4, 3, 2, 1});
  const std::vector<double> eight = {1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(rot180(tensor(eight, {2, 2, 2, 1})).to_vector<double>() ==
        std::vector<double>{7, 8, 5, 6, 3, 4, 1, 2});
  CHECK(rot180(tensor(eight, {2, 2, 2})).to_vector<double>() == std::vector<double>{4, 3, 2, 1, 8, 7, 6, 5});
}
