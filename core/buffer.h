// Counted, 64-byte aligned memory. Every byte of tensor data comes through `allocate`, so that a test can
// make the N-th request fail and a second device can bring its own memory.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace opgrad {

enum class Device : std::uint8_t { cpu };

// One block of memory. The count says how many handles share it; its address and size never change.
struct Buffer {
  std::atomic<std::uint32_t> refs{1};
  Device device = Device::cpu;
  std::size_t bytes = 0;
  std::byte* data = nullptr;
};

// A counted handle to a Buffer; null when default constructed. Copies may live on any thread.
class BufferRef {
 public:
  BufferRef() = default;
  explicit BufferRef(Buffer* owned) : b_(owned) {}
  BufferRef(const BufferRef& o) : b_(o.b_) {
    if (b_) b_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  BufferRef(BufferRef&& o) noexcept : b_(std::exchange(o.b_, nullptr)) {}
  BufferRef& operator=(BufferRef o) noexcept {
    std::swap(b_, o.b_);
    return *this;
  }
  ~BufferRef() { reset(); }
  void reset();
  Buffer* get() const { return b_; }
  Buffer* operator->() const { return b_; }
  explicit operator bool() const { return b_ != nullptr; }
  // Nobody else holds this block.
  bool unique() const { return b_ && b_->refs.load(std::memory_order_acquire) == 1; }

 private:
  Buffer* b_ = nullptr;
};

// A block of at least `bytes` bytes, 64-byte aligned, contents undefined. Throws std::bad_alloc.
// Freed blocks are kept for reuse up to a bound, so that a training loop asks the system for nothing.
BufferRef allocate(std::size_t bytes, Device = Device::cpu);

// Memory statistics: bytes in live blocks, the highest that has been, live blocks; requests so far and the
// sum of the bytes they asked for, those included that failed and those that kept blocks served.
struct MemoryStats {
  std::size_t live_bytes, peak_bytes, live_buffers;
  std::uint64_t requests, requested_bytes;
};
MemoryStats memory_stats();
void reset_peak_bytes();
// Gives kept blocks back to the system.
void release_cached_memory();

// The seam: the n-th request from now (1 is the next) throws std::bad_alloc; every later one too if
// `persistent`. n = 0 switches it off.
void fail_allocation(std::uint64_t n, bool persistent = false);

}  // namespace opgrad
