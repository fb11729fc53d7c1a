// What files of movements share: the attribute of those that are told a shape, and words for strides.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "../graph/ir.h"

namespace opgrad {

using Strides = std::array<std::int64_t, max_rank>;

constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }

struct ShapeAttributes {
  Shape shape;
  static constexpr auto fields() { return std::tuple{field("shape", &ShapeAttributes::shape)}; }
};

}  // namespace opgrad
