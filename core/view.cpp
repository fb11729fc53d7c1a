// Views: what their strides say, and copying between any two layouts.
#include "view.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "error.h"
#include "parallel.h"
#include "strided.h"

namespace opgrad {

StridedCopy::StridedCopy(const View& src, const View& dst)
    : bytes_(static_cast<std::int64_t>(size_of(src.dtype()))) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(src.shape().rank()); ++i) {
    const std::int64_t n = src.shape().dims()[i], from = src.strides[i] * bytes_,
                       to = dst.strides[i] * bytes_;
    if (n == 1) continue;
    const int last = rank_ - 1;
    if (last >= 0 && from_[last] == from * n && to_[last] == to * n) {
      size_[last] *= n;
      from_[last] = from;
      to_[last] = to;
    } else {
      size_[rank_] = n;
      from_[rank_] = from;
      to_[rank_] = to;
      ++rank_;
    }
  }
  if (rank_ == 0) {  // one element: an axis of size 1 saves a special case
    rank_ = 1;
    size_[0] = 1;
    from_[0] = to_[0] = 0;
  }
  const int last = rank_ - 1;
  const auto crossed = [&](const std::int64_t* strides) {
    return strides[last - 1] != 0 && std::abs(strides[last - 1]) < std::abs(strides[last]);
  };
  crosswise_ = rank_ > 1 && (crossed(from_) || crossed(to_));
}

namespace {

constexpr std::int64_t tile = 16;

// A tile of a transpose goes through a small block, so that both sides are walked along whole cache lines:
// `from` and `to` are the strides down the rows, from_step and to_step those along them.
template <std::int64_t bytes>
void copy_tile(const std::byte* src, std::int64_t from, std::int64_t from_step, std::byte* dst,
               std::int64_t to, std::int64_t to_step, std::int64_t rows, std::int64_t columns) {
  alignas(64) std::byte block[tile * tile * bytes];
  constexpr auto size = static_cast<std::size_t>(bytes);
  const bool rows_first = std::abs(from) < std::abs(from_step);
  for (std::int64_t j = 0; j < (rows_first ? columns : rows); ++j)
    for (std::int64_t i = 0; i < (rows_first ? rows : columns); ++i) {
      const std::int64_t r = rows_first ? i : j, c = rows_first ? j : i;
      std::memcpy(block + (r * tile + c) * bytes, src + r * from + c * from_step, size);
    }
  const bool rows_last = std::abs(to) < std::abs(to_step);
  for (std::int64_t j = 0; j < (rows_last ? columns : rows); ++j)
    for (std::int64_t i = 0; i < (rows_last ? rows : columns); ++i) {
      const std::int64_t r = rows_last ? i : j, c = rows_last ? j : i;
      std::memcpy(dst + r * to + c * to_step, block + (r * tile + c) * bytes, size);
    }
}

}  // namespace

template <std::int64_t bytes>
void StridedCopy::run_sized(std::int64_t begin, std::int64_t end, const std::byte* src, std::int64_t from,
                            std::byte* dst, std::int64_t to) const {
  std::int64_t at[max_rank];
  std::int64_t rest = begin;
  for (int i = rank_ - 1; i >= 0; --i) {
    at[i] = rest % size_[i];
    rest /= size_[i];
    from += at[i] * from_[i];
    to += at[i] * to_[i];
  }
  const int last = rank_ - 1;
  const std::int64_t from_step = from_[last], to_step = to_[last], row = size_[last];
  while (begin < end) {
    std::int64_t rows = 1;
    if (crosswise_ && at[last] == 0) {
      rows = std::min({tile, size_[last - 1] - at[last - 1], (end - begin) / row});
      if (rows > 1) {
        for (std::int64_t j = 0; j < row; j += tile)
          copy_tile<bytes>(src + from + j * from_step, from_[last - 1], from_step, dst + to + j * to_step,
                           to_[last - 1], to_step, rows, std::min(tile, row - j));
      }
    }
    if (rows > 1) {
      begin += rows * row;
    } else {
      rows = 1;
      const std::int64_t n = std::min(row - at[last], end - begin);
      if (from_step == bytes && to_step == bytes) {
        std::memcpy(dst + to, src + from, static_cast<std::size_t>(n * bytes));
      } else {
        for (std::int64_t i = 0; i < n; ++i)
          std::memcpy(dst + to + i * to_step, src + from + i * from_step, static_cast<std::size_t>(bytes));
      }
      begin += n;
    }
    // Back to the start of this row, then on to the next.
    from -= at[last] * from_step;
    to -= at[last] * to_step;
    at[last] = 0;
    for (int i = last - 1; i >= 0; --i) {
      from += rows * from_[i];
      to += rows * to_[i];
      at[i] += rows;
      if (at[i] < size_[i]) break;
      from -= at[i] * from_[i];
      to -= at[i] * to_[i];
      at[i] = 0;
      rows = 1;
    }
  }
}

void StridedCopy::run(std::int64_t begin, std::int64_t end, const void* src, std::int64_t src_first,
                      void* dst, std::int64_t dst_first) const {
  const auto* s = static_cast<const std::byte*>(src);
  auto* d = static_cast<std::byte*>(dst);
  const std::int64_t from = -src_first * bytes_, to = -dst_first * bytes_;
  switch (bytes_) {
    case 1:
      return run_sized<1>(begin, end, s, from, d, to);
    case 4:
      return run_sized<4>(begin, end, s, from, d, to);
    default:
      return run_sized<8>(begin, end, s, from, d, to);
  }
}

bool View::dense() const {
  std::int64_t step = 1;
  if (numel() == 0) return true;
  for (std::size_t i = static_cast<std::size_t>(shape().rank()); i-- > 0;) {
    const std::int64_t n = shape().dims()[i];
    if (n != 1 && strides[i] != step) return false;
    step *= n;
  }
  return true;
}

bool View::splat() const {
  for (std::size_t i = 0; i < static_cast<std::size_t>(shape().rank()); ++i)
    if (shape().dims()[i] > 1 && strides[i] != 0) return false;
  return true;
}

View dense_view(void* data, const Type& type) { return {data, type, dense_strides(type.shape)}; }

void copy(const View& src, const View& dst) {
  internal_check(src.type == dst.type, "copy: source and destination have the same type");
  if (src.numel() == 0) return;
  const StridedCopy walk(src, dst);
  constexpr std::int64_t grain = 65536;
  parallel_ranges(src.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
    walk.run(begin, end, src.data, 0, dst.data, 0);
  });
}

}  // namespace opgrad
