// Copying ranges of elements between strided arrays.
#pragma once
#include <cstddef>
#include <cstdint>

#include "view.h"

namespace opgrad {

// The common walk over two views of one shape and element size in row-major order: axes of size 1 are left
// out, and axes that lie one behind the other in both views are merged.
class StridedCopy {
 public:
  StridedCopy(const View& src, const View& dst);

  // Copies elements begin .. end (in row-major order). The pointers are those of element 0; a dense array
  // that holds only the elements from `first` on is given with its start and `first`.
  void run(std::int64_t begin, std::int64_t end, const void* src, std::int64_t src_first, void* dst,
           std::int64_t dst_first) const;

  // One side's neighbours lie on different rows of the other (a transpose): ranges of many rows are copied
  // faster.
  bool crosswise() const { return crosswise_; }

 private:
  template <std::int64_t bytes>
  void run_sized(std::int64_t begin, std::int64_t end, const std::byte* src, std::int64_t from,
                 std::byte* dst, std::int64_t to) const;

  std::int64_t bytes_;
  bool crosswise_;
  int rank_ = 0;
  std::int64_t size_[max_rank], from_[max_rank], to_[max_rank];  // strides in bytes
};

}  // namespace opgrad
