// What a backward rule returns. Rules run once for every operation of a gradient, so the usual few live in
// the object itself.
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <utility>
#include <vector>

#include "ir.h"

namespace opgrad {

// One gradient per input, in order; an empty Tensor for an input not wanted or without a gradient. Used as a
// std::vector<Tensor> is, from which it also converts.
class Grads {
 public:
  Grads() = default;
  template <class... T>
  requires(sizeof...(T) > 0 && (std::same_as<std::remove_cvref_t<T>, Tensor> && ...)) Grads(T&&... each) {
    if constexpr (sizeof...(T) <= few_most) {
      few_ = {std::forward<T>(each)...};
      size_ = sizeof...(T);
    } else {
      (push_back(std::forward<T>(each)), ...);
    }
  }
  explicit Grads(std::size_t size) : size_(size) {
    if (size > few_most) many_.resize(size);
  }
  Grads(std::vector<Tensor> all) : size_(all.size()) {
    if (size_ > few_most)
      many_ = std::move(all);
    else
      std::move(all.begin(), all.end(), few_.begin());
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Tensor* data() { return size_ > few_most ? many_.data() : few_.data(); }
  const Tensor* data() const { return size_ > few_most ? many_.data() : few_.data(); }
  Tensor* begin() { return data(); }
  Tensor* end() { return data() + size_; }
  const Tensor* begin() const { return data(); }
  const Tensor* end() const { return data() + size_; }
  Tensor& operator[](std::size_t i) { return data()[i]; }
  const Tensor& operator[](std::size_t i) const { return data()[i]; }
  Tensor& back() { return data()[size_ - 1]; }

  void push_back(Tensor g) {
    if (size_ < few_most) {
      few_[size_++] = std::move(g);
      return;
    }
    if (size_ == few_most) many_.assign(std::move_iterator(few_.begin()), std::move_iterator(few_.end()));
    many_.push_back(std::move(g));
    ++size_;
  }

 private:
  static constexpr std::size_t few_most = 3;
  std::size_t size_ = 0;
  std::array<Tensor, few_most> few_;
  std::vector<Tensor> many_;  // all of them, once they are more than that
};

}  // namespace opgrad
