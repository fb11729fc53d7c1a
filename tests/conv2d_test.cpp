// The convolution trio against loops that share no code with it.
#include <doctest/doctest.h>

#include <vector>

#include "../core/parallel.h"
#include "../graph/run.h"
#include "../ops/convolution_window.h"
#include "../ops/records.h"
#include "convolution_loops.h"
#include "numeric_gradient.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

struct Case {
  Shape x, w;
  Window window{};
};

Window window(std::array<std::int64_t, 2> strides, std::array<std::int64_t, 2> dilations = {1, 1},
              std::array<std::int64_t, 4> pads = {}) {
  return {strides, dilations, Padding::valid, pads};
}

// Every way through the kernels: images read in place and copied with a border, short patches, tails of
// channels, plain products, strides that leave lattices, bands of one image, several images a box, Winograd's
// tiles, long kernels with few partial sums or none.
std::vector<Case> cases() {
  return {{{2, 6, 5, 3}, {3, 2, 3, 4}},
          {{1, 1, 1, 1}, {1, 1, 1, 1}},
          {{3, 9, 8, 1}, {3, 3, 1, 32}},
          {{2, 9, 40, 1}, {3, 3, 1, 37}, window({1, 1}, {1, 1}, {1, 1, 1, 1})},
          {{1, 3, 301, 1}, {3, 3, 1, 5}, window({1, 1}, {1, 1}, {0, 1, 2, 0})},
          {{1, 3, 301, 1}, {2, 3, 1, 5}},
          {{2, 4, 9, 1}, {3, 3, 1, 5}, window({4, 1}, {1, 1}, {1, 0, 0, 0})},
          {{2, 8, 9, 5}, {3, 2, 5, 7}, window({2, 3}, {1, 1}, {1, 0, 2, 1})},
          {{2, 9, 10, 6}, {3, 3, 6, 5}, window({1, 2}, {2, 3}, {2, 1, 3, 4})},
          {{2, 9, 10, 2}, {3, 2, 2, 5}, window({2, 1}, {1, 4})},
          {{4, 7, 7, 16}, {1, 1, 16, 24}},
          {{4, 7, 7, 16}, {1, 1, 16, 24}, window({2, 2})},
          {{4, 5, 5, 8}, {1, 1, 8, 6}, window({1, 1}, {1, 1}, {1, 1, 1, 1})},
          {{40, 13, 13, 4}, {3, 3, 4, 8}},
          {{1, 70, 20, 8}, {3, 3, 8, 6}, window({2, 1}, {2, 1}, {3, 2, 1, 1})},
          {{2, 3, 3, 7}, {5, 5, 7, 3}, window({1, 1}, {1, 1}, {4, 4, 4, 4})},
          {{3, 11, 10, 18}, {3, 3, 18, 33}, window({1, 1}, {1, 1}, {1, 2, 0, 1})},
          {{9, 7, 6, 128}, {3, 3, 128, 256}},
          {{1, 4, 4, 256}, {3, 3, 256, 512}},
          {{1, 2, 2, 1024}, {1, 1, 1024, 1100}},
          {{0, 5, 5, 3}, {2, 2, 3, 4}},
          {{2, 5, 5, 0}, {2, 2, 0, 4}},
          {{2, 5, 5, 3}, {2, 2, 3, 0}},
          {{1, 0, 5, 9}, {2, 2, 9, 2}, window({1, 1}, {1, 1}, {1, 2, 0, 0})}};
}

ConvSizes sizes_of(const Case& c) {
  return sizes(c.x[0], c.x[1], c.x[2], c.x[3], c.w[3],
               {c.w[0], c.w[1], c.window.strides, c.window.dilations, c.window.pads});
}
Shape output_shape(const Case& c) {
  const ConvSizes s = sizes_of(c);
  return {s.batch, s.out_rows, s.out_columns, s.out};
}

template <class T>
void check_case(const Case& c) {
  const ConvSizes s = sizes_of(c);
  const Inputs<T> in(s, SmallIntegers());
  const Trio<T> right = loops<T>(s, in);
  const Tensor x = tensor(in.x, c.x), w = tensor(in.w, c.w), d = tensor(in.d, output_shape(c));
  CAPTURE(text(s));
  const Tensor y = conv2d(x, w, c.window);
  CHECK(y.shape() == output_shape(c));
  CHECK(as_integers(y.to_vector<T>()) == right.y);
  CHECK(as_integers(conv2d_kernel_gradient(x, d, c.w, c.window).template to_vector<T>()) == right.w);
  CHECK(as_integers(conv2d_input_gradient(d, w, c.x, c.window).template to_vector<T>()) == right.x);
}

template <class F>
void for_thread_counts(F f) {
  const int before = threads();
  for (int n = 1; n <= 4; ++n) {
    set_threads(n);
    f(n);
  }
  set_threads(before);
}

}  // namespace

TEST_CASE("the convolution trio equals the plain loops on small integers in f32") {
  for (const Case& c : cases()) check_case<float>(c);
}
TEST_CASE("the convolution trio equals the plain loops on small integers in f64") {
  for (const Case& c : cases()) check_case<double>(c);
}

TEST_CASE("same padding gives ceil(size / stride) outputs, with the odd pixel at the end") {
  for (const std::int64_t stride : {1, 2, 3})
    for (const std::int64_t dilation : {1, 2})
      for (const std::int64_t taps : {1, 2, 3, 4}) {
        const std::int64_t rows = 7, columns = 8, extent = (taps - 1) * dilation + 1;
        const Tensor x = random_tensor({1, rows, columns, 2}, 1), w = random_tensor({taps, taps, 2, 3}, 2);
        const Tensor y = conv2d(x, w, {{stride, stride}, {dilation, dilation}, Padding::same});
        const std::int64_t out_rows = (rows + stride - 1) / stride,
                           out_columns = (columns + stride - 1) / stride;
        CHECK(y.shape() == Shape{1, out_rows, out_columns, 3});
        const std::int64_t down = std::max<std::int64_t>(0, (out_rows - 1) * stride + extent - rows);
        const std::int64_t across = std::max<std::int64_t>(0, (out_columns - 1) * stride + extent - columns);
        const Tensor padded =
            pad(x, {0, down / 2, across / 2, 0}, {0, down - down / 2, across - across / 2, 0});
        CHECK(y.to_vector<double>() ==
              conv2d(padded, w, window({stride, stride}, {dilation, dilation})).to_vector<double>());
      }
}

TEST_CASE("pads are added to what same padding gives") {
  const Tensor y =
      conv2d(zeros({1, 7, 8, 1}), zeros({3, 3, 1, 1}), {{1, 1}, {1, 1}, Padding::same, {1, 0, 2, 3}});
  CHECK(y.shape() == Shape{1, 8, 13, 1});
}

TEST_CASE("an input that is a view is convolved like its copy") {
  const Tensor x = random_tensor({2, 3, 6, 7}, 1), w = random_tensor({3, 3, 3, 4}, 2);
  const Tensor view = permute(x, {0, 2, 3, 1}), turned = flip(w, {0, 1});
  // First, for reading a view turns it into a value at rest.
  const std::vector<double> y = conv2d(view, turned).to_vector<double>();
  const Tensor copy = tensor(view.to_vector<double>(), view.shape());
  CHECK(y == conv2d(copy, tensor(turned.to_vector<double>(), w.shape())).to_vector<double>());
}

TEST_CASE("the convolution trio has gradients of first and second order") {
  for (const Case& c : {Case{{2, 5, 4, 2}, {3, 2, 2, 2}},
                        Case{{1, 6, 7, 2}, {2, 3, 2, 1}, window({2, 1}, {1, 2}, {1, 0, 2, 1})}}) {
    const Shape y = output_shape(c);
    check_two_orders([&](const std::vector<Tensor>& in) { return conv2d(in[0], in[1], c.window); },
                     {c.x, c.w});
    check_two_orders(
        [&](const std::vector<Tensor>& in) { return conv2d_kernel_gradient(in[0], in[1], c.w, c.window); },
        {c.x, y});
    check_two_orders(
        [&](const std::vector<Tensor>& in) { return conv2d_input_gradient(in[0], in[1], c.x, c.window); },
        {y, c.w});
  }
}

TEST_CASE("the convolution trio has the same bits for one to four threads") {
  for (const Case& c : cases()) {
    const Inputs<float> in(sizes_of(c), Normal());
    const Tensor x = tensor(in.x, c.x), w = tensor(in.w, c.w), d = tensor(in.d, output_shape(c));
    std::vector<std::vector<float>> first;
    for_thread_counts([&](int n) {
      const std::vector<std::vector<float>> now = {
          conv2d(x, w, c.window).to_vector<float>(),
          conv2d_kernel_gradient(x, d, c.w, c.window).to_vector<float>(),
          conv2d_input_gradient(d, w, c.x, c.window).to_vector<float>()};
      if (n == 1) first = now;
      CAPTURE(text(sizes_of(c)));
      CHECK(now == first);
    });
  }
}

TEST_CASE("with a kernel for each example, pieces are counted in the whole result") {
  const Shape x{6, 5, 4, 2}, w{3, 2, 2, 2, 3}, y{6, 4, 3, 3};
  const auto check = [&](const Op& op, const Shape& first, const Shape& result) {
    const Conv2DAttributes attributes{.examples = 3};
    const auto count = [](const Shape& shape) { return static_cast<std::size_t>(shape.numel()); };
    std::vector<float> a(count(first), 1), b(count(w), 1), got(count(result));
    std::vector<int> told(got.size());
    const auto count_pieces = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) ++told[static_cast<std::size_t>(i)];
    };
    const Finished finished(count_pieces);
    const View in[] = {dense_view(a.data(), {DType::f32, first}), dense_view(b.data(), {DType::f32, w})};
    op.forward.run({.in = in,
                    .out = dense_view(got.data(), {DType::f32, result}),
                    .attrs = &attributes,
                    .finished = &finished});
    CHECK(told == std::vector<int>(got.size(), 1));
  };
  check(records::conv2d_op, x, y);
  check(records::conv2d_input_gradient_op, y, x);
}

TEST_CASE("every mistake in a convolution is refused in words") {
  check_refusals(records::conv2d_op);
  check_refusals(records::conv2d_kernel_gradient_op);
  check_refusals(records::conv2d_input_gradient_op);
}

TEST_CASE("a mistake with the lecture's operators is refused in words") {
  CHECK(mentions(
      error_of([] {
        correlate2d(zeros({1, 4, 4, 1}), zeros({2, 2}));
      }),
      "correlate2d: image f32[1, 4, 4, 1] and kernel f32[2, 2] must both have rank 2: [rows, columns]; for "
      "batches and channels use conv2d"));
  CHECK(mentions(
      error_of([] {
        convolve2d(zeros({4, 4}), zeros({2, 5}));
      }),
      "convolve2d: kernel [2, 5] is larger than image [4, 4], so that nothing is left; pass full = true"));
  CHECK(mentions(error_of([] { rot180(zeros({4})); }), "rot180: f32[4] has rank 1, but must be"));
}
