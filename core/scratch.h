// Scratch memory of kernels: a stack that each thread keeps, so that what is asked for again and again costs
// no request to the system.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>
#include <utility>

namespace opgrad {

// This thread's scratch memory, for std::pmr containers that live no longer than the kernel's call and that
// this thread gives back. All of it is aligned to 64 bytes. It grows to what the thread has held at once, up
// to 16 MiB; what goes beyond, and what is asked for while it still has to grow, comes from `allocate`.
// Throws std::bad_alloc.
std::pmr::memory_resource* scratch();

// An array of scratch memory, its contents undefined; empty when default constructed. Given back by the
// thread that took it.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::int64_t elements)
      : bytes_(bytes_of(elements)), data_(scratch()->allocate(bytes_, 64)) {}
  Scratch(Scratch&& o) noexcept : bytes_(o.bytes_), data_(std::exchange(o.data_, nullptr)) {}
  Scratch& operator=(Scratch&& o) noexcept {
    std::swap(bytes_, o.bytes_);
    std::swap(data_, o.data_);
    return *this;
  }
  ~Scratch() {
    if (data_) scratch()->deallocate(data_, bytes_, 64);
  }
  T* data() const { return static_cast<T*>(data_); }
  T& operator[](std::int64_t i) const { return data()[i]; }

 private:
  static std::size_t bytes_of(std::int64_t elements) {
    constexpr std::size_t most = (std::size_t{1} << 62) / sizeof(T);
    if (static_cast<std::size_t>(elements) > most) throw std::bad_alloc();
    return static_cast<std::size_t>(elements) * sizeof(T);
  }
  std::size_t bytes_ = 0;
  void* data_ = nullptr;
};

}  // namespace opgrad
