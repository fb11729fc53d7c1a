// Memory for tensors: each block is a 64-byte header followed by the data; freed blocks wait in lists by
// size.
#include "buffer.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define OPGRAD_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OPGRAD_ASAN 1
#endif
#endif
#ifdef OPGRAD_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace opgrad {
namespace {

constexpr std::size_t alignment = 64;

struct alignas(alignment) Block : Buffer {
  Block* next = nullptr;  // in its list while free
  int size_class = 0;
};
static_assert(sizeof(Block) == alignment);

// Under AddressSanitizer nothing is kept, so that a use after the last release is seen.
#ifdef OPGRAD_ASAN
constexpr bool keeps_blocks = false;
#else
constexpr bool keeps_blocks = true;
#endif

// Eight classes to each doubling, so at most an eighth of a block is wasted: class 8e + f holds (8 + f) * 2^e
// units of 64 bytes, and sizes below 8 units have classes of their own.
constexpr int class_count = 8 * 62;
constexpr int class_of(std::size_t bytes) {
  const std::size_t units = std::max<std::size_t>(1, (bytes + alignment - 1) / alignment);
  if (units < 8) return static_cast<int>(units);
  const int e = static_cast<int>(std::bit_width(units)) - 4;
  const std::size_t f = (units + (std::size_t{1} << e) - 1) >> e;  // 8 ... 16; 16 is the next doubling's 8
  return static_cast<int>(8 * static_cast<std::size_t>(e) + f);
}
constexpr std::size_t class_bytes(int c) {
  if (c < 16) return static_cast<std::size_t>(c) * alignment;
  return (static_cast<std::size_t>(8 + c % 8) << (c / 8 - 1)) * alignment;
}
static_assert(class_of(64) == 1 && class_of(513) == 9 && class_of(1024) == 16 && class_of(1025) == 17);
static_assert(class_bytes(17) == 1152 && class_bytes(class_of(1'000'000)) == 1'048'576);

constexpr std::size_t largest_request = std::size_t{1} << 62;

// One lock for the lists, the statistics and the seam; nothing is destroyed at exit, since static tensors may
// be released after this file's own statics would be.
struct State {
  std::mutex lock;
  std::array<Block*, class_count> free{};
  std::size_t kept_bytes = 0;
  MemoryStats stats{};
  std::uint64_t fail_after = 0;
  bool fail_persistently = false;
};
constinit State state;

// Kept blocks may take 1 GiB, or a quarter of a small machine's memory.
std::size_t kept_limit() {
  static const std::size_t limit = [] {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const std::size_t most = std::size_t{1} << 30;
    if (pages <= 0 || page <= 0) return most;
    return std::min(most, static_cast<std::size_t>(pages) / 4 * static_cast<std::size_t>(page));
  }();
  return limit;
}

void give_back(Block* list) {
  while (list) {
    Block* const next = list->next;
#ifdef OPGRAD_ASAN
    __asan_unpoison_memory_region(list, sizeof(Block));
#endif
    list->~Block();
    std::free(list);
    list = next;
  }
}

// Empties the lists; the caller holds the lock and frees what it gets after letting go of it.
Block* take_kept_blocks() {
  Block* all = nullptr;
  for (Block*& list : state.free)
    while (list) all = std::exchange(list, std::exchange(list->next, all));
  state.kept_bytes = 0;
  return all;
}

Block* new_block(std::size_t bytes, int size_class) {
  void* memory = nullptr;
  const std::size_t size = keeps_blocks ? class_bytes(size_class) : std::max<std::size_t>(1, bytes);
  if (posix_memalign(&memory, alignment, sizeof(Block) + size) != 0) return nullptr;
  Block* const block = new (memory) Block;
  block->size_class = size_class;
  block->data = static_cast<std::byte*>(memory) + sizeof(Block);
#ifdef OPGRAD_ASAN
  // The header's unused end stands guard before the data.
  constexpr std::size_t used = sizeof(Buffer) + sizeof(Block::next) + sizeof(std::size_t);
  __asan_poison_memory_region(static_cast<std::byte*>(memory) + used, sizeof(Block) - used);
#endif
  return block;
}

bool fails_now() {
  if (state.fail_after == 0) return false;
  if (state.fail_after > 1) {
    --state.fail_after;
    return false;
  }
  if (!state.fail_persistently) state.fail_after = 0;
  return true;
}

void count_live(std::size_t bytes) {
  state.stats.live_bytes += bytes;
  ++state.stats.live_buffers;
  state.stats.peak_bytes = std::max(state.stats.peak_bytes, state.stats.live_bytes);
}

void release(Block* block) {
  Block* to_free = nullptr;
  const std::size_t size = class_bytes(block->size_class);
  const bool keep = keeps_blocks && size <= kept_limit();
  {
    const std::lock_guard lock(state.lock);
    state.stats.live_bytes -= block->bytes;
    --state.stats.live_buffers;
    if (keep) {
      // Full of sizes that nobody asks for any more: begin again, rather than never keep the sizes in use
      // now.
      if (state.kept_bytes + size > kept_limit()) to_free = take_kept_blocks();
      Block*& list = state.free[static_cast<std::size_t>(block->size_class)];
      block->next = std::exchange(list, block);
      state.kept_bytes += size;
    }
  }
  if (!keep) block->next = std::exchange(to_free, block);
  give_back(to_free);
}

}  // namespace

void BufferRef::reset() {
  Buffer* const b = std::exchange(b_, nullptr);
  if (!b) return;
  // A handle that is alone needs no atomic subtraction: nobody else can make a copy of it.
  if (b->refs.load(std::memory_order_acquire) == 1 || b->refs.fetch_sub(1, std::memory_order_acq_rel) == 1)
    release(static_cast<Block*>(b));
}

BufferRef allocate(std::size_t bytes, Device device) {
  if (bytes > largest_request) throw std::bad_alloc();
  const int size_class = class_of(bytes);
  Block* block = nullptr;
  {
    const std::lock_guard lock(state.lock);
    ++state.stats.requests;
    state.stats.requested_bytes += bytes;
    if (fails_now()) throw std::bad_alloc();
    Block*& list = state.free[static_cast<std::size_t>(size_class)];
    if (list) {
      block = std::exchange(list, list->next);
      state.kept_bytes -= class_bytes(size_class);
      count_live(bytes);
    }
  }
  if (!block) {
    block = new_block(bytes, size_class);
    if (!block) {  // blocks kept in other sizes may be what is missing
      release_cached_memory();
      block = new_block(bytes, size_class);
    }
    if (!block) throw std::bad_alloc();
    const std::lock_guard lock(state.lock);
    count_live(bytes);
  }
  block->refs.store(1, std::memory_order_relaxed);
  block->bytes = bytes;
  block->device = device;
  return BufferRef(block);
}

MemoryStats memory_stats() {
  const std::lock_guard lock(state.lock);
  return state.stats;
}

void reset_peak_bytes() {
  const std::lock_guard lock(state.lock);
  state.stats.peak_bytes = state.stats.live_bytes;
}

void release_cached_memory() {
  Block* kept = nullptr;
  {
    const std::lock_guard lock(state.lock);
    kept = take_kept_blocks();
  }
  give_back(kept);
}

void fail_allocation(std::uint64_t n, bool persistent) {
  const std::lock_guard lock(state.lock);
  state.fail_after = n;
  state.fail_persistently = persistent;
}

}  // namespace opgrad
