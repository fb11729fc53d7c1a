// Folds: sums, maxima and argmax over any axes, a user's own; exact, or with the same bits everywhere.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../core/error.h"
#include "loops.h"

using namespace opgrad;
using namespace opgrad::test;
using kernel::Dual;

namespace {

// The slow way: every element of `in` into its place of `out`.
template <class T, class F>
std::vector<T> naive_fold(const View& in, const Shape& out, T start, F f) {
  auto values = dense_copy<T>(in);
  std::vector<T> result(static_cast<std::size_t>(out.numel()), start);
  for (std::int64_t k = 0; k < in.numel(); ++k) {
    std::int64_t rest = k, to = 0, step = 1;
    for (int i = in.shape().rank() - 1; i >= 0; --i) {
      if (out[i] != 1) to += rest % in.shape()[i] * step;
      step *= out[i];
      rest /= in.shape()[i];
    }
    auto& r = result[static_cast<std::size_t>(to)];
    r = f(r, values[static_cast<std::size_t>(k)]);
  }
  return result;
}

struct Reduction {
  Shape in, out;
};
const Reduction reductions[] = {
    {{}, {}},
    {{1, 1}, {1, 1}},
    {{7}, {1}},
    {{7}, {7}},
    {{31}, {1}},
    {{33}, {1}},
    {{5000}, {1}},
    {{40000}, {1}},
    {{3, 40000}, {3, 1}},
    {{64, 10}, {64, 1}},
    {{64, 10}, {1, 10}},
    {{64, 10}, {1, 1}},
    {{300, 3}, {1, 3}},
    {{1000, 1}, {1, 1}},
    {{700, 17}, {1, 17}},
    {{700, 64}, {1, 64}},
    {{700, 43}, {1, 43}},
    {{3, 300, 27}, {3, 1, 27}},
    {{20, 300}, {1, 300}},
    {{600, 150}, {1, 150}},
    {{4, 6, 6, 5}, {1, 1, 1, 5}},
    {{4, 6, 6, 5}, {4, 1, 1, 5}},
    {{4, 6, 6, 5}, {1, 6, 1, 5}},
    {{4, 6, 6, 5}, {1, 6, 1, 1}},
    {{4, 6, 6, 5}, {1, 6, 6, 1}},
    {{4, 6, 1, 5}, {4, 1, 1, 1}},
    {{2, 3, 2, 3, 2, 3}, {1, 3, 1, 3, 1, 3}},
    {{2, 3, 2, 3, 2, 3}, {2, 1, 2, 1, 2, 1}},
    {{2, 600, 3, 40}, {2, 1, 3, 1}},
    {{0, 3}, {1, 3}},
    {{3, 0}, {3, 1}},
    {{0, 3}, {0, 1}},
};

}  // namespace

TEST_CASE_TEMPLATE("sums and maxima of whole numbers are exact over any axes", T, float, double, std::int32_t,
                   std::int64_t, std::uint8_t) {
  for (const Reduction& r : reductions) {
    std::vector<T> x(static_cast<std::size_t>(r.in.numel()) + 1);
    for (std::size_t k = 0; k < x.size(); ++k)
      x[k] = static_cast<T>(k * 2654435761u % 23) - static_cast<T>(std::is_signed_v<T> ? 11 : 0);
    const View in = dense(x, r.in);
    INFO(to_string(r.in) << " -> " << to_string(r.out));
    const T least =
        std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
    const auto sum = naive_fold<T>(in, r.out, T{0}, [](T a, T b) { return static_cast<T>(a + b); });
    const auto max = naive_fold<T>(in, r.out, least, [](T a, T b) { return std::max(a, b); });
    on_each_isa([&] {
      std::vector<T> y(sum.size(), T{99});
      reduce_sum(in, dense(y, r.out));
      CHECK(y == sum);
      reduce_max(in, dense(y, r.out));
      CHECK(y == max);
    });
  }
}

TEST_CASE_TEMPLATE("a sum has the same bits for any strides, instructions and threads", T, float, double) {
  const Restore restore;
  struct Case {
    Layout layout;
    Shape out;
  };
  const Case cases[] = {
      {{{300, 200}, {1, 300}, 0, 60000}, {300, 1}},
      {{{300, 200}, {1, 300}, 0, 60000}, {1, 200}},
      {{{300, 200}, {1, 300}, 0, 60000}, {1, 1}},
      {{{40000}, {-1}, 39999, 40000}, {1}},
      {{{40000}, {3}, 0, 120000}, {1}},
      {{{500, 40}, {0, 1}, 0, 40}, {1, 40}},
      {{{500, 40}, {1, 0}, 0, 500}, {500, 1}},
      {{{6, 50, 70}, {70, 420, 1}, 0, 21000}, {6, 1, 70}},
      {{{6, 50, 70}, {70, 420, 1}, 0, 21000}, {1, 50, 1}},
      {{{2, 20000, 3}, {3, 6, 1}, 0, 120000}, {2, 1, 3}},
      {{{900, 300}, {1, 900}, 0, 270000}, {1, 300}},
  };
  for (const Case& c : cases) {
    INFO(to_string(c.layout.shape) << " -> " << to_string(c.out));
    auto memory = numbers<T>(c.layout.memory);
    for (auto& x : memory) x = x / T{3} + x * x;
    const View strided = view_of(memory, c.layout);
    auto copied = dense_copy<T>(strided);
    std::vector<T> first(static_cast<std::size_t>(c.out.numel()));
    set_isa(Isa::baseline);
    set_threads(1);
    reduce_sum(dense(copied, c.layout.shape), dense(first, c.out));
    for (int n : {1, 3}) {
      set_threads(n);
      for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
        set_isa(static_cast<Isa>(i));
        std::vector<T> y(first.size()), spread(first.size() * 2);
        reduce_sum(dense(copied, c.layout.shape), dense(y, c.out));
        CHECK(same_bits(y, first));
        reduce_sum(strided, dense(y, c.out));
        CHECK(same_bits(y, first));
        View gaps = dense(spread, c.out);
        for (auto& s : gaps.strides) s *= 2;
        reduce_sum(strided, gaps);
        for (std::size_t k = 0; k < y.size(); ++k) CHECK(spread[2 * k] == first[k]);
      }
    }
  }
}

TEST_CASE_TEMPLATE("a sum of columns is that of leaves of 32 rows, blocks of 256 and a balanced tree", T,
                   float, double) {
  const Restore restore;
  // Widths of eight, two and one pack and a tail, on each instruction set; rows about all the cuts. (One
  // column is a row.)
  for (const std::int64_t columns : {2, 3, 5, 8, 12, 16, 17, 24, 31, 32, 40, 47, 64, 72, 100, 130, 150}) {
    for (const std::int64_t rows :
         {1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 600, 1300}) {
      INFO(rows << " rows of " << columns);
      std::vector<T> x = numbers<T>(rows * columns);
      for (auto& e : x) e = e / T{3} + e * e;
      std::vector<T> expected, y(static_cast<std::size_t>(columns));
      for (std::int64_t c = 0; c < columns; ++c) {
        std::vector<T> blocks;
        for (std::int64_t b = 0; b < rows; b += 256) {
          T block = -T{0};
          for (std::int64_t leaf = b; leaf < std::min(b + 256, rows); leaf += 32) {
            T total = -T{0};
            for (std::int64_t r = leaf; r < std::min(leaf + 32, rows); ++r)
              total += x[static_cast<std::size_t>(r * columns + c)];
            block += total;
          }
          blocks.push_back(block);
        }
        for (std::size_t step = 1; step < blocks.size(); step *= 2)
          for (std::size_t i = 0; i + step < blocks.size(); i += 2 * step) blocks[i] += blocks[i + step];
        expected.push_back(blocks[0]);
      }
      for (const int n : {1, 2, 3, 4, 8}) {
        set_threads(n);
        on_each_isa([&] {
          reduce_sum(dense(x, {rows, columns}), dense(y, {1, columns}));
          CHECK(same_bits(y, expected));
        });
      }
    }
  }
}

TEST_CASE("the error of a long float sum is that of a pairwise sum") {
  const std::int64_t n = 1 << 20;
  std::vector<float> x(n), rows(1), columns(4);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = 1 + static_cast<float>(k * 2654435761u % 1000) / 1000;
  double exact = 0;
  for (float v : x) exact += static_cast<double>(v);
  reduce_sum(dense(x, {n}), dense(rows, {1}));
  CHECK(std::fabs(static_cast<double>(rows[0]) - exact) / exact < 5e-7);
  reduce_sum(dense(x, {n / 4, 4}), dense(columns, {1, 4}));
  CHECK(std::fabs(static_cast<double>(columns[0] + columns[1] + columns[2] + columns[3]) - exact) / exact <
        5e-7);
}

TEST_CASE("a lone minus zero stays one in a sum; the sum of nothing is plus zero") {
  for (std::int64_t n : {1, 3, 40}) {
    std::vector<float> x(static_cast<std::size_t>(n), -0.0f), y = {5};
    reduce_sum(dense(x, {n, 1}), dense(y, {1, 1}));
    CHECK(y[0] == 0);
    CHECK(std::signbit(y[0]));
  }
  std::vector<float> none, y = {5};
  reduce_sum(dense(none, {0}), dense(y, {1}));
  CHECK(y[0] == 0);
  CHECK(!std::signbit(y[0]));
}

TEST_CASE("a maximum is NaN if any element is") {
  on_each_isa([] {
    for (std::size_t at = 0; at < 100; ++at) {
      std::vector<float> x(100, 3), y(1), columns(10);
      x[at] = NAN;
      reduce_max(dense(x, {100}), dense(y, {1}));
      CHECK(std::isnan(y[0]));
      reduce_max(dense(x, {10, 10}), dense(columns, {1, 10}));
      for (std::size_t c = 0; c < 10; ++c) CHECK(std::isnan(columns[c]) == (c == at % 10));
    }
  });
}

namespace {
struct Product {
  static constexpr double identity = 1, empty = 1;
  template <class X>
  X operator()(const X& a, const X& b) const {
    return a * b;
  }
};
}  // namespace

TEST_CASE("a user's fold runs on packs and on dual numbers") {
  constexpr Kernel product = fold<Product, Types::floats>;
  std::vector<double> x = {2, 3, 4, 5, 6, 7}, y(2);
  run(product, {dense(x, {2, 3})}, dense(y, {2, 1}));
  CHECK(y[0] == 24);
  CHECK(y[1] == 210);
  Dual in[] = {{2, 1}, 3, 4, 5, {6, 1}, 7}, out[2];
  const View v[] = {dense_view(in, {DType::f64, Shape{2, 3}})};
  KernelArgs a;
  a.in = v;
  a.out = dense_view(out, {DType::f64, Shape{2, 1}});
  product.dual(a);
  CHECK(out[0].v == 24);
  CHECK(out[0].d == 12);
  CHECK(out[1].d == 35);
}

TEST_CASE("a fold to a shape it cannot have, or of a dtype it was not made for, is an internal error") {
  std::vector<float> x(6), y(6);
  std::vector<double> d(6);
  CHECK_THROWS_AS(reduce_sum(dense(x, {2, 3}), dense(y, {2, 2})), InternalError);
  CHECK_THROWS_AS(reduce_sum(dense(x, {2, 3}), dense(y, {2})), InternalError);
  CHECK_THROWS_AS(reduce_sum(dense(x, {2, 3}), dense(d, {2, 1})), InternalError);
  std::vector<std::int32_t> i(6);
  CHECK_THROWS_AS(run(fold<Product, Types::floats>, {dense(i, {6})}, dense(i, {1})), InternalError);
}

TEST_CASE_TEMPLATE("argmax is the first of the greatest along any axis", T, float, double, std::int32_t,
                   std::uint8_t) {
  std::vector<T> x(4 * 50 * 3);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<T>(k * 2654435761u % 11);
  View in = dense(x, {4, 50, 3});
  for (int axis = 0; axis < 3; ++axis) {
    std::vector<std::int64_t> dims(in.shape().begin(), in.shape().end());
    dims[static_cast<std::size_t>(axis)] = 1;
    const Shape out_shape{std::span<const std::int64_t>(dims)};
    std::vector<std::int64_t> y(static_cast<std::size_t>(out_shape.numel()));
    reduce_argmax(in, axis, dense(y, out_shape));
    const std::int64_t stride = in.strides[static_cast<std::size_t>(axis)], n = in.shape()[axis];
    for (std::size_t k = 0; k < y.size(); ++k) {
      const T* head = x.data() + static_cast<std::int64_t>(k) / stride * stride * n +
                      static_cast<std::int64_t>(k) % stride;
      std::int64_t best = 0;
      for (std::int64_t i = 0; i < n; ++i)
        if (head[i * stride] > head[best * stride]) best = i;
      CHECK(y[k] == best);
    }
  }
}

TEST_CASE("argmax counts NaN as the greatest, the first one wins, and walks backwards, too") {
  std::vector<float> x = {1, 5, NAN, 9, NAN, 2};
  std::vector<std::int64_t> y(1);
  reduce_argmax(dense(x, {6}), 0, dense(y, {1}));
  CHECK(y[0] == 2);
  View flipped = dense_view(x.data() + 5, {DType::f32, Shape{6}});
  flipped.strides[0] = -1;
  reduce_argmax(flipped, 0, dense(y, {1}));
  CHECK(y[0] == 1);
  x[0] = NAN;
  reduce_argmax(dense(x, {6}), 0, dense(y, {1}));
  CHECK(y[0] == 0);
  std::vector<float> none;
  CHECK_THROWS_AS(reduce_argmax(dense(none, {0}), 0, dense(y, {1})), InternalError);
  CHECK_THROWS_AS(reduce_argmax(dense(x, {6}), 1, dense(y, {1})), InternalError);
}
