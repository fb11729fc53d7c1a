// Index arithmetic on row-major arrays.
#include "arrangements.h"

#include <fmt/format.h>

#include <functional>

namespace opgrad::gradtests {
namespace {

using Index = std::vector<std::int64_t>;

// Every element fetched from the place that `move` makes of its own.
std::vector<std::size_t> gathered(const Shape& shape, const std::function<void(Index&)>& move) {
  std::vector<std::size_t> source;
  Index at(static_cast<std::size_t>(shape.rank()), 0);
  for (std::int64_t k = 0; k < shape.numel(); ++k) {
    std::int64_t rest = k;
    for (std::size_t axis = at.size(); axis-- > 0;) {
      const std::int64_t size = shape[static_cast<int>(axis)];
      at[axis] = rest % size;
      rest /= size;
    }
    move(at);
    std::int64_t from = 0;
    for (std::size_t axis = 0; axis < at.size(); ++axis)
      from = from * shape[static_cast<int>(axis)] + at[axis];
    source.push_back(static_cast<std::size_t>(from));
  }
  return source;
}

// The elements of the transposed array in its own row-major order, written into the shape untransposed.
std::vector<std::size_t> transposed_storage(const Shape& shape, std::size_t a, std::size_t b) {
  std::vector<std::int64_t> dims(shape.begin(), shape.end());
  std::swap(dims[a], dims[b]);
  const Shape turned{std::span<const std::int64_t>(dims)};
  const auto original = dense_strides(shape);
  std::vector<std::size_t> source;
  Index at(dims.size(), 0);
  for (std::int64_t k = 0; k < shape.numel(); ++k) {
    std::int64_t rest = k;
    for (std::size_t axis = dims.size(); axis-- > 0;) {
      at[axis] = rest % turned[static_cast<int>(axis)];
      rest /= turned[static_cast<int>(axis)];
    }
    std::swap(at[a], at[b]);
    std::int64_t from = 0;
    for (std::size_t axis = 0; axis < at.size(); ++axis) from += at[axis] * original[axis];
    source.push_back(static_cast<std::size_t>(from));
  }
  return source;
}

bool moves_nothing(const Arrangement& a) {
  for (std::size_t k = 0; k < a.source.size(); ++k)
    if (a.source[k] != k) return false;
  return true;
}

}  // namespace

std::vector<Arrangement> arrangements(const Shape& shape) {
  std::vector<Arrangement> all;
  const auto rank = static_cast<std::size_t>(shape.rank());
  const auto size = [&](std::size_t axis) { return shape[static_cast<int>(axis)]; };
  const auto reverse = [&](Index& at, std::size_t axis) { at[axis] = size(axis) - 1 - at[axis]; };
  for (std::size_t a = 0; a + 1 < rank; ++a)
    all.push_back({fmt::format("turned by 180 degrees (axes {} and {} reversed)", a, a + 1),
                   gathered(shape, [&](Index& at) {
                     reverse(at, a);
                     reverse(at, a + 1);
                   })});
  for (std::size_t a = 0; a < rank; ++a)
    for (std::size_t b = a + 1; b < rank; ++b)
      all.push_back({fmt::format("with axes {} and {} transposed", a, b), transposed_storage(shape, a, b)});
  for (std::size_t a = 0; a < rank; ++a)
    all.push_back(
        {fmt::format("with axis {} reversed", a), gathered(shape, [&](Index& at) { reverse(at, a); })});
  for (std::size_t a = 0; a < rank; ++a)
    for (const int by : {1, -1})
      all.push_back({fmt::format("moved by {} along axis {}", by, a),
                     gathered(shape, [&](Index& at) { at[a] = (at[a] - by + size(a)) % size(a); })});
  std::erase_if(all, moves_nothing);
  return all;
}

Numbers arranged(const Numbers& values, const Arrangement& a) {
  Numbers out;
  for (const std::size_t from : a.source) out.push_back(values[from]);
  return out;
}

Lines::Lines(const Shape& shape, int axis)
    : size(static_cast<std::size_t>(shape[axis])), count(0), inner_(1) {
  for (int i = axis + 1; i < shape.rank(); ++i) inner_ *= static_cast<std::size_t>(shape[i]);
  count = static_cast<std::size_t>(shape.numel()) / size;
}

}  // namespace opgrad::gradtests
