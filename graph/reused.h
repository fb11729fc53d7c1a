// Memory for work that comes again and again.
#pragma once
#include <cstddef>
#include <utility>
#include <vector>

namespace opgrad {

// The thread's own T for this use, made when first asked for. Null once the thread has destroyed it: static
// objects that compute in their destructors come later.
template <class T, class Use>
T* of_thread() {
  constinit thread_local bool gone = false;
  struct Own {
    T value{};
    ~Own() { gone = true; }
  };
  thread_local Own own;
  return gone ? nullptr : &own.value;
}

// A vector for one use, empty at first. Its memory stays with the thread for the next Reused<T, Use>, unless
// it has grown beyond most_bytes; one that is made while another is in use begins without memory.
template <class T, class Use, std::size_t most_bytes = std::size_t{16} << 20>
class Reused {
 public:
  Reused() : v_(take()) {}
  ~Reused() { give_back(v_); }
  Reused(const Reused&) = delete;
  Reused& operator=(const Reused&) = delete;
  std::vector<T>& operator*() { return v_; }
  std::vector<T>* operator->() { return &v_; }
  const std::vector<T>& operator*() const { return v_; }
  const std::vector<T>* operator->() const { return &v_; }

  // The same for vectors that live elsewhere.
  static std::vector<T> take() {
    std::vector<T>* const kept = of_thread<std::vector<T>, Reused>();
    return kept ? std::move(*kept) : std::vector<T>();
  }
  static void give_back(std::vector<T>& v) noexcept {
    constexpr std::size_t most = most_bytes / sizeof(T);
    v.clear();
    std::vector<T>* const kept = of_thread<std::vector<T>, Reused>();
    if (kept && v.capacity() > kept->capacity() && v.capacity() <= most) v.swap(*kept);
  }

 private:
  std::vector<T> v_;
};

}  // namespace opgrad
