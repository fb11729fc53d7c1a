// The stack of a thread's scratch memory: one block, of which the end in use is moved.
#include "scratch.h"

#include <algorithm>
#include <bit>
#include <new>
#include <vector>

#include "buffer.h"

namespace opgrad {
namespace {

constexpr std::size_t alignment = 64, most_kept = std::size_t{16} << 20, least_kept = std::size_t{64} << 10,
                      largest_array = std::size_t{1} << 62;

// Under AddressSanitizer every array has memory of its own, so that what lies beside it is guarded.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool keeps = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool keeps = false;
#else
constexpr bool keeps = true;
#endif
#else
constexpr bool keeps = true;
#endif

class Stack final : public std::pmr::memory_resource {
 public:
  Stack() = default;
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  ~Stack() override { give_back(); }

 private:
  void* do_allocate(std::size_t bytes, std::size_t) override {
    if (bytes > largest_array) throw std::bad_alloc();
    const std::size_t size = rounded(bytes);
    if (size <= most_kept) wanted_ = std::max(wanted_, used_ + beside_bytes_ + size);
    if (keeps && arrays_.empty() && size_ < std::min(wanted_, most_kept)) grow();
    return size <= size_ - used_ ? push(size) : beside(size);
  }

  void do_deallocate(void* p, std::size_t bytes, std::size_t) override {
    auto* const at = static_cast<std::byte*>(p);
    if (at < data_ || at >= data_ + size_) {
      std::erase_if(beside_, [&](const BufferRef& b) { return b->data == at; });
      if (rounded(bytes) <= most_kept) beside_bytes_ -= rounded(bytes);
      return;
    }
    // What lies below others is free again when those have gone.
    auto array = std::ranges::find(arrays_.rbegin(), arrays_.rend(), at, &Array::data);
    array->free = true;
    while (!arrays_.empty() && arrays_.back().free) {
      used_ = static_cast<std::size_t>(arrays_.back().data - data_);
      arrays_.pop_back();
    }
  }

  // At least one piece, so that no two arrays begin at one place.
  static std::size_t rounded(std::size_t bytes) {
    return std::max<std::size_t>(1, (bytes + alignment - 1) / alignment) * alignment;
  }

  bool do_is_equal(const std::pmr::memory_resource& o) const noexcept override { return this == &o; }

  void* push(std::size_t size) {
    arrays_.push_back({data_ + used_, false});
    used_ += size;
    return arrays_.back().data;
  }

  void* beside(std::size_t size) {
    beside_.push_back(opgrad::allocate(size));
    if (size <= most_kept) beside_bytes_ += size;
    return beside_.back()->data;
  }

  // Only while nothing lies in the block.
  void grow() {
    const std::size_t wanted = std::clamp(std::bit_ceil(std::min(wanted_, most_kept)), least_kept, most_kept);
    give_back();
    data_ = static_cast<std::byte*>(::operator new (wanted, std::align_val_t{alignment}));
    size_ = wanted;
  }

  void give_back() {
    if (data_) ::operator delete (data_, std::align_val_t{alignment});
    data_ = nullptr;
    size_ = 0;
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0, used_ = 0;
  // What the block would have held at once, holes and all, had it been as large.
  std::size_t wanted_ = 0, beside_bytes_ = 0;
  struct Array {
    std::byte* data;
    bool free;
  };
  std::vector<Array> arrays_;  // in the block, one above the other
  std::vector<BufferRef> beside_;
};

constinit thread_local Stack* stack = nullptr;

// Static objects that compute when they are destroyed come after this; what they use is not given back.
struct AtExit {
  ~AtExit() { delete std::exchange(stack, nullptr); }
};

[[gnu::noinline]] Stack* new_stack() {
  stack = new Stack;
  thread_local const AtExit at_exit;
  return stack;
}

}  // namespace

std::pmr::memory_resource* scratch() {
  Stack* const own = stack;
  return own ? own : new_stack();
}

}  // namespace opgrad
