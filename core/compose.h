// One loop of machine code made of many elementwise operations, at run time, from what their lambdas do
// (trace.h): each element is read once, stays in registers, and is written where somebody wants it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dtype.h"
#include "isa.h"
#include "trace.h"

namespace opgrad {

// A loop that is being described: lines that work on one pack, as in a Recipe, and streams of memory. The
// streams are dense, or one repeated pack ("splat"), and all have the loop's dtype, f32 or f64.
class LoopText {
 public:
  explicit LoopText(DType dtype) : dtype_(dtype) {}

  using Line = std::uint16_t;
  // The element of a stream as it is before the loop writes anything at its place.
  Line read(std::uint32_t stream, bool splat);
  // The result of a lambda on these lines.
  Line apply(const kernel::Recipe& recipe, std::span<const Line> inputs);
  void write(std::uint32_t stream, Line line);

 private:
  friend class LoopCompiler;
  struct Step {
    kernel::Do what;  // `input`: read from a stream
    bool splat = false;
    Line a = 0, b = 0, c = 0;
    double number = 0;
    std::uint32_t stream = 0;
  };
  struct Store {
    std::uint32_t stream;
    Line line;
    std::size_t after;  // so many steps
  };
  Line add(const Step& step);

  DType dtype_;
  std::vector<Step> steps_;
  std::vector<Store> stores_;
};

// data[s] is stream s; each is gone through for this many bytes, a multiple of vector_bytes.
using ComposedLoop = void (*)(std::byte* const* data, std::int64_t bytes);

// Streams that a loop can have: their pointers stay in registers.
inline constexpr std::uint32_t most_streams = 12;

// Appends the loop's code, which may run wherever `code` is copied to at a multiple of 64 bytes, and returns
// where it begins. Nothing, with nothing appended, where there can be no such code: for baseline
// instructions, with more than most_streams, with more values at once than fit.
std::optional<std::size_t> compile(const LoopText& loop, std::uint32_t streams, Isa isa,
                                   std::vector<std::uint8_t>& code);

// Code in memory that may be run and no longer written. Empty where the system allows no such memory.
class Executable {
 public:
  Executable() = default;
  explicit Executable(std::span<const std::uint8_t> code);
  Executable(Executable&& o) noexcept;
  Executable& operator=(Executable&& o) noexcept;
  ~Executable();
  ComposedLoop at(std::size_t offset) const;  // null if empty

 private:
  std::byte* code_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace opgrad
