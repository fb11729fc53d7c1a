// Shapes: checks, printing, and the table of distinct shapes.
#include "shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>

#include "error.h"

namespace opgrad {
namespace {

constexpr std::int64_t max_numel = std::int64_t{1} << 56;

std::uint64_t hash_of(const Shape& s) {
  std::uint64_t h = static_cast<std::uint64_t>(s.rank()) + 0x9e3779b97f4a7c15u;
  for (std::int64_t d : s) {
    h = (h ^ static_cast<std::uint64_t>(d)) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
  }
  return h;
}

constexpr std::size_t chunk_bits = 10, chunk_size = std::size_t{1} << chunk_bits, max_chunks = 4096;

// Entries never move, and a chunk is published before any id inside it: readers need no lock.
struct Table {
  std::mutex mutex;
  std::unordered_multimap<std::uint64_t, ShapeId> ids;
  std::size_t count = 0;
  std::atomic<Shape*> chunks[max_chunks] = {};
};

// Never destroyed, since other threads may look shapes up while the process ends.
Table& table() {
  static Table& t = *new Table;
  return t;
}

ShapeId find_or_insert(const Shape& s, std::uint64_t hash) {
  Table& t = table();
  std::lock_guard lock(t.mutex);
  for (auto [it, end] = t.ids.equal_range(hash); it != end; ++it)
    if (shape_of(it->second) == s) return it->second;
  if (t.count == chunk_size * max_chunks)
    throw InternalError(fmt::format("the table of distinct shapes is full ({} of them); the last was {}",
                                    t.count, to_string(s)));
  std::atomic<Shape*>& chunk = t.chunks[t.count >> chunk_bits];
  if (!chunk.load(std::memory_order_relaxed)) chunk.store(new Shape[chunk_size], std::memory_order_release);
  const auto id = static_cast<ShapeId>(t.count);
  t.ids.emplace(hash, id);
  chunk.load(std::memory_order_relaxed)[t.count & (chunk_size - 1)] = s;
  ++t.count;
  return id;
}

}  // namespace

Shape::Shape(std::span<const std::int64_t> dims) {
  if (dims.size() > max_rank)
    throw UserError(fmt::format("a shape has at most {} axes, but [{}] has {}; merge some with reshape",
                                max_rank, fmt::join(dims, ", "), dims.size()));
  // Sizes of zero are left out of the bound, so that strides cannot overflow either.
  std::int64_t elements = 1;
  bool empty = false;
  for (std::int64_t d : dims) {
    if (d < 0)
      throw UserError(
          fmt::format("a shape has no negative sizes, but [{}] holds {}", fmt::join(dims, ", "), d));
    if (d == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(elements, d, &elements) || elements > max_numel) {
      throw UserError(fmt::format("the shape [{}] has more than 2^56 = {} elements; make some axes shorter",
                                  fmt::join(dims, ", "), max_numel));
    }
  }
  std::copy(dims.begin(), dims.end(), dims_.begin());
  numel_ = empty ? 0 : elements;
  rank_ = static_cast<int>(dims.size());
}

std::int64_t Shape::dim(int axis) const {
  return (*this)[static_cast<int>(normalize_axis(axis, rank_, "dim"))];
}

bool Shape::operator==(const Shape& o) const { return std::ranges::equal(dims(), o.dims()); }

std::string to_string(const Shape& s) { return fmt::format("[{}]", fmt::join(s.dims(), ", ")); }

std::string to_string(const Type& t) { return fmt::format("{}{}", name_of(t.dtype), to_string(t.shape)); }

int normalize_axis(std::int64_t axis, int rank, const char* what) {
  if (axis < -rank || axis >= rank) {
    if (rank == 0)
      throw UserError(
          fmt::format("{}: axis {} was given, but the tensor has rank 0 and no axes", what, axis));
    throw UserError(fmt::format("{}: axis {} is out of range; with rank {} it must lie between {} and {}",
                                what, axis, rank, -rank, rank - 1));
  }
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Shape broadcast_shapes(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::array<std::int64_t, max_rank> dims{};
  for (int i = 1; i <= rank; ++i) {  // counted from the right
    const std::int64_t x = i <= a.rank() ? a[a.rank() - i] : 1, y = i <= b.rank() ? b[b.rank() - i] : 1;
    if (x != y && x != 1 && y != 1)
      throw UserError(
          fmt::format("the shapes {} and {} do not broadcast: aligned at the right, axis {} has sizes {} and "
                      "{}, which must be "
                      "equal unless one of them is 1; reshape or expand one of the two",
                      to_string(a), to_string(b), -i, x, y));
    dims[static_cast<std::size_t>(rank - i)] = x == 1 ? y : x;
  }
  return Shape(std::span(dims.data(), static_cast<std::size_t>(rank)));
}

std::int64_t checked_mul(std::int64_t a, std::int64_t b, const char* what) {
  std::int64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r))
    throw UserError(fmt::format("{}: {} * {} overflows 64 bits", what, a, b));
  return r;
}

std::int64_t checked_add(std::int64_t a, std::int64_t b, const char* what) {
  std::int64_t r = 0;
  if (__builtin_add_overflow(a, b, &r))
    throw UserError(fmt::format("{}: {} + {} overflows 64 bits", what, a, b));
  return r;
}

std::array<std::int64_t, max_rank> dense_strides(const Shape& s) {
  std::array<std::int64_t, max_rank> strides{};
  std::int64_t step = 1;
  for (int i = s.rank() - 1; i >= 0; --i) {
    strides[static_cast<std::size_t>(i)] = step;
    step *= std::max<std::int64_t>(s[i], 1);
  }
  return strides;
}

ShapeId intern(const Shape& s) {
  // A small direct-mapped cache keeps the lock out of the way of building graphs; 0 marks an empty place.
  constexpr std::size_t places = 64;
  thread_local constinit std::array<ShapeId, places> id_plus_one{};
  const std::uint64_t hash = hash_of(s);
  ShapeId& place = id_plus_one[hash % places];
  if (place != 0 && shape_of(place - 1) == s) return place - 1;
  const ShapeId id = find_or_insert(s, hash);
  place = id + 1;
  return id;
}

const Shape& shape_of(ShapeId id) {
  return table().chunks[id >> chunk_bits].load(std::memory_order_acquire)[id & (chunk_size - 1)];
}

}  // namespace opgrad
