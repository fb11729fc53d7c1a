// Memory for work that comes again and again.
#pragma once
#include <cstddef>
#include <utility>
#include <vector>

namespace opgrad {

// A vector for one use, empty at first. Its memory stays with the thread for the next Scratch<T, Use>, unless
// it has grown beyond most_bytes; one that is made while another is in use begins without memory.
template <class T, class Use, std::size_t most_bytes = std::size_t{16} << 20>
class Scratch {
 public:
  Scratch() { v_.swap(kept()); }
  ~Scratch() { give_back(v_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::vector<T>& operator*() { return v_; }
  std::vector<T>* operator->() { return &v_; }
  const std::vector<T>& operator*() const { return v_; }
  const std::vector<T>* operator->() const { return &v_; }

  // The same for vectors that live elsewhere.
  static std::vector<T> take() { return std::move(kept()); }
  static void give_back(std::vector<T>& v) noexcept {
    constexpr std::size_t most = most_bytes / sizeof(T);
    v.clear();
    if (v.capacity() > kept().capacity() && v.capacity() <= most) v.swap(kept());
  }

 private:
  static std::vector<T>& kept() {
    thread_local std::vector<T> kept;
    return kept;
  }
  std::vector<T> v_;
};

}  // namespace opgrad
