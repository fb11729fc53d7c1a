// How many handles a node has, counted in two places ("biased reference counting": Choi, Shull, Torrellas,
// PACT 2018): by the thread that made the node plainly, by all others with atomic operations, which cost ten
// times as much. The sum of both counts is always the number of handles; either may be what others gave.
#pragma once
#include <atomic>
#include <cstdint>

namespace opgrad {

struct Node;

// First member of every Node.
class HandleCount {
 public:
  // One handle, counted for this thread from now on, or for nobody: then every thread pays alike, and the
  // last handle's end frees the node at once wherever that is.
  enum class For { this_thread, nobody };
  explicit HandleCount(For whom = For::nobody) {
    const std::uint32_t owner = whom == For::nobody ? 0 : this_thread();
    if (!owner) {
      own_.store(0, std::memory_order_relaxed);
      others_.store(one | merged, std::memory_order_relaxed);
    } else {
      own_.store(owner | 1, std::memory_order_relaxed);
      others_.store(0, std::memory_order_relaxed);
    }
  }

  // One handle more. The caller has one, or knows somebody who has.
  void add() noexcept {
    const std::uint32_t c = own_.load(std::memory_order_relaxed);
    if ((c ^ this_thread()) - 1 < most_own - 1)
      own_.store(c + 1, std::memory_order_relaxed);
    else
      others_.fetch_add(one, std::memory_order_relaxed);
  }
  // One handle less. True when that was the last one, and the caller has to destroy the node. When handles
  // that one thread made end on another, it may be the first that finds none left: then it destroys the node
  // when it makes the next one, or ends.
  bool drop() noexcept {
    const std::uint32_t c = own_.load(std::memory_order_relaxed);
    if ((c ^ this_thread()) - 2 < most_own - 1) {
      own_.store(c - 1, std::memory_order_relaxed);
      return false;
    }
    return drop_slowly(c);
  }
  // From now on for nobody, if this thread counted it: before the node goes where several threads read it.
  void share() noexcept;

  // The number of handles. While other threads copy or drop handles this is what it was a moment ago.
  std::uint32_t load(std::memory_order = std::memory_order_acquire) const {
    return (own_.load(std::memory_order_relaxed) & most_own) +
           static_cast<std::uint32_t>(others_.load(std::memory_order_acquire) >> 2);
  }

  // Called before a node is made: gives the thread its number, and destroys what others have left to it.
  static void attend() noexcept {
    const std::uintptr_t self = thread_pointer();
    const Desk& d = desks[desk_of(self)];
    if (d.thread.load(std::memory_order_relaxed) != self || d.mail.load(std::memory_order_relaxed))
      attend_slowly();
  }

 private:
  // own_ is the number of a thread in its upper bits, and below the handles that this thread counts. At 0 the
  // thread has given the node up for good: others_ has all of them, and says `merged`.
  static constexpr std::uint32_t own_bits = 21, most_own = (std::uint32_t{1} << own_bits) - 1;
  // others_ is a number of handles, negative where others have dropped what the owner counted, times `one`,
  // and two flags. `mailed`: the owner has been told; whoever it is that merges looks at the sum.
  static constexpr std::int32_t one = 4, merged = 1, mailed = 2;

  // The threads that count have a desk each, found by where the thread has its variables: a variable of its
  // own would have to be looked up in a library that is loaded late. Whose desk is taken has no number.
  struct Desk {
    std::atomic<std::uintptr_t> thread;
    std::atomic<bool> mail;
  };
  static constexpr std::uint32_t desk_count = std::uint32_t{1} << (31 - own_bits);
  static Desk desks[desk_count];

  static std::uintptr_t thread_pointer() noexcept {
    std::uintptr_t self = 0;
    __asm__("mov %%fs:0, %0" : "=r"(self));
    return self;
  }
  static std::uint32_t desk_of(std::uintptr_t thread) noexcept {
    return static_cast<std::uint32_t>(thread >> 12) % desk_count;
  }
  static std::uint32_t number_of(std::uint32_t desk) noexcept { return (desk + desk_count) << own_bits; }
  // In the upper bits; 0 when it has none.
  static std::uint32_t this_thread() noexcept {
    const std::uintptr_t self = thread_pointer();
    const std::uint32_t desk = desk_of(self);
    return desks[desk].thread.load(std::memory_order_relaxed) == self ? number_of(desk) : 0;
  }

  struct Owner;
  bool drop_slowly(std::uint32_t own) noexcept;
  bool merge() noexcept;
  static void attend_slowly() noexcept;
  static Owner& owner(std::uint32_t own);
  static void merge_left(std::uint32_t own) noexcept;

  std::atomic<std::uint32_t> own_;
  std::atomic<std::int32_t> others_;
};

}  // namespace opgrad
