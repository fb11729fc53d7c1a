// Scratch memory of kernels: what a thread asks for again and again lies where it lay before.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "../core/buffer.h"
#include "../core/scratch.h"
#include "kept_scratch.h"
#include "skipped.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

// So that the thread's memory is as new.
template <class Body>
void in_new_thread(Body body) {
  std::thread(body).join();
}

void check_aligned(const void* p) { CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0); }

}  // namespace

TEST_CASE("scratch memory: arrays are aligned and apart, in whatever order they go") {
  in_new_thread([] {
    std::vector<Scratch<char>> arrays;
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 40; ++i) {
        const std::int64_t size = 1 + (i * 7919 + round * 104729) % 30000;
        arrays.emplace_back(size);
        check_aligned(arrays.back().data());
        std::memset(arrays.back().data(), i, static_cast<std::size_t>(size));
      }
      bool whole = true;
      for (int i = 0; i < 40; ++i) {
        const std::int64_t size = 1 + (i * 7919 + round * 104729) % 30000;
        const Scratch<char>& a = arrays[static_cast<std::size_t>(i)];
        whole = whole && a[0] == i && a[size / 2] == i && a[size - 1] == i;
      }
      CHECK(whole);
      if (round % 2)
        arrays.clear();
      else
        while (!arrays.empty()) arrays.erase(arrays.begin() + static_cast<long>(arrays.size()) / 3);
    }
  });
}

TEST_CASE("scratch memory: once a thread has held so much, it asks for nothing more") {
  if (!keeps_scratch()) return skipped("scratch memory: once a thread has held so much", no_scratch_kept);
  in_new_thread([] {
    const auto use = [] {
      const Scratch<double> small(10);
      std::pmr::vector<int> grows(scratch());
      for (int i = 0; i < 5000; ++i) grows.push_back(i);
      const Scratch<float> large(100000);
      CHECK(grows[4999] == 4999);
      return large.data();
    };
    use();
    const float* const again = use();
    const std::uint64_t before = memory_stats().requests;
    for (int i = 0; i < 100; ++i) CHECK(use() == again);
    CHECK(memory_stats().requests == before);
  });
}

TEST_CASE("scratch memory: nor does one whose containers grow in turns") {
  if (!keeps_scratch()) return skipped("scratch memory: nor does one whose containers grow", no_scratch_kept);
  in_new_thread([] {
    const auto use = [] {
      std::pmr::vector<int> a(scratch()), b(scratch()), c(scratch());
      for (int i = 0; i < 20000; ++i) {
        a.push_back(i);
        b.push_back(i);
        c.push_back(i);
      }
      CHECK(a[19999] + b[19999] + c[19999] == 3 * 19999);
    };
    for (int i = 0; i < 3; ++i) use();
    const std::uint64_t before = memory_stats().requests;
    use();
    CHECK(memory_stats().requests == before);
  });
}

TEST_CASE("scratch memory: beyond 16 MiB it is taken for the time of its use, and given back") {
  in_new_thread([] {
    const std::size_t before = memory_stats().live_buffers;
    for (int i = 0; i < 3; ++i) {
      const Scratch<char> small(1000), huge(std::int64_t{20} << 20);
      huge[(std::int64_t{20} << 20) - 1] = 1;
      CHECK(memory_stats().live_buffers > before);
    }
    CHECK(memory_stats().live_buffers == before);
  });
}

TEST_CASE("scratch memory: what cannot be had is std::bad_alloc, and leaves the rest as it was") {
  in_new_thread([] {
    const Scratch<char> kept(1000);
    std::memset(kept.data(), 7, 1000);
    CHECK_THROWS_AS(Scratch<char>(std::int64_t{1} << 60), std::bad_alloc);
    CHECK_THROWS_AS(Scratch<double>((std::int64_t{1} << 61) + 1), std::bad_alloc);
    CHECK_THROWS_AS(Scratch<char>(-1), std::bad_alloc);
    CHECK(kept[999] == 7);
    Scratch<char> next(1000);
    next[0] = 1;
    CHECK(kept[0] == 7);
  });
}
