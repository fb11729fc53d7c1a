// Which indices are taken: integers, within their range.
#include "indices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "define.h"

namespace opgrad {

using fmt::format;

namespace {

template <class I>
void check(const char* operation, const View& indices, std::int64_t limit, bool labels,
           std::int64_t first_row) {
  const I* index = indices.as<I>();
  const std::int64_t n = indices.numel();
  for (std::int64_t k = 0; k < n; ++k) {
    const auto i = static_cast<std::int64_t>(index[k]);
    if (i >= 0 && i < limit) continue;
    std::array<std::int64_t, max_rank> at{};
    std::int64_t rest = k;
    for (int axis = indices.shape().rank() - 1; axis >= 0; rest /= indices.shape()[axis--])
      at[static_cast<std::size_t>(axis)] = rest % indices.shape()[axis];
    at[0] += first_row;
    const std::string position =
        format("{}", fmt::join(std::span(at.data(), static_cast<std::size_t>(indices.shape().rank())), ", "));
    if (labels)
      throw UserError(
          format("cross_entropy: label {} at position [{}] is outside [0, {}), the {} classes; check the "
                 "labels and the width of the last layer",
                 i, position, limit, limit));
    throw UserError(
        format("{}: index {} at position [{}] is outside [0, {})", operation, i, position, limit));
  }
}

}  // namespace

void need_integers(const Call& call, int i) {
  if (!is_integer(call.dtype(i)))
    call.fail(format("the indices are {} and must be integers; convert with cast(x, DType::i64)",
                     type_text(call, i)));
}

void check_range(const char* operation, const View& indices, std::int64_t limit, bool labels,
                 std::int64_t first_row) {
  dispatch_integer(indices.dtype(),
                   [&]<class I>() { check<I>(operation, indices, limit, labels, first_row); });
}

void check_labels(const View& labels, std::int64_t classes, std::int64_t first_row) {
  check_range("cross_entropy", labels, classes, true, first_row);
}

Shape joined(const Shape& head, std::span<const std::int64_t> tail) {
  std::vector<std::int64_t> dims(head.begin(), head.end());
  dims.insert(dims.end(), tail.begin(), tail.end());
  return Shape(dims);
}

}  // namespace opgrad
