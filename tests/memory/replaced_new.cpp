// Requests go to malloc, unless they are to fail.
#include "replaced_new.h"

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

// The request that brings `requests_left` to 0 fails, and all after it if `for_good`.
std::atomic<bool> armed{false}, for_good{false};
std::atomic<std::int64_t> requests_left{0};
std::atomic<std::uint64_t> failures{0}, requests{0};
std::atomic<std::size_t> live{0}, peak{0};

void* counted(void* p) noexcept {
  if (!p) return p;
  const std::size_t bytes = malloc_usable_size(p), now = live.fetch_add(bytes) + bytes;
  for (std::size_t most = peak; most < now && !peak.compare_exchange_weak(most, now);) {
  }
  return p;
}

void* take(std::size_t bytes, std::size_t alignment) noexcept {
  requests.fetch_add(1, std::memory_order_relaxed);
  if (armed.load(std::memory_order_relaxed)) {
    const std::int64_t left = requests_left.fetch_sub(1) - 1;
    if (left == 0 || (left < 0 && for_good)) {
      failures.fetch_add(1);
      return nullptr;
    }
  }
  if (bytes == 0) bytes = 1;
  if (alignment <= alignof(std::max_align_t)) return counted(std::malloc(bytes));
  return counted(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
}
// Not inlined, or GCC would take what pairs with malloc for a mistake.
[[gnu::noinline]] void give_back(void* p) noexcept {
  if (p) live.fetch_sub(malloc_usable_size(p));
  std::free(p);
}

void* take_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* const p = take(bytes, alignment)) return p;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t n) { return take_or_throw(n, 1); }
void* operator new[](std::size_t n) { return take_or_throw(n, 1); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return take(n, 1); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return take(n, 1); }
void* operator new(std::size_t n, std::align_val_t a) {
  return take_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) { return operator new(n, a); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return take(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return take(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete[](void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { give_back(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { give_back(p); }

namespace opgrad::test {

void arm(std::int64_t n, bool persistent) {
  requests_left = n;
  for_good = persistent;
  failures = 0;
  armed = true;
}

std::uint64_t disarm() {
  armed = false;
  return failures;
}

std::size_t live_bytes() { return live; }
std::size_t peak_live_bytes() { return peak; }
void reset_peak_live_bytes() { peak = live.load(); }

std::uint64_t requests_of_new() { return requests; }

}  // namespace opgrad::test
