// Memory: alignment, counts, reuse, and the failing request.
#include "../core/buffer.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <thread>
#include <vector>

#include "skipped.h"

using namespace opgrad;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool reuses = false;
#elif defined(__has_feature)
constexpr bool reuses = !__has_feature(address_sanitizer);
#else
constexpr bool reuses = true;
#endif

// Switches the seam off when a test ends, however it ends.
struct Failing {
  explicit Failing(std::uint64_t n, bool persistent = false) { fail_allocation(n, persistent); }
  ~Failing() { fail_allocation(0); }
};

}  // namespace

TEST_CASE("buffer: every block is aligned to 64 bytes and wholly writable") {
  for (const std::size_t bytes :
       {0u, 1u, 63u, 64u, 65u, 511u, 512u, 513u, 1000u, 1024u, 1025u, 4097u, 65536u, 100000u, 3'000'000u}) {
    CAPTURE(bytes);
    const BufferRef b = allocate(bytes);
    REQUIRE(b->data != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(b->data) % 64 == 0);
    CHECK(b->bytes == bytes);
    std::memset(b->data, 0xAB, bytes);
  }
}

TEST_CASE("buffer: live blocks never overlap, whatever was released between") {
  std::vector<BufferRef> live;
  std::uint32_t random = 1;
  for (int i = 0; i < 3000; ++i) {
    random = random * 1664525 + 1013904223;
    if (live.size() > 40) {
      const std::size_t victim = (random >> 8) % live.size();
      const auto mark = live[victim]->data[0];
      for (std::size_t j = 0; j < live[victim]->bytes; ++j) REQUIRE(live[victim]->data[j] == mark);
      live[victim] = BufferRef();
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(victim));
    }
    live.push_back(allocate(1 + (random >> 16) % 3000));
    std::memset(live.back()->data, static_cast<int>(random >> 24), live.back()->bytes);
  }
}

TEST_CASE("buffer: the last handle releases the block, not an earlier one") {
  const auto before = memory_stats();
  BufferRef a = allocate(100);
  CHECK(a.unique());
  BufferRef b = a;
  CHECK_FALSE(a.unique());
  CHECK(a->refs == 2);
  a.reset();
  CHECK_FALSE(a);
  CHECK(b.unique());
  CHECK(memory_stats().live_buffers == before.live_buffers + 1);
  BufferRef c = std::move(b);
  c = BufferRef();
  CHECK(memory_stats().live_buffers == before.live_buffers);
  CHECK(memory_stats().live_bytes == before.live_bytes);
}

TEST_CASE("buffer: statistics count the bytes asked for, the peak and the requests") {
  reset_peak_bytes();
  const auto before = memory_stats();
  {
    const BufferRef a = allocate(1000), b = allocate(70'000);
    CHECK(memory_stats().live_bytes == before.live_bytes + 71'000);
  }
  const BufferRef c = allocate(10);
  const auto after = memory_stats();
  CHECK(after.peak_bytes == before.live_bytes + 71'000);
  CHECK(after.live_bytes == before.live_bytes + 10);
  CHECK(after.requests == before.requests + 3);
  CHECK(after.requested_bytes == before.requested_bytes + 71'010);
  reset_peak_bytes();
  CHECK(memory_stats().peak_bytes == after.live_bytes);
}

TEST_CASE("buffer: a released block serves the next request of similar size") {
  if (!reuses) {
    skipped("buffer: a released block serves the next request of similar size",
            "AddressSanitizer reuses nothing");
    return;
  }
  release_cached_memory();
  BufferRef a = allocate(1'000'000);
  const std::byte* const place = a->data;
  a.reset();
  const std::vector<char> takes_what_was_given_back(1'000'000);
  a = allocate(990'000);
  CHECK(a->data == place);
  CHECK(a->bytes == 990'000);
  const BufferRef other = allocate(400'000);
  CHECK(other->data != place);
}

TEST_CASE("buffer: the n-th request fails, and only that one") {
  const auto before = memory_stats();
  {
    const Failing seam(3);
    const BufferRef a = allocate(8), b = allocate(8);
    CHECK_THROWS_AS(allocate(8), std::bad_alloc);
    CHECK_NOTHROW(allocate(8));
  }
  const auto after = memory_stats();
  CHECK(after.live_bytes == before.live_bytes);
  CHECK(after.live_buffers == before.live_buffers);
}

TEST_CASE("buffer: a persistent failure lasts until it is switched off") {
  {
    const Failing seam(2, true);
    CHECK_NOTHROW(allocate(8));
    CHECK_THROWS_AS(allocate(8), std::bad_alloc);
    CHECK_THROWS_AS(allocate(8), std::bad_alloc);
  }
  CHECK_NOTHROW(allocate(8));
}

TEST_CASE("buffer: a request that no machine can serve throws and leaves the statistics as they were") {
  const auto before = memory_stats();
  CHECK_THROWS_AS(allocate(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  if (reuses) CHECK_THROWS_AS(allocate(std::size_t{1} << 60), std::bad_alloc);
#endif
  CHECK(memory_stats().live_bytes == before.live_bytes);
  CHECK(memory_stats().peak_bytes == before.peak_bytes);
}

TEST_CASE("buffer: handles and blocks may cross threads") {
  const auto before = memory_stats();
  const BufferRef shared = allocate(256);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&shared, t] {
      for (std::size_t i = 0; i < 2000; ++i) {
        const BufferRef copy = shared;
        const BufferRef own = allocate(64 + 64 * (i % 20));
        std::memset(own->data, t, own->bytes);
        if (own->data[own->bytes - 1] != static_cast<std::byte>(t)) throw 1;
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(shared->refs == 1);
  CHECK(memory_stats().live_buffers == before.live_buffers + 1);
}
