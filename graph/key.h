// Inside the room: how a key is written and read again (capture.cpp says what stands in it).
#pragma once
#include <cstdint>

#include "program.h"

namespace opgrad::key {

inline std::uint64_t head(ItemKind kind, DType dtype, std::uint64_t arity, ShapeId shape) {
  return static_cast<std::uint64_t>(kind) | std::uint64_t(dtype) << 2 | arity << 8 |
         std::uint64_t{shape} << 32;
}
// The attributes of an operation take fewer than 2^16 words: they are plain structs of fixed size.
inline std::uint64_t attribute_words(std::size_t count) { return std::uint64_t{count} << 16; }

// One node of a key.
class Reader {
 public:
  explicit Reader(const std::uint64_t* at) : at_(at) {}
  ItemKind kind() const { return static_cast<ItemKind>(at_[0] & 3); }
  DType dtype() const { return static_cast<DType>(at_[0] >> 2 & 63); }
  std::uint32_t arity() const { return at_[0] >> 8 & 255; }
  ShapeId shape() const { return static_cast<ShapeId>(at_[0] >> 32); }
  const Op* op() const { return reinterpret_cast<const Op*>(at_[1]); }
  std::uint32_t input(std::uint32_t k) const {
    return static_cast<std::uint32_t>(at_[2 + k / 2] >> (k % 2 ? 32 : 0));
  }
  const std::uint64_t* next() const {
    if (kind() != ItemKind::op) return at_ + 2;
    return at_ + 2 + (arity() + 1) / 2 + (at_[0] >> 16 & 0xffff);
  }

 private:
  const std::uint64_t* at_;
};

}  // namespace opgrad::key
