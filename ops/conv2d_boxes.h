// How a convolution's result is cut into boxes that threads compute.
#pragma once
#include <algorithm>
#include <cstdint>

#include "../core/kernel.h"
#include "../core/parallel.h"

namespace opgrad {

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// A box of the result: whole images; or whole lines of one image; or a piece of one line.
struct Box {
  std::int64_t first_image, end_image, first_row, end_row, first_column, end_column;
};

// Cuts images of rows x columns pixels into boxes. A box has about `pixels` pixels, fewer where there would
// not be 16 boxes for several threads, but not below `least`; a box of several images has whole ones.
class Boxes {
 public:
  Boxes(std::int64_t batch, std::int64_t rows, std::int64_t columns, std::int64_t pixels, std::int64_t least)
      : batch_(batch), rows_(rows), columns_(columns) {
    const std::int64_t fair = divide_up(batch * rows * columns, runs_alone() ? 1 : 16);
    const std::int64_t wanted = std::max<std::int64_t>(1, std::min(pixels, std::max(least, fair)));
    images_ = std::clamp<std::int64_t>(wanted / (rows * columns), 1, batch);
    bands_ = std::clamp<std::int64_t>(divide_up(rows * columns, wanted), 1, rows);
    pieces_ = bands_ == rows ? std::clamp<std::int64_t>(divide_up(columns, wanted), 1, columns) : 1;
  }
  std::int64_t count() const { return divide_up(batch_, images_) * bands_ * pieces_; }
  Box operator[](std::int64_t i) const {
    const std::int64_t piece = i % pieces_, band = i / pieces_ % bands_, group = i / pieces_ / bands_;
    return {group * images_,
            std::min(batch_, (group + 1) * images_),
            band * rows_ / bands_,
            (band + 1) * rows_ / bands_,
            piece * columns_ / pieces_,
            (piece + 1) * columns_ / pieces_};
  }
  // Tells of the box's elements, which follow one another in a result of `channels` channels.
  void finish(const Box& b, std::int64_t channels, const Finished* finished) const {
    if (!finished) return;
    const auto at = [&](std::int64_t image, std::int64_t row, std::int64_t column) {
      return ((image * rows_ + row) * columns_ + column) * channels;
    };
    (*finished)(at(b.first_image, b.first_row, b.first_column),
                at(b.end_image - 1, b.end_row - 1, b.end_column));
  }

 private:
  std::int64_t batch_, rows_, columns_, images_, bands_, pieces_;
};

}  // namespace opgrad
