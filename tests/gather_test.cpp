// Indexing by tensors: values against loops, adjoints, and indices out of range.
#include <doctest/doctest.h>

#include "../graph/grad.h"
#include "../ops/ops.h"

using namespace opgrad;

namespace {
using Numbers = std::vector<double>;
Numbers read(const Tensor& x) { return x.to_vector<double>(); }
}  // namespace

TEST_CASE("gather takes rows in the order of the indices, however often") {
  const Tensor x = tensor({{1.0, 2.0}, {3.0, 4.0}, {5.0, 6.0}});
  const Tensor y = gather(x, tensor<std::int64_t>({{2, 0}, {2, 2}}));
  CHECK(y.shape() == Shape{2, 2, 2});
  CHECK(read(y) == Numbers{5, 6, 1, 2, 5, 6, 5, 6});
  CHECK(gather(x, tensor<std::int64_t>({1})[0]).shape() == Shape{2});
  CHECK(gather(x, zeros({0}, DType::i32)).shape() == Shape{0, 2});
  CHECK(gather(tensor<std::uint8_t>({7, 8}), tensor<std::uint8_t>({1})).to_vector<std::uint8_t>()[0] == 8);
}

TEST_CASE("the gradient of gather adds up what was taken more than once") {
  const Tensor x = variable(tensor({{1.0, 2.0}, {3.0, 4.0}, {5.0, 6.0}}));
  const Tensor y = gather(x, tensor<std::int64_t>({2, 0, 2}));
  CHECK(read(grad(sum(y * tensor({{1.0, 2.0}, {3.0, 4.0}, {5.0, 6.0}})), x)) == Numbers{3, 4, 0, 0, 6, 8});
}

TEST_CASE("scatter_add of many columns equals a loop") {
  constexpr std::int64_t rows = 5, count = 40, columns = 1000;
  std::vector<std::int32_t> index;
  Numbers updates, expected(rows * columns, 0.0);
  for (std::int32_t k = 0; k < count; ++k) {
    index.push_back((k * 7) % 4);
    for (std::int64_t c = 0; c < columns; ++c) {
      updates.push_back(k + 0.5 * static_cast<double>(c));
      expected[static_cast<std::size_t>(index.back() * columns + c)] += updates.back();
    }
  }
  CHECK(read(scatter_add(tensor(index, {count}), tensor(updates, {count, columns}), rows)) == expected);
}

TEST_CASE("scatter_add to no rows, and of no updates") {
  CHECK(scatter_add(zeros({0}, DType::i64), zeros({0, 3}), 0).shape() == Shape{0, 3});
  CHECK(read(scatter_add(zeros({0}, DType::i64), zeros({0}, DType::f64), 2)) == Numbers{0, 0});
  CHECK_THROWS_WITH_AS(scatter_add(zeros({1}, DType::i64), zeros({1}), 0).values<float>(),
                       doctest::Contains("scatter_add: index 0 at position [0] is outside [0, 0)"),
                       UserError);
}

TEST_CASE("take_along picks one entry of each row; the gradient goes there alone") {
  const Tensor x = variable(tensor({{1.0, 2.0, 3.0}, {4.0, 5.0, 6.0}}));
  const Tensor y = take_along(x, tensor<std::int64_t>({2, 0}));
  CHECK(read(y) == Numbers{3, 4});
  CHECK(read(grad(sum(square(y)), x)) == Numbers{0, 0, 6, 8, 0, 0});
}

TEST_CASE("one_hot") {
  const Tensor y = one_hot(tensor<std::int64_t>({{1}, {0}}), 3, DType::f64);
  CHECK(y.shape() == Shape{2, 1, 3});
  CHECK(read(y) == Numbers{0, 1, 0, 1, 0, 0});
  CHECK(one_hot(tensor<std::uint8_t>({1}), 2).dtype() == DType::f32);
}

TEST_CASE("the first index out of range is named with its position") {
  const Tensor index = tensor<std::int64_t>({{0, 1}, {9, -1}});
  CHECK_THROWS_WITH_AS(gather(zeros({3}), index).values<float>(),
                       doctest::Contains("gather: index 9 at position [1, 0] is outside [0, 3)"), UserError);
}
