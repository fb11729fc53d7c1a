// Max pooling, its gradient and its pick against loops.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../core/isa.h"
#include "../core/parallel.h"
#include "../ops/pool2d_kernels.h"
#include "../ops/records.h"
#include "loops.h"
#include "numeric_gradient.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

struct Case {
  Shape x;
  std::array<std::int64_t, 2> size, strides;
  Shape y() const {
    return {x[0], (x[1] - size[0]) / strides[0] + 1, (x[2] - size[1]) / strides[1] + 1, x[3]};
  }
};

// Windows that tile, drop the rest, overlap, leave gaps; whole packs of channels, tails, both.
const std::vector<Case> cases = {{{2, 4, 6, 3}, {2, 2}, {2, 2}},  {{3, 5, 7, 16}, {2, 2}, {2, 2}},
                                 {{1, 7, 7, 37}, {3, 3}, {2, 2}}, {{2, 6, 5, 1}, {3, 2}, {1, 1}},
                                 {{2, 9, 8, 5}, {2, 1}, {3, 2}},  {{1, 3, 4, 18}, {3, 4}, {1, 1}},
                                 {{0, 4, 4, 2}, {2, 2}, {2, 2}},  {{2, 4, 4, 0}, {2, 2}, {2, 2}},
                                 {{40, 6, 6, 8}, {1, 1}, {1, 1}}, {{5, 26, 26, 32}, {2, 2}, {2, 2}}};

// The index in x of the winner of each output element: the first NaN, else the first of the greatest.
template <class T>
std::vector<std::size_t> winners(const Case& c, const std::vector<T>& x) {
  std::vector<std::size_t> all;
  const Shape y = c.y();
  for (std::int64_t b = 0; b < y[0]; ++b)
    for (std::int64_t i = 0; i < y[1]; ++i)
      for (std::int64_t j = 0; j < y[2]; ++j)
        for (std::int64_t k = 0; k < y[3]; ++k) {
          std::size_t best = x.size();
          for (std::int64_t m = 0; m < c.size[0]; ++m)
            for (std::int64_t n = 0; n < c.size[1]; ++n) {
              const auto at = static_cast<std::size_t>(
                  ((b * c.x[1] + i * c.strides[0] + m) * c.x[2] + j * c.strides[1] + n) * c.x[3] + k);
              if (best == x.size()) best = at;
              if (std::isnan(x[best])) continue;
              if (std::isnan(x[at]) || x[at] > x[best]) best = at;
            }
          all.push_back(best);
        }
  return all;
}

// Few distinct values, so that most windows have ties.
template <class T>
std::vector<T> integers(std::int64_t n, unsigned seed) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = static_cast<T>(static_cast<int>((seed = seed * 1664525u + 1013904223u) >> 24) % 5 - 2);
  return v;
}

template <class T>
void check_case(const Case& c) {
  const std::vector<T> x = integers<T>(c.x.numel(), 1), dy = integers<T>(c.y().numel(), 2),
                       v = integers<T>(c.x.numel(), 3);
  const std::vector<std::size_t> best = winners(c, x);
  std::vector<T> y, dx(x.size()), picked;
  for (std::size_t i = 0; i < best.size(); ++i) {
    y.push_back(x[best[i]]);
    dx[best[i]] += dy[i];
    picked.push_back(v[best[i]]);
  }
  const Tensor tx = variable(tensor(x, c.x)), tdy = variable(tensor(dy, c.y()));
  const Tensor ty = max_pool2d(tx, c.size, c.strides);
  CAPTURE(to_string(c.x));
  CHECK(ty.shape() == c.y());
  CHECK(ty.to_vector<T>() == y);
  const Tensor tdx = vjp(ty, tdy, {&tx, 1})[0];
  CHECK(tdx.to_vector<T>() == dx);
  // The gradient's gradient by dy picks v where x won.
  const Tensor tpicked = vjp(tdx, tensor(v, c.x), {&tdy, 1})[0];
  CHECK(tpicked.to_vector<T>() == picked);
}

// NaN of several payloads and signs, infinities, zeros of both signs, and ties.
template <class T>
std::vector<T> awkward(std::int64_t n, unsigned seed) {
  constexpr T nan = std::numeric_limits<T>::quiet_NaN(), inf = std::numeric_limits<T>::infinity();
  std::vector<T> v = integers<T>(n, seed);
  for (T& x : v) {
    seed = seed * 1664525u + 1013904223u;
    const unsigned kind = seed >> 28;
    const T sign = seed & 1024 ? T{1} : T{-1};
    if (kind == 0) {
      x = std::copysign(nan, sign);
      std::memcpy(&x, &seed, 2);  // the low bits are the payload's
    } else if (kind == 1) {
      x = sign * inf;
    } else if (kind < 5) {
      x = sign * T{0};
    }
  }
  return v;
}

// The kernels write what the loops give, to the last bit, on every instruction set, and nothing beyond.
template <class T>
void check_bits(const Case& c) {
  using Kernel = void (*)(const KernelArgs&);
  const std::vector<T> dy = integers<T>(c.y().numel(), 2);
  std::vector<T> x = awkward<T>(c.x.numel(), 1), v = awkward<T>(c.x.numel(), 3), incoming = dy;
  const std::vector<std::size_t> best = winners(c, x);
  const T beyond = 99;
  std::vector<T> y, dx(x.size()), picked;
  for (std::size_t i = 0; i < best.size(); ++i) {
    y.push_back(x[best[i]]);
    dx[best[i]] += dy[i];
    picked.push_back(v[best[i]]);
  }
  for (std::vector<T>* expected : {&y, &dx, &picked}) expected->push_back(beyond);
  const Pool2DAttributes attributes{c.size, c.strides};
  const auto check = [&](Kernel kernel, std::vector<View> in, const Shape& shape,
                         const std::vector<T>& expected) {
    std::vector<T> got(expected.size(), beyond);
    KernelArgs k;
    k.in = in;
    k.out = dense(got, shape);
    k.attrs = &attributes;
    kernel(k);
    CHECK(same_bits(got, expected));
  };
  INFO(to_string(c.x) << ", windows of " << c.size[0] << " x " << c.size[1] << ", strides " << c.strides[0]
                      << " and " << c.strides[1]);
  on_each_isa([&] {
    check(pool2d_forward, {dense(x, c.x)}, c.y(), y);
    check(pool2d_gradient, {dense(x, c.x), dense(incoming, c.y())}, c.x, dx);
    check(pool2d_pick, {dense(x, c.x), dense(v, c.x)}, c.y(), picked);
  });
}

}  // namespace

TEST_CASE_TEMPLATE("pooling, its gradient and its pick are those of the loops bit for bit for any channels",
                   T, float, double) {
  // Windows that tile (known to the compiler, and others), overlap and leave gaps; images that they fill, and
  // with rows, columns or both left over.
  struct Window {
    std::array<std::int64_t, 2> size, strides;
  };
  const Window windows[] = {{{2, 2}, {2, 2}}, {{3, 3}, {3, 3}}, {{2, 3}, {2, 3}}, {{5, 1}, {5, 1}},
                            {{3, 2}, {2, 1}}, {{1, 2}, {2, 3}}, {{2, 2}, {3, 2}}};
  const std::array<std::int64_t, 2> images[] = {{6, 6}, {7, 6}, {6, 8}, {5, 7}};
  for (std::int64_t channels = 1; channels <= 40; ++channels)
    for (const Window& w : windows)
      for (const auto& [rows, columns] : images)
        check_bits<T>({{2, rows, columns, channels}, w.size, w.strides});
}

TEST_CASE("pooling, its gradient and its pick equal the loops, ties included, in f32") {
  for (const Case& c : cases) check_case<float>(c);
}
TEST_CASE("pooling, its gradient and its pick equal the loops, ties included, in f64") {
  for (const Case& c : cases) check_case<double>(c);
}

TEST_CASE("the first NaN of a window wins, in the value and in the gradient") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const std::int64_t channels : {1, 16}) {
    const std::vector<std::vector<double>> windows = {
        {1, nan, inf, nan}, {nan, 1, 2, 3}, {1, 2, 3, nan}, {-inf, -inf, -inf, -inf}};
    const std::vector<std::size_t> expected = {1, 0, 3, 0};
    for (std::size_t i = 0; i < windows.size(); ++i) {
      std::vector<double> values;
      for (const double w : windows[i]) values.insert(values.end(), static_cast<std::size_t>(channels), w);
      const Tensor x = variable(tensor(values, {1, 2, 2, channels}));
      const Tensor y = max_pool2d(x, {2, 2}, {2, 2});
      const double winner = windows[i][expected[i]], got = y.values<double>()[channels - 1];
      CHECK((std::isnan(winner) ? std::isnan(got) : got == winner));
      const std::vector<double> g = grad(sum(y), x).to_vector<double>();
      for (std::size_t k = 0; k < g.size(); ++k)
        CHECK(g[k] == (k / static_cast<std::size_t>(channels) == expected[i] ? 1 : 0));
    }
  }
}

TEST_CASE("max pooling has gradients of first and second order") {
  // The square gives the second order something to see.
  for (const Case& c : {Case{{1, 5, 4, 2}, {2, 2}, {2, 2}}, Case{{1, 4, 5, 1}, {3, 2}, {1, 2}}})
    check_two_orders(
        [&](const std::vector<Tensor>& in) { return max_pool2d(in[0] * in[1], c.size, c.strides); },
        {c.x, c.x});
}

TEST_CASE("pooling has the same bits for any number of threads and on every instruction set") {
  const Restore restore;
  const Tensor x = variable(random_tensor({40, 11, 11, 21}, 1));
  struct Window {
    std::int64_t size, stride;
  };
  for (const Window& w : {Window{3, 2}, {2, 2}, {3, 3}}) {
    std::vector<double> first, first_gradient;
    for (const int n : {1, 2, 3, 4, 8})
      for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
        set_threads(n);
        set_isa(static_cast<Isa>(i));
        const Tensor y = max_pool2d(x, {w.size, w.size}, {w.stride, w.stride});
        const std::vector<double> value = y.to_vector<double>(),
                                  gradient = grad(sum(y * y), x).to_vector<double>();
        if (first.empty()) first = value, first_gradient = gradient;
        CHECK(same_bits(value, first));
        CHECK(same_bits(gradient, first_gradient));
      }
  }
}

TEST_CASE("every mistake in pooling is refused in words") {
  check_refusals(records::max_pool2d_op);
  check_refusals(records::max_pool2d_gradient_op);
}

TEST_CASE("the pick of winners is refused in words for wrong shapes") {
  // It is made by the gradient of the gradient only.
  const Tensor x = zeros({1, 2, 2, 1}), dy = variable(zeros({1, 1, 1, 1}));
  const Tensor v = variable(x), dx = vjp(max_pool2d(v, {2, 2}, {2, 2}), dy, {&v, 1})[0];
  const Op& pick = *vjp(dx, x, {&dy, 1})[0].node()->op;
  REQUIRE(std::string(pick.name) == "max_pool2d_pick");
  check_refusals(pick);
}
