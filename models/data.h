// Data sets in memory and their batches.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../graph/ir.h"

namespace opgrad {

// Examples along the first axis and one label each. Images of u8 stay as they are in memory; batches gives
// them out as f32 in [0, 1], divided by 255.
struct Dataset {
  Tensor images, labels;
  std::int64_t size() const { return images.dim(0); }
  // The first n examples; all if there are fewer.
  Dataset first(std::int64_t n) const;
};

struct Mnist {
  Dataset train, test;  // u8 images [n, 28, 28, 1], i64 labels [n]
};

// Reads the four files of MNIST, named as on LeCun's page, with or without .gz, from `folder`; "" is the
// folder that OPGRAD_DATA_DIR names in the environment, else the one that came with opgrad: share/opgrad
// beside a folder above the library or the program. UserError when there is none; naming the file that is
// missing, is not IDX, or does not fit its partner.
Mnist load_mnist(const std::string& folder = "");

// In which order examples come: as they lie, or shuffled.
struct Order {
  bool shuffled = false;
  std::uint64_t seed = 0, epoch = 0;
};
inline Order in_order() { return {}; }
// Another permutation for each seed and epoch, the same on every machine.
inline Order shuffle(std::uint64_t seed, std::uint64_t epoch) { return {true, seed, epoch}; }
// The numbers 0 ... n-1 in that order: Fisher and Yates on Philox bits, without bias. Source: Knuth, TAOCP
// 2, 3.4.2.
std::vector<std::int64_t> permutation(std::int64_t n, const Order& order);

struct Batch {
  Tensor images, labels;
};

// What batches returns: a range over Batch for a for loop.
class Batches {
 public:
  Batches(Dataset data, std::int64_t size, const Order& order, bool drop_remainder, Location where);
  class Iterator {
   public:
    Iterator(const Batches& of, std::int64_t index) : of_(&of), index_(index) {}
    Batch operator*() const { return of_->batch(index_); }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    bool operator==(const Iterator& o) const { return index_ == o.index_; }

   private:
    const Batches* of_;
    std::int64_t index_;
  };
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, count()}; }
  std::int64_t count() const;
  // Batch i of count(): leaves, gathered now; the last one may be smaller.
  Batch batch(std::int64_t i) const;

 private:
  Dataset data_;
  std::int64_t size_;
  bool drop_;
  Location where_;
  std::vector<std::int64_t> order_;
};

// for (auto [images, labels] : batches(mnist.train, 128, shuffle(seed, epoch))) ...
// UserError when size < 1 or images and labels are not equally many.
Batches batches(const Dataset& data, std::int64_t size, const Order& order = {}, bool drop_remainder = false,
                const char* file = __builtin_FILE(), int line = __builtin_LINE());

}  // namespace opgrad
