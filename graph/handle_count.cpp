// The rare part of counting handles: numbers of threads, and nodes left to the thread that counted them.
//
// A thread's number outlives it. What it counted then belongs to nobody and is merged by whoever drops a
// handle, under the lock of that number, until another thread gets the number, and the nodes with it.
#include "handle_count.h"

#include <mutex>
#include <vector>

#include "ir.h"

namespace opgrad {

constinit HandleCount::Desk HandleCount::desks[] = {};

struct HandleCount::Owner {
  std::mutex lock;
  bool alive = false;
  std::vector<Node*> left;  // for this thread to merge
};

namespace {

static_assert(std::is_standard_layout_v<Node> && offsetof(Node, refs) == 0);
Node* node_of(HandleCount* c) { return reinterpret_cast<Node*>(c); }

}  // namespace

HandleCount::Owner& HandleCount::owner(std::uint32_t own) {
  // Never destroyed, as handles may end after all else has.
  static constinit union All {
    Owner owners[desk_count];
    constexpr All() : owners{} {}
    ~All() {}
  } all;
  return all.owners[(own >> own_bits) % desk_count];
}

void HandleCount::merge_left(std::uint32_t own) noexcept {
  Owner& o = owner(own);
  std::vector<Node*> left;
  {
    const std::scoped_lock hold(o.lock);
    left.swap(o.left);
    desks[(own >> own_bits) % desk_count].mail.store(false, std::memory_order_relaxed);
  }
  for (Node* n : left)
    if (n->refs.merge()) destroy(n);
}

void HandleCount::attend_slowly() noexcept {
  if (const std::uint32_t own = this_thread()) {
    merge_left(own);
    return;
  }
  const std::uintptr_t self = thread_pointer();
  Desk& d = desks[desk_of(self)];
  if (d.thread.load(std::memory_order_relaxed)) return;  // somebody else's
  // A thread that is about to end gets no number any more.
  static thread_local constinit bool leaving = false;
  if (leaving) return;
  struct Leave {
    ~Leave() {
      leaving = true;
      const std::uint32_t own = this_thread();
      Owner& o = owner(own);
      for (bool more = true; more;) {
        merge_left(own);
        const std::scoped_lock hold(o.lock);
        more = o.alive = !o.left.empty();
        if (!more) desks[desk_of(thread_pointer())].thread.store(0, std::memory_order_relaxed);
      }
    }
  };
  Owner& o = owner(number_of(desk_of(self)));
  {
    const std::scoped_lock hold(o.lock);
    if (o.alive) return;
    o.alive = true;
    d.thread.store(self, std::memory_order_relaxed);
  }
  thread_local Leave at_exit;
  static_cast<void>(at_exit);
}

// By the owner, or under the owner's lock when it is not alive. True when no handle is left.
bool HandleCount::merge() noexcept {
  const std::uint32_t own = own_.load(std::memory_order_relaxed);
  const auto handles = static_cast<std::int32_t>(own & most_own);
  own_.store(own & ~most_own, std::memory_order_relaxed);
  std::int32_t before = others_.load(std::memory_order_relaxed), after = 0;
  do {
    after = ((before + one * handles) | merged) & ~mailed;
  } while (
      !others_.compare_exchange_weak(before, after, std::memory_order_acq_rel, std::memory_order_relaxed));
  return after == merged;
}

void HandleCount::share() noexcept {
  const std::uint32_t c = own_.load(std::memory_order_relaxed);
  if ((c ^ this_thread()) - 1 >= most_own) return;
  const auto handles = static_cast<std::int32_t>(c & most_own);
  own_.store(c & ~most_own, std::memory_order_relaxed);
  others_.fetch_add(one * handles + merged, std::memory_order_acq_rel);
}

bool HandleCount::drop_slowly(std::uint32_t own) noexcept {
  if ((own ^ this_thread()) == 1) {
    // The owner's last. With nothing on the other side there is no handle left that could change it.
    own_.store(own & ~most_own, std::memory_order_relaxed);
    if (others_.load(std::memory_order_acquire) == 0) return true;
    return others_.fetch_or(merged, std::memory_order_acq_rel) == 0;
  }
  std::int32_t before = others_.load(std::memory_order_acquire), after = 0;
  if (before == (one | merged)) return true;
  do {
    after = before - one;
    if (after < 0 && !(before & merged)) after |= mailed;
  } while (
      !others_.compare_exchange_weak(before, after, std::memory_order_acq_rel, std::memory_order_acquire));
  if (after & merged) return after == merged;
  if (!(after & mailed) || (before & mailed)) return false;
  // The mark keeps the node until it has been merged.
  Owner& o = owner(own);
  const std::scoped_lock hold(o.lock);
  if (!o.alive) return merge();
  try {
    o.left.push_back(node_of(this));
    desks[(own >> own_bits) % desk_count].mail.store(true, std::memory_order_relaxed);
  } catch (...) {
    // Without memory for the note the node stays for good.
  }
  return false;
}

}  // namespace opgrad
