// Errors, dtypes, shapes and views: checks, messages, the table of shapes, copies between layouts.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "../core/error.h"
#include "../core/parallel.h"
#include "../core/view.h"
#include "errors.h"

using namespace opgrad;
using test::contains;
using test::message;

TEST_CASE("a failed internal check names the condition, the file and the line") {
  internal_check(true, "fine");
  const std::string m = message<InternalError>([] { internal_check(false, "water is dry"); });
  CHECK(contains(m, "water is dry"));
  CHECK(contains(m, "shape_test.cpp:"));
}

TEST_CASE("both kinds of error are opgrad::Error, and neither is the other") {
  CHECK_THROWS_AS(throw UserError("x"), Error);
  CHECK_THROWS_AS(throw InternalError("x"), Error);
  CHECK(message<InternalError>([] {
          try {
            throw UserError("u");
          } catch (const InternalError&) {
          } catch (const Error&) {
          }
        }) == "no error");
}

TEST_CASE("dtypes know their names, sizes and C++ types") {
  for (int i = 0; i < dtype_count; ++i) {
    const auto t = static_cast<DType>(i);
    dispatch(t, [&]<class T>() {
      CHECK(dtype_of<T> == t);
      CHECK(size_of(t) == sizeof(T));
    });
  }
  CHECK(name_of(DType::bool_) == "bool");
  CHECK(name_of(DType::f64) == "f64");
}

TEST_CASE("promotion is symmetric and refuses floats with other floats and with integers") {
  for (int i = 0; i < dtype_count; ++i)
    for (int j = 0; j < dtype_count; ++j)
      CHECK(promote(static_cast<DType>(i), static_cast<DType>(j)) ==
            promote(static_cast<DType>(j), static_cast<DType>(i)));
  CHECK(!promote(DType::f32, DType::f64));
  CHECK(!promote(DType::f32, DType::i32));
  CHECK(promote(DType::u8, DType::i32) == DType::i32);
  CHECK(promote(DType::bool_, DType::u8) == DType::u8);
}

TEST_CASE("a shape knows its rank, sizes and number of elements") {
  const Shape s{2, 3, 4};
  CHECK(s.rank() == 3);
  CHECK(s.numel() == 24);
  CHECK(s.dim(-1) == 4);
  CHECK(s.dim(0) == 2);
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{5, 0, 7}.numel() == 0);
  CHECK(to_string(s) == "[2, 3, 4]");
  CHECK(to_string(Shape{}) == "[]");
  CHECK(to_string(Type{DType::i64, s}) == "i64[2, 3, 4]");
  CHECK(s == Shape{2, 3, 4});
  CHECK(s != Shape{2, 3});
  CHECK(s != Shape{2, 3, 5});
}

TEST_CASE("a negative size is refused with the shape and the size") {
  const std::string m = message([] { Shape{3, -2}; });
  CHECK(contains(m, "[3, -2]"));
  CHECK(contains(m, "holds -2"));
}

TEST_CASE("more than eight axes are refused with their number") {
  CHECK(Shape{1, 1, 1, 1, 1, 1, 1, 1}.rank() == 8);
  CHECK(contains(message([] { Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}; }), "has 9"));
}

TEST_CASE("more than 2^56 elements are refused, behind a zero and beyond 64 bits, too") {
  constexpr std::int64_t big = std::int64_t{1} << 28;
  CHECK(Shape{big, big}.numel() == std::int64_t{1} << 56);
  for (const std::vector<std::int64_t>& dims : {std::vector<std::int64_t>{big, big, 2},
                                                {0, big, big, 2},
                                                {big * big, big * big},
                                                {INT64_MAX, INT64_MAX, 3}})
    CHECK(contains(message([&] { Shape s(dims); }), "more than 2^56"));
}

TEST_CASE("an axis may be counted from either end, and one out of range is refused with the range") {
  CHECK(normalize_axis(-1, 3, "sum") == 2);
  CHECK(normalize_axis(2, 3, "sum") == 2);
  const std::string m = message([] { normalize_axis(3, 3, "sum"); });
  CHECK(contains(m, "sum: axis 3"));
  CHECK(contains(m, "between -3 and 2"));
  CHECK(contains(message([] { normalize_axis(-4, 3, "sum"); }), "axis -4"));
  CHECK(contains(message([] { normalize_axis(0, 0, "sum"); }), "rank 0"));
  CHECK_THROWS_AS(Shape{2}.dim(1), UserError);
}

TEST_CASE("shapes broadcast from the right where sizes are equal or 1") {
  CHECK(broadcast_shapes({2, 3}, {3}) == Shape{2, 3});
  CHECK(broadcast_shapes({2, 1}, {1, 3}) == Shape{2, 3});
  CHECK(broadcast_shapes({}, {4, 5}) == Shape{4, 5});
  CHECK(broadcast_shapes({0}, {1}) == Shape{0});
  CHECK(broadcast_shapes({1}, {0}) == Shape{0});
}

TEST_CASE("shapes that do not broadcast are refused with both shapes and the axis") {
  const std::string m = message([] { broadcast_shapes({2, 3}, {4, 1, 3, 3}); });
  CHECK(contains(m, "[2, 3]"));
  CHECK(contains(m, "[4, 1, 3, 3]"));
  CHECK(contains(m, "axis -2 has sizes 2 and 3"));
  CHECK_THROWS_AS(broadcast_shapes({0}, {2}), UserError);
}

TEST_CASE("products and sums are checked for overflow") {
  CHECK(checked_mul(INT64_MAX / 2, 2, "x") == INT64_MAX - 1);
  CHECK(checked_add(INT64_MAX - 1, 1, "x") == INT64_MAX);
  CHECK(
      contains(message([] { checked_mul(INT64_MAX / 2, 3, "window"); }), "window: 4611686018427387903 * 3"));
  CHECK(contains(message([] { checked_add(INT64_MAX, 1, "window"); }), "overflows 64 bits"));
}

TEST_CASE("equal shapes have equal ids, different ones different ids, on all threads") {
  const Shape first{41, 3};
  const ShapeId id = intern(first);
  CHECK(intern(Shape{41, 3}) == id);
  CHECK(intern(Shape{3, 41}) != id);
  CHECK(intern(Shape{}) != intern(Shape{1}));
  std::vector<ShapeId> ids[4];
  std::vector<std::thread> threads;
  for (auto& own : ids)
    threads.emplace_back([&own] {
      for (std::int64_t i = 0; i < 3000; ++i) {
        own.push_back(intern(Shape{1000 + i, 7}));
        if (shape_of(own.back()) != Shape{1000 + i, 7}) own.back() = UINT32_MAX;
      }
    });
  for (std::thread& t : threads) t.join();
  for (const auto& other : ids) CHECK(other == ids[0]);
  for (std::size_t i = 0; i < ids[0].size(); ++i)
    REQUIRE(shape_of(ids[0][i]) == Shape{1000 + static_cast<std::int64_t>(i), 7});
  CHECK(shape_of(id) == first);
}

TEST_CASE("a view is dense only without gaps in row-major order, axes of size 1 aside") {
  float data[24];
  View v = dense_view(data, {DType::f32, Shape{2, 3, 4}});
  CHECK(v.strides[0] == 12);
  CHECK(v.strides[1] == 4);
  CHECK(v.strides[2] == 1);
  CHECK(v.dense());
  v.strides[1] = 8;
  CHECK(!v.dense());
  View one = dense_view(data, {DType::f32, Shape{3, 1, 4}});
  one.strides[1] = 99;
  CHECK(one.dense());
  one.strides[0] = -4;
  CHECK(!one.dense());
  CHECK(dense_view(data, {DType::f32, Shape{}}).dense());
  View empty{data, {DType::f32, Shape{2, 0}}, {5, 5}};
  CHECK(empty.dense());
}

TEST_CASE("a view is a splat when all its elements are one") {
  float data[4];
  View v{data, {DType::f32, Shape{2, 1, 2}}, {0, 7, 0}};
  CHECK(v.splat());
  v.strides[2] = 1;
  CHECK(!v.splat());
  CHECK(dense_view(data, {DType::f32, Shape{}}).splat());
}

namespace {

// Element k of a view in row-major order, found the slow way.
template <class T>
T& at(const View& v, std::int64_t k) {
  std::int64_t offset = 0;
  for (int i = v.shape().rank() - 1; i >= 0; --i) {
    offset += k % v.shape()[i] * v.strides[static_cast<std::size_t>(i)];
    k /= v.shape()[i];
  }
  return v.as<T>()[offset];
}

// Copies a view with the given strides, whose element 0 lies `origin` elements into its memory, to a dense
// one and back.
template <class T>
void check_copy(const Shape& shape, std::vector<std::int64_t> strides, std::int64_t origin,
                std::int64_t memory) {
  CAPTURE(to_string(shape));
  std::vector<T> data(static_cast<std::size_t>(memory));
  std::iota(data.begin(), data.end(), T{1});
  View view{data.data() + origin, {dtype_of<T>, shape}, {}};
  std::copy(strides.begin(), strides.end(), view.strides.begin());
  std::vector<T> dense(static_cast<std::size_t>(shape.numel()));
  const View to = dense_view(dense.data(), view.type);
  copy(view, to);
  std::int64_t wrong = 0;
  for (std::int64_t k = 0; k < shape.numel(); ++k)
    wrong += dense[static_cast<std::size_t>(k)] != at<T>(view, k);
  CHECK(wrong == 0);
  if (std::find(strides.begin(), strides.end(), 0) != strides.end()) return;
  std::fill(data.begin(), data.end(), T{0});
  copy(to, view);
  wrong = 0;
  for (std::int64_t k = 0; k < shape.numel(); ++k)
    wrong += at<T>(view, k) != dense[static_cast<std::size_t>(k)];
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("copies between dense, transposed, flipped and broadcast layouts are exact", T, float,
                   double, std::uint8_t) {
  check_copy<T>({}, {}, 0, 1);
  check_copy<T>({5}, {1}, 0, 5);
  check_copy<T>({5}, {-1}, 4, 5);
  check_copy<T>({5}, {0}, 2, 5);
  check_copy<T>({2, 3, 4}, {12, 4, 1}, 0, 24);
  check_copy<T>({4, 3, 2}, {1, 4, 12}, 0, 24);
  check_copy<T>({3, 1, 4}, {4, 77, -1}, 3, 12);
  check_copy<T>({3, 4, 5}, {0, 5, 1}, 0, 20);
  check_copy<T>({37, 53}, {1, 37}, 0, 37 * 53);
  check_copy<T>({37, 53}, {1, -37}, 37 * 52, 37 * 53);
  check_copy<T>({3, 20, 33}, {660, 1, 20}, 0, 1980);
  check_copy<T>({400, 500}, {1, 400}, 0, 200000);
  check_copy<T>({400, 500}, {500, 1}, 0, 200000);
  check_copy<T>({0, 3}, {3, 1}, 0, 1);
}

TEST_CASE("a large copy has the same result on any number of threads") {
  const int before = threads();
  const Shape s{500, 600};
  std::vector<float> from(300000), one(300000), many(300000);
  std::iota(from.begin(), from.end(), 0.0f);
  const View v{from.data(), {DType::f32, s}, {1, 500}};
  set_threads(1);
  copy(v, dense_view(one.data(), v.type));
  set_threads(4);
  copy(v, dense_view(many.data(), v.type));
  set_threads(before);
  CHECK(one == many);
}

TEST_CASE("copying between different types is an internal error") {
  float f[2] = {};
  double d[2] = {};
  CHECK_THROWS_AS(copy(dense_view(f, {DType::f32, Shape{2}}), dense_view(d, {DType::f64, Shape{2}})),
                  InternalError);
  CHECK_THROWS_AS(copy(dense_view(f, {DType::f32, Shape{2}}), dense_view(f, {DType::f32, Shape{1}})),
                  InternalError);
}
