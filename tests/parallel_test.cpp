// Threads: every chunk once, exceptions by rule, nesting, and the number of threads.
#include "../core/parallel.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../core/error.h"
#include "scratch.h"
#include "skipped.h"

using namespace opgrad;

namespace {

struct Threads {
  explicit Threads(int n) : before(threads()) { set_threads(n); }
  ~Threads() { set_threads(before); }
  int before;
};

#if defined(__SANITIZE_THREAD__)
constexpr bool under_tsan = true;
#elif defined(__has_feature)
constexpr bool under_tsan = __has_feature(thread_sanitizer);
#else
constexpr bool under_tsan = false;
#endif

}  // namespace

TEST_CASE("parallel: every chunk runs exactly once, for any number of threads and chunks") {
  for (const int n : {1, 2, 3, 8}) {
    const Threads set(n);
    for (const std::int64_t chunks : {0, 1, 2, 3, 7, 64, 1000}) {
      CAPTURE(n);
      CAPTURE(chunks);
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(chunks));
      parallel_for(chunks, [&](std::int64_t c) { ++seen[static_cast<std::size_t>(c)]; });
      int wrong = 0;
      for (const auto& s : seen) wrong += s != 1;
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("parallel: what chunks wrote is visible to the caller, call after call") {
  const Threads set(4);
  std::vector<int> values(64);
  for (int round = 1; round <= 2000; ++round) {
    parallel_for(64, [&](std::int64_t c) { values[static_cast<std::size_t>(c)] += static_cast<int>(c); });
    if (round % 500 == 0)
      for (int i = 0; i < 64; ++i) REQUIRE(values[static_cast<std::size_t>(i)] == round * i);
  }
}

TEST_CASE("parallel: chunks do run on several threads, also after the workers have gone to sleep") {
  const Threads set(3);
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> inside{0};
    // Each chunk waits for the others: only three threads can finish this.
    parallel_for(3, [&](std::int64_t) {
      ++inside;
      while (inside < 3) std::this_thread::yield();
    });
    CHECK(inside == 3);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST_CASE("parallel: ranges cover all items with the last one shorter") {
  for (const std::int64_t n : {0, 1, 9, 10, 11, 99, 100, 101}) {
    std::mutex lock;
    std::set<std::pair<std::int64_t, std::int64_t>> ranges;
    parallel_ranges(n, 10, [&](std::int64_t begin, std::int64_t end) {
      const std::lock_guard guard(lock);
      ranges.emplace(begin, end);
    });
    std::int64_t next = 0;
    for (const auto& [begin, end] : ranges) {
      CHECK(begin == next);
      CHECK(end == std::min(n, begin + 10));
      next = end;
    }
    CHECK(next == n);
  }
}

TEST_CASE("parallel: the exception of the lowest chunk that throws is the one that arrives") {
  for (const int n : {1, 2, 4}) {
    const Threads set(n);
    for (int round = 0; round < 50; ++round) {
      std::string caught;
      try {
        parallel_for(40, [&](std::int64_t c) {
          if (c == 5) std::this_thread::sleep_for(std::chrono::microseconds(200));
          if (c % 10 == 5) throw std::runtime_error(std::to_string(c));
        });
      } catch (const std::runtime_error& e) {
        caught = e.what();
      }
      REQUIRE(caught == "5");
    }
  }
}

TEST_CASE("parallel: after an exception the pool works as before and nothing of that call still runs") {
  const Threads set(4);
  std::atomic<int> running{0};
  CHECK_THROWS_AS(parallel_for(100,
                               [&](std::int64_t c) {
                                 ++running;
                                 std::this_thread::yield();
                                 --running;
                                 if (c == 3) throw 3;
                               }),
                  int);
  CHECK(running == 0);
  std::atomic<int> sum{0};
  parallel_for(100, [&](std::int64_t c) { sum += static_cast<int>(c); });
  CHECK(sum == 4950);
}

TEST_CASE("parallel: a call from inside a body runs all its chunks in that thread") {
  const Threads set(3);
  std::atomic<int> strangers{0}, ran{0};
  parallel_for(8, [&](std::int64_t) {
    const auto me = std::this_thread::get_id();
    parallel_for(16, [&](std::int64_t) {
      ++ran;
      if (std::this_thread::get_id() != me) ++strangers;
    });
  });
  CHECK(ran == 8 * 16);
  CHECK(strangers == 0);
}

TEST_CASE("parallel: calls from several threads at once all finish, exceptions included") {
  const Threads set(3);
  std::atomic<int> sum{0}, caught{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        parallel_for(10, [&](std::int64_t c) { sum += static_cast<int>(c); });
        try {
          parallel_for(4, [](std::int64_t c) {
            if (c > 0) throw c;
          });
        } catch (std::int64_t c) {
          caught += c == 1;
        }
      }
    });
  for (std::thread& t : callers) t.join();
  CHECK(sum == 4 * 200 * 45);
  CHECK(caught == 4 * 200);
}

TEST_CASE("parallel: the number of threads can be set again and again") {
  const Threads keep(2);
  for (int round = 0; round < 20; ++round) {
    const int n = 1 + round % 5;
    set_threads(n);
    CHECK(threads() == n);
    std::atomic<int> ran{0};
    parallel_for(20, [&](std::int64_t) { ++ran; });
    CHECK(ran == 20);
  }
}

TEST_CASE("parallel: set_threads refuses numbers out of range") {
  CHECK_THROWS_WITH_AS(set_threads(0),
                       doctest::Contains("0 threads asked for, but the number must be from 1 to 1024"),
                       UserError);
  CHECK_THROWS_AS(set_threads(1025), UserError);
}

TEST_CASE("parallel: set_threads inside a body is refused, in the caller and in workers") {
  const Threads set(2);
  std::atomic<int> inside{0}, refused{0};
  parallel_for(2, [&](std::int64_t) {
    ++inside;
    while (inside < 2) std::this_thread::yield();
    try {
      set_threads(3);
    } catch (const UserError& e) {
      refused += std::string(e.what()).find("inside a parallel loop") != std::string::npos;
    }
  });
  CHECK(refused == 2);
  CHECK(threads() == 2);
}

TEST_CASE("parallel: a forked child has a pool of its own") {
  if (under_tsan) {
    skipped("parallel: a forked child has a pool of its own",
            "ThreadSanitizer allows no threads after a fork");
    return;
  }
  const Threads set(2);
  parallel_for(4, [](std::int64_t) {});
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(20);
    std::atomic<int> inside{0};
    parallel_for(2, [&](std::int64_t) {
      ++inside;
      while (inside < 2) std::this_thread::yield();
    });
    _exit(inside == 2 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

namespace {

// A system's files below a scratch folder.
void put(const Scratch& root, const std::string& name, const std::string& text) {
  const std::filesystem::path path = root.path(name);
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

}  // namespace

TEST_CASE("parallel: a version 2 quota counts, in the group or above it, rounded down but never to 0") {
  const Scratch root;
  const std::string prefix = root.path("");
  put(root, "proc/self/cgroup", "0::/a/b\n");
  CHECK(cgroup_quota(prefix) == 0);
  put(root, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  CHECK(cgroup_quota(prefix) == 0);
  put(root, "sys/fs/cgroup/a/cpu.max", "350000 100000\n");
  CHECK(cgroup_quota(prefix) == 3);
  put(root, "sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  CHECK(cgroup_quota(prefix) == 1);
}

TEST_CASE("parallel: a version 1 quota counts, also where the group's path is not visible") {
  const Scratch root;
  const std::string prefix = root.path("");
  put(root, "proc/self/cgroup", "9:name=systemd:/x\n4:cpu,cpuacct:/docker/123\n2:cpuset:/\n");
  CHECK(cgroup_quota(prefix) == 0);
  put(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  put(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(cgroup_quota(prefix) == 0);
  put(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
  CHECK(cgroup_quota(prefix) == 2);
}

TEST_CASE("parallel: a thread knows that it runs alone inside a body, and where it is the only one") {
  const int before = threads();
  for (const int n : {1, 2}) {
    set_threads(n);
    CHECK(runs_alone() == (n == 1));
    std::atomic<int> told{0};
    parallel_for(8, [&](std::int64_t) { told += runs_alone(); });
    CHECK(told == 8);
    CHECK(runs_alone() == (n == 1));
  }
  set_threads(before);
}
