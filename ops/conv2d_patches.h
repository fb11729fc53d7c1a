// The patches of 4x4 pixels that Winograd's transforms read.
#pragma once
#include <algorithm>
#include <cstdint>

#include "conv2d_boxes.h"
#include "conv2d_source.h"
#include "conv2d_transforms.h"

namespace opgrad {

// Sets d and the steps of `patch` for the 4x4 pixels from (row, column) on, channels from `first` on: in the
// image, or in a copy with zeros (of the thread's buffer 0) where they leave it. patch.channels is set.
inline void find_patch(const Image<float>& image, std::int64_t row, std::int64_t column, std::int64_t first,
                       PatchIn& patch) {
  if (row >= 0 && column >= 0 && row + 4 <= image.rows && column + 4 <= image.columns) {
    patch.d = image.data + (row * image.columns + column) * image.channels + first;
    patch.line = image.columns * image.channels;
    patch.pixel = image.channels;
    return;
  }
  float* to = thread_buffer<0, float>(16 * patch.channels);
  patch.d = to;
  patch.line = 4 * patch.channels;
  patch.pixel = patch.channels;
  for (std::int64_t r = row; r < row + 4; ++r)
    for (std::int64_t c = column; c < column + 4; ++c, to += patch.channels)
      if (r >= 0 && c >= 0 && r < image.rows && c < image.columns)
        std::copy_n(image.data + (r * image.columns + c) * image.channels + first, patch.channels, to);
      else
        std::fill_n(to, patch.channels, 0.0f);
}

}  // namespace opgrad
