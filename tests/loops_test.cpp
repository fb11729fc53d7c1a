// Elementwise loops: right results, and the same bits whatever the instruction set, the number of threads and
// the strides.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "../core/error.h"
#include "errors.h"
#include "loops.h"

// A user's namespace, with names of its own that must not get in the way.
namespace user {
struct Wave {};
inline Wave exp(Wave w) { return w; }
constexpr opgrad::Kernel swish = opgrad::map1<[](auto x) { return x / (1 + exp(-x)) + tanh(x) * 0.5; }>;
}  // namespace user

using namespace opgrad;
using namespace opgrad::test;

namespace {

const Layout layouts[] = {
    {{}, {}, 0, 1},
    {{7}, {1}, 0, 7},
    {{7}, {0}, 3, 7},
    {{1000}, {-1}, 999, 1000},
    {{1000}, {2}, 0, 2000},
    {{3, 5}, {1, 3}, 0, 15},
    {{3, 5}, {-5, 1}, 10, 15},
    {{4, 1, 6}, {6, 99, -1}, 5, 24},
    {{9, 31}, {0, 1}, 0, 31},
    {{9, 31}, {1, 0}, 0, 9},
    {{2, 3, 4, 5}, {0, 20, 0, 1}, 0, 60},
    {{2, 3, 4, 5}, {1, 8, 2, 24}, 0, 120},
    {{300, 200}, {1, 300}, 0, 60000},
    {{300, 200}, {0, -1}, 199, 200},
    {{200, 300}, {400, 1}, 0, 80000},
    {{0, 4}, {4, 1}, 0, 1},
};

}  // namespace

TEST_CASE("the instruction set is the lower of the machine's best and OPGRAD_ISA") {
  const Restore restore;
  const char* old = std::getenv("OPGRAD_ISA");
  const std::string kept = old ? old : "";
  for (int i = 0; i < isa_count; ++i) {
    setenv("OPGRAD_ISA", name_of(static_cast<Isa>(i)), 1);
    detail::chosen_isa = -1;
    CHECK(isa() == std::min(static_cast<Isa>(i), best_isa()));
  }
  setenv("OPGRAD_ISA", "sse9", 1);
  detail::chosen_isa = -1;
  CHECK(contains(message([] { isa(); }), "'sse9'"));
  if (old)
    setenv("OPGRAD_ISA", kept.c_str(), 1);
  else
    unsetenv("OPGRAD_ISA");
}

TEST_CASE("an instruction set the machine lacks is refused") {
  const Restore restore;
  set_isa(Isa::baseline);
  CHECK(isa() == Isa::baseline);
  set_isa(best_isa());
  CHECK(isa() == best_isa());
  if (best_isa() < Isa::avx512) CHECK_THROWS_AS(set_isa(Isa::avx512), UserError);
}

TEST_CASE_TEMPLATE(
    "a user's lambda has the value of the formula, with the same bits on every instruction set", T, float,
    double) {
  auto x = numbers<T>(1003);
  std::vector<T> first;
  on_each_isa([&] {
    std::vector<T> y(x.size());
    run(user::swish, {dense(x, {1003})}, dense(y, {1003}));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = static_cast<double>(x[i]), want = v / (1 + std::exp(-v)) + std::tanh(v) * 0.5;
      CHECK(static_cast<double>(y[i]) == doctest::Approx(want).epsilon(sizeof(T) == 4 ? 1e-6 : 1e-14));
    }
    if (first.empty()) first = y;
    CHECK(same_bits(y, first));
  });
}

TEST_CASE_TEMPLATE("strided, flipped, broadcast, empty and rank 0 inputs give the bits of their dense copies",
                   T, float, double, std::int32_t, std::uint8_t) {
  constexpr Kernel formula = map2<[](auto a, auto b) { return a * b + max(a, b) - 3; }, Types::numbers>;
  for (const Layout& l : layouts) {
    CAPTURE(to_string(l.shape));
    auto memory = numbers<T>(l.memory);
    auto other = numbers<T>(l.shape.numel(), 9);
    const View v = view_of(memory, l);
    auto copied = dense_copy<T>(v);
    on_each_isa([&] {
      std::vector<T> want(static_cast<std::size_t>(l.shape.numel())), got(want.size());
      run(formula, {dense(copied, l.shape), dense(other, l.shape)}, dense(want, l.shape));
      run(formula, {v, dense(other, l.shape)}, dense(got, l.shape));
      CHECK(same_bits(got, want));
      run(formula, {dense(other, l.shape), v}, dense(want, l.shape));
      run(formula, {dense(copied, l.shape), dense(other, l.shape)}, dense(got, l.shape));
      if (std::is_integral_v<T>) CHECK(same_bits(got, want));
    });
  }
}

TEST_CASE("a strided result has the elements of the dense one and nothing else is written") {
  constexpr Kernel twice = map1<[](auto a) { return a * 2; }>;
  for (const Layout& l : layouts) {
    if (std::find(l.strides.begin(), l.strides.end(), std::int64_t{0}) != l.strides.end()) continue;
    CAPTURE(to_string(l.shape));
    auto x = numbers<float>(l.shape.numel());
    std::vector<float> memory(static_cast<std::size_t>(l.memory), 12345.0f), want(x.size());
    run(twice, {dense(x, l.shape)}, dense(want, l.shape));
    const View out = view_of(memory, l);
    run(twice, {dense(x, l.shape)}, out);
    auto got = dense_copy<float>(out);
    got.resize(want.size());
    CHECK(same_bits(got, want));
    CHECK(std::count(memory.begin(), memory.end(), 12345.0f) == l.memory - l.shape.numel());
  }
}

TEST_CASE("every length gives the same bits as inside a long array, and writes nothing beyond its end") {
  constexpr Kernel sum = map3<[](auto a, auto b, auto c) { return a * b + c; }>;
  auto x = numbers<float>(130), y = numbers<float>(130, 2), z = numbers<float>(130, 3);
  on_each_isa([&] {
    std::vector<float> all(130);
    run(sum, {dense(x, {130}), dense(y, {130}), dense(z, {130})}, dense(all, {130}));
    for (std::int64_t n = 0; n < 130; ++n) {
      std::vector<float> some(130, -7.0f);
      const View splat{y.data(), {DType::f32, Shape{n}}, {0}};
      run(sum, {dense(x, {n}), dense(y, {n}), dense(z, {n})}, dense(some, {n}));
      CHECK(std::equal(some.begin(), some.begin() + n, all.begin()));
      CHECK(std::all_of(some.begin() + n, some.end(), [](float v) { return v == -7; }));
      run(sum, {dense(x, {n}), splat, dense(z, {n})}, dense(some, {n}));
      for (std::size_t k = 0; k < static_cast<std::size_t>(n); ++k) CHECK(some[k] == x[k] * y[0] + z[k]);
    }
  });
}

TEST_CASE("large arrays have the same bits on any number of threads") {
  const Restore restore;
  auto x = numbers<float>(300000);
  const Shape s{500, 600};
  const View crossed{x.data(), {DType::f32, s}, {1, 500}};
  for (const View& in : {dense(x, s), crossed}) {
    std::vector<float> one(x.size()), many(x.size());
    set_threads(1);
    run(user::swish, {in}, dense(one, s));
    set_threads(3);
    run(user::swish, {in}, dense(many, s));
    CHECK(same_bits(one, many));
  }
}

TEST_CASE("the result may overwrite a dense input") {
  auto x = numbers<float>(1001);
  std::vector<float> y(x.size());
  run(user::swish, {dense(x, {1001})}, dense(y, {1001}));
  run(user::swish, {dense(x, {1001})}, dense(x, {1001}));
  CHECK(same_bits(x, y));
}

TEST_CASE_TEMPLATE("comparisons give bool, and a bool input selects, for every type of number", T, float,
                   double, std::int32_t, std::int64_t, std::uint8_t) {
  constexpr Kernel less =
      map2<[](auto a, auto b) { return (a < b && !(a == 3)) || (a > 90); }, Types::numbers>;
  constexpr Kernel where =
      map3<[](auto m, auto a, auto b) { return select(m, a, b); }, Types::numbers | Types::mask_first>;
  constexpr Kernel gate =
      map2<[](auto m, auto a) { return select(!m, 0, a); }, Types::numbers | Types::mask_first>;
  for (std::int64_t n : {1, 5, 100, 133}) {
    const Shape s{n};
    std::vector<T> a(static_cast<std::size_t>(n)), b(a.size()), chosen(a.size()), gated(a.size());
    for (std::size_t k = 0; k < a.size(); ++k) {
      a[k] = static_cast<T>(k % 97);
      b[k] = static_cast<T>(k * 7 % 89);
    }
    on_each_isa([&] {
      std::vector<std::uint8_t> m(a.size(), 9);
      run(less, {dense(a, s), dense(b, s)}, dense_bool(m, s));
      run(where, {dense_bool(m, s), dense(a, s), dense(b, s)}, dense(chosen, s));
      run(gate, {dense_bool(m, s), dense(a, s)}, dense(gated, s));
      for (std::size_t k = 0; k < a.size(); ++k) {
        CHECK(m[k] == ((a[k] < b[k] && !(a[k] == T{3})) || a[k] > T{90}));
        CHECK(chosen[k] == (m[k] ? a[k] : b[k]));
        CHECK(gated[k] == (m[k] ? a[k] : T{0}));
      }
      const View always{m.data(), {DType::bool_, s}, {0}};
      run(where, {always, dense(a, s), dense(b, s)}, dense(chosen, s));
      CHECK(same_bits(chosen, m[0] ? a : b));
    });
  }
}

TEST_CASE("bool arrays combine by logic") {
  constexpr Kernel logic =
      map3<[](auto a, auto b, auto c) { return ((a && b) || !c) ^ (a == b); }, Types::bools>;
  constexpr Kernel where =
      map3<[](auto a, auto b, auto c) { return select(a, b, c); }, Types::all | Types::mask_first>;
  const std::int64_t n = 200;
  std::vector<std::uint8_t> a(n), b(n), c(n), y(n);
  for (std::size_t k = 0; k < n; ++k) {
    a[k] = k & 1;
    b[k] = k >> 1 & 1;
    c[k] = k >> 2 & 1;
  }
  on_each_isa([&] {
    run(logic, {dense_bool(a, {n}), dense_bool(b, {n}), dense_bool(c, {n})}, dense_bool(y, {n}));
    for (std::size_t k = 0; k < n; ++k) CHECK(y[k] == (((a[k] && b[k]) || !c[k]) != (a[k] == b[k])));
    run(where, {dense_bool(a, {n}), dense_bool(b, {n}), dense_bool(c, {n})}, dense_bool(y, {n}));
    for (std::size_t k = 0; k < n; ++k) CHECK(y[k] == (a[k] ? b[k] : c[k]));
  });
}

TEST_CASE("a kernel refuses dtypes, shapes and numbers of inputs it was not made for") {
  constexpr Kernel floats = map2<[](auto a, auto b) { return a + b; }>;
  constexpr Kernel where =
      map2<[](auto m, auto a) { return select(m, a, 0); }, Types::floats | Types::mask_first>;
  auto f = numbers<float>(4);
  auto d = numbers<double>(4);
  auto i = numbers<std::int32_t>(4);
  const Shape s{4};
  CHECK(contains(message<InternalError>([&] {
                   run(floats, {dense(i, s), dense(i, s)}, dense(i, s));
                 }),
                 "i32"));
  CHECK_THROWS_AS(run(floats, {dense(f, s), dense(d, s)}, dense(f, s)), InternalError);
  CHECK_THROWS_AS(run(floats, {dense(f, s), dense(f, s)}, dense(d, s)), InternalError);
  CHECK_THROWS_AS(run(where, {dense(f, s), dense(f, s)}, dense(f, s)), InternalError);
  CHECK_THROWS_AS(run(floats, {dense(f, s)}, dense(f, s)), InternalError);
  CHECK_THROWS_AS(run(floats, {dense(f, s), dense(f, {2, 2})}, dense(f, s)), InternalError);
  const bool has_dual = map1<[](auto a) { return !a; }, Types::bools>.dual != nullptr;
  CHECK(!has_dual);
}

TEST_CASE("a fold over leading axes has the same bits in parts of rows, whole or with an end, in any order") {
  const auto& table = detail::fold_table<Sum, Types::numbers>;
  for (const Shape& shape : {Shape{37, 26, 26, 20}, Shape{37, 11, 11, 3}, Shape{600, 5}, Shape{50, 7, 1, 40},
                             Shape{9, 150, 150}, Shape{700, 100}, Shape{2, 1}}) {
    CAPTURE(to_string(shape));
    std::vector<std::int64_t> dims(shape.begin(), shape.end());
    for (std::size_t folded = 1; folded <= dims.size(); ++folded) {
      dims[folded - 1] = 1;
      const Shape out(dims);
      std::vector<float> x(static_cast<std::size_t>(shape.numel()));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0f / static_cast<float>(1 + i * 7919 % 1009);
      std::vector<float> whole(static_cast<std::size_t>(out.numel())), met(whole.size());
      const View in = dense_view(x.data(), {DType::f32, shape});
      const View to = dense_view(met.data(), {DType::f32, out});
      reduce_sum(in, dense_view(whole.data(), {DType::f32, out}));

      const std::int64_t rows = shape[0], each = detail::fold_part_rows(shape, out);
      REQUIRE(each > 0);
      std::vector<std::byte> parts(detail::fold_part_bytes(shape, out, DType::f32));
      // Blocks of two parts, the last first.
      for (std::int64_t first = (rows - 1) / (2 * each) * 2 * each; first >= 0; first -= 2 * each) {
        View block = in;
        std::vector<std::int64_t> cut(shape.begin(), shape.end());
        cut[0] = std::min(2 * each, rows - first);
        block.data = x.data() + first * (shape.numel() / rows);
        block.type.shape = Shape(cut);
        detail::fold_parts(block, to, table, first, parts.data());
      }
      detail::meet_parts(in, to, table, parts.data());
      CHECK(met == whole);
    }
  }
  CHECK(detail::fold_part_rows({4, 5, 6}, {4, 1, 6}) == 0);
  CHECK(detail::fold_part_rows({4, 5, 6}, {1, 5, 1}) == 0);
  CHECK(detail::fold_part_rows({0, 5}, {1, 5}) == 0);
}
