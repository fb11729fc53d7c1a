// The elements of an array at other places, and its lines along an axis: how layouts get mixed up.
#pragma once
#include <string>
#include <vector>

#include "problem.h"

namespace opgrad::gradtests {

// Element k of the result is element source[k] of the original.
struct Arrangement {
  std::string words;  // "turned by 180 degrees (axes 0 and 1)"
  std::vector<std::size_t> source;
};

// Every reversal, half turn, transposition and shift by one that moves some element of this shape.
std::vector<Arrangement> arrangements(const Shape& shape);
Numbers arranged(const Numbers& values, const Arrangement& a);

// Row-major elements as lines along one axis.
struct Lines {
  std::size_t size, count;  // elements of a line, lines
  Lines(const Shape& shape, int axis);
  std::size_t line_of(std::size_t element) const {
    return element / (size * inner_) * inner_ + element % inner_;
  }
  std::size_t place_of(std::size_t element) const { return element / inner_ % size; }
  std::size_t first(std::size_t line) const { return line / inner_ * size * inner_ + line % inner_; }

 private:
  std::size_t inner_;
};

}  // namespace opgrad::gradtests
