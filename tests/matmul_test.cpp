// Matrix products against three loops.
#include <doctest/doctest.h>

#include <vector>

#include "../core/parallel.h"
#include "../ops/records.h"
#include "numeric_gradient.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

template <class T>
std::vector<T> integers(std::int64_t n, unsigned seed) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = static_cast<T>(static_cast<int>((seed = seed * 1664525u + 1013904223u) >> 24) % 7 - 3);
  return v;
}

template <class T>
std::vector<T> loops(const Tensor& a, const Tensor& b) {
  const int rank = a.rank();
  const std::int64_t batch = rank == 3 ? a.dim(0) : 1, m = a.dim(-2), k = a.dim(-1), n = b.dim(-1);
  const std::vector<T> x = a.to_vector<T>(), y = b.to_vector<T>();
  std::vector<T> z(static_cast<std::size_t>(batch * m * n));
  for (std::int64_t s = 0; s < batch; ++s)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t l = 0; l < k; ++l)
          z[static_cast<std::size_t>((s * m + i) * n + j)] +=
              x[static_cast<std::size_t>((s * m + i) * k + l)] *
              y[static_cast<std::size_t>((s * k + l) * n + j)];
  return z;
}

template <class T>
void check_shapes() {
  const std::vector<std::array<std::int64_t, 4>> sizes = {
      {0, 1, 1, 1},   {0, 3, 4, 5},     {0, 1, 7, 9}, {0, 9, 7, 1},     {0, 0, 3, 2}, {0, 3, 0, 2},
      {0, 3, 2, 0},   {0, 129, 65, 70}, {0, 1, 1, 5}, {0, 300, 20, 40}, {1, 3, 4, 5}, {3, 5, 1, 2},
      {8, 17, 9, 33}, {20, 2, 3, 4},    {9, 4, 0, 3}, {5, 1, 6, 1}};
  for (const auto& [batch, m, k, n] : sizes) {
    const Shape a = batch ? Shape{batch, m, k} : Shape{m, k}, b = batch ? Shape{batch, k, n} : Shape{k, n};
    const Tensor x = tensor(integers<T>(a.numel(), 1), a), y = tensor(integers<T>(b.numel(), 2), b);
    CAPTURE(to_string(a));
    CAPTURE(to_string(b));
    CHECK(matmul(x, y).template to_vector<T>() == loops<T>(x, y));
  }
}

}  // namespace

TEST_CASE("products of small integers equal the loops in f32") { check_shapes<float>(); }
TEST_CASE("products of small integers equal the loops in f64") { check_shapes<double>(); }

TEST_CASE("operands may be views of any strides") {
  const Tensor a = tensor(integers<float>(6 * 8, 1), {6, 8}), b = tensor(integers<float>(6 * 5, 2), {6, 5});
  const auto check = [](const Tensor& x, const Tensor& y) {
    // First, for the loops turn the views into values at rest.
    const std::vector<float> product = matmul(x, y).to_vector<float>();
    CHECK(product == loops<float>(x, y));
  };
  check(transpose(a), b);
  check(transpose(b), a);
  check(slice(a, {0, 1}, {6, 7}), transpose(slice(a, {1, 0}, {4, 6})));
  check(flip(transpose(a), {0}), flip(b, {1}));
  check(slice(a, {0, 0}, {6, 8}, {2, 3}), slice(b, {0, 0}, {3, 5}, {1, 2}));
  check(broadcast_to(tensor({1.0F, 2.0F, 3.0F}), {4, 3}), broadcast_to(slice(b, {0, 0}, {3, 1}), {3, 7}));
  check(transpose(slice(a, {0, 2}, {6, 3})), b);
  check(slice(transpose(a), {2, 0}, {3, 6}), b);
  const Tensor c = tensor(integers<float>(9 * 3 * 4, 3), {9, 3, 4}),
               d = tensor(integers<float>(9 * 3 * 5, 4), {9, 3, 5});
  check(transpose(c), d);
  check(permute(c, {1, 2, 0}), permute(d, {1, 0, 2}));
  check(broadcast_to(expand_dims(transpose(a), 0), {4, 8, 6}), broadcast_to(expand_dims(b, 0), {4, 6, 5}));
  check(flip(transpose(c), {0}), d);
}

TEST_CASE("products have gradients of first and second order") {
  const auto product = [](const std::vector<Tensor>& in) { return matmul(in[0], in[1]); };
  check_two_orders(product, {{3, 4}, {4, 2}});
  check_two_orders(product, {{2, 3, 2}, {2, 2, 3}});
  check_two_orders([](const std::vector<Tensor>& in) { return matmul(transpose(in[0]), transpose(in[1])); },
                   {{4, 3}, {2, 4}});
}

TEST_CASE("products have the same bits for one to four threads") {
  const int before = threads();
  for (const Shape& s : {Shape{300, 200}, Shape{37, 1500}, Shape{12, 40, 30}, Shape{3, 200, 150}}) {
    const Tensor a = random_tensor(s, 1), b = transpose(random_tensor(s, 2));
    std::vector<double> first;
    for (int n = 1; n <= 4; ++n) {
      set_threads(n);
      const std::vector<double> now = matmul(a, b).to_vector<double>();
      if (n == 1) first = now;
      CHECK(now == first);
    }
  }
  set_threads(before);
}

TEST_CASE("every mistake in a product is refused in words") { check_refusals(records::matmul_op); }
