// Shapes with checked arithmetic, and the table in which each distinct shape is kept once.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "dtype.h"

namespace opgrad {

inline constexpr int max_rank = 8;

// The sizes of a tensor's axes, outermost first; rank 0 is a number. At most 8 axes, none negative.
// Construction throws UserError on a negative size, on more than 8 axes and where the number of elements
// exceeds 2^56 (so that byte counts and offsets never overflow 64 bits).
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const std::int64_t> dims);

  int rank() const { return rank_; }
  std::int64_t numel() const { return numel_; }
  std::int64_t operator[](int axis) const { return dims_[static_cast<std::size_t>(axis)]; }
  // The size of an axis counted from the end when negative; UserError when out of range.
  std::int64_t dim(int axis) const;
  std::span<const std::int64_t> dims() const { return {dims_.data(), static_cast<std::size_t>(rank_)}; }
  auto begin() const { return dims().begin(); }
  auto end() const { return dims().end(); }

  bool operator==(const Shape& o) const;

 private:
  std::array<std::int64_t, max_rank> dims_{};
  std::int64_t numel_ = 1;
  int rank_ = 0;
};

// "[2, 3]"; "[]" for rank 0.
std::string to_string(const Shape&);

// The axis from 0 for one given from either end; UserError naming `what` when outside [-rank, rank).
int normalize_axis(std::int64_t axis, int rank, const char* what);

// NumPy's rule: align at the right, sizes equal or one of them 1. UserError with both shapes otherwise.
Shape broadcast_shapes(const Shape& a, const Shape& b);

// Products and sums that throw UserError on overflow of 64 bits, naming `what`.
std::int64_t checked_mul(std::int64_t a, std::int64_t b, const char* what);
std::int64_t checked_add(std::int64_t a, std::int64_t b, const char* what);

// Strides in elements of a dense row-major array.
std::array<std::int64_t, max_rank> dense_strides(const Shape&);

// Each distinct shape has one number for the life of the process; equality of shapes is equality of ids.
using ShapeId = std::uint32_t;
ShapeId intern(const Shape&);
const Shape& shape_of(ShapeId);

// What an operation's result is: dtype and shape.
struct Type {
  DType dtype = DType::f32;
  Shape shape;
  bool operator==(const Type&) const = default;
};
std::string to_string(const Type&);  // "f32[2, 3]"

}  // namespace opgrad
