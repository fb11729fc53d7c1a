// Where the inputs of some pixels lie: in the image, or in a copy with zeros where taps leave it.
#pragma once
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "../core/scratch.h"

namespace opgrad {

// [begin, end).
struct Range {
  std::int64_t begin, end;
};

// One image, channels last.
template <class T>
struct Image {
  const T* data;
  std::int64_t rows, columns, channels;
};

// Row r starts at data + (r - first_row)*line. Of the pixels asked for, the j-th has its taps from j*step on:
// each segment holds `length` elements of taps that follow one another.
template <class T>
struct Source {
  const T* data = nullptr;
  std::int64_t first_row = 0, line = 0, step = 0, length = 0;
  std::pmr::vector<std::int64_t> segments{scratch()};
  Scratch<T> copy;  // empty where data is the image's
};

// For pixels `p` of a line, the j-th of which reads columns j*step + offsets[t], offsets rising and
// not empty, and for these rows. Where all lie in the image, it is the image; else it is a copy: of the
// columns between the first and the last, or, if that is smaller (long dilations), of the taps of each pixel.
template <class T>
Source<T> locate(const Image<T>& image, std::span<const std::int64_t> offsets, std::int64_t step, Range rows,
                 Range p);

}  // namespace opgrad
