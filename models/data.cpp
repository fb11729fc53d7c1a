// Gathering batches on the host, the permutation, MNIST.
#include "data.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <span>

#include "../core/file.h"
#include "../core/parallel.h"
#include "../core/random.h"
#include "bytes_of.h"
#include "idx.h"

namespace opgrad {
namespace {

Shape with_rows(const Shape& shape, std::int64_t rows) {
  std::vector<std::int64_t> dims(shape.begin(), shape.end());
  dims[0] = rows;
  return Shape(std::span<const std::int64_t>(dims));
}

// The rows of x with these numbers, as a leaf.
Tensor gather_rows(const Tensor& x, std::span<const std::int64_t> rows, Location where) {
  const std::span<const std::byte> from = bytes_of(x);
  const Shape shape = with_rows(x.shape(), std::ssize(rows));
  const auto width = static_cast<std::size_t>(x.dim(0) ? x.numel() / x.dim(0) : 0);
  const std::size_t bytes = width * size_of(x.dtype());
  BufferRef buffer = allocate(rows.size() * bytes);
  for (std::size_t i = 0; bytes > 0 && i < rows.size(); ++i)
    std::memcpy(buffer->data + i * bytes, from.data() + static_cast<std::size_t>(rows[i]) * bytes, bytes);
  return leaf(std::move(buffer), x.dtype(), shape, where);
}

// The same for bytes that stand for grey values: k / 255.
Tensor gather_grey(const Tensor& x, std::span<const std::int64_t> rows, Location where) {
  static const std::array<float, 256> grey = [] {
    std::array<float, 256> table{};
    for (std::size_t k = 0; k < 256; ++k) table[k] = static_cast<float>(k) / 255.0F;
    return table;
  }();
  const std::span<const std::byte> from = bytes_of(x);
  const Shape shape = with_rows(x.shape(), std::ssize(rows));
  const auto width = static_cast<std::size_t>(x.dim(0) ? x.numel() / x.dim(0) : 0);
  BufferRef buffer = allocate(rows.size() * width * sizeof(float));
  auto* out = reinterpret_cast<float*>(buffer->data);
  parallel_ranges(std::ssize(rows), 32, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      const std::byte* row = from.data() + static_cast<std::size_t>(rows[i]) * width;
      for (std::size_t k = 0; k < width; ++k) out[i * width + k] = grey[static_cast<std::size_t>(row[k])];
    }
  });
  return leaf(std::move(buffer), DType::f32, shape, where);
}

// share/opgrad beside one of the folders above the library that holds this code, or above the program: where
// the build and an installation put the files that come with opgrad, wherever they were moved since.
std::string installed_folder() {
  namespace fs = std::filesystem;
  Dl_info library{};
  dladdr(reinterpret_cast<const void*>(&installed_folder), &library);
  std::error_code none;
  for (const fs::path& file : {fs::canonical(library.dli_fname ? library.dli_fname : "", none),
                               fs::canonical("/proc/self/exe", none)})
    for (fs::path above = file; above.has_relative_path();) {
      above = above.parent_path();
      if (fs::path data = above / "share/opgrad"; fs::is_directory(data, none)) return data.string();
    }
  throw UserError(
      fmt::format("MNIST: no folder above {} has a share/opgrad, where the data lie that come with opgrad; "
                  "give the folder "
                  "that holds the four files, or name it in OPGRAD_DATA_DIR",
                  fs::canonical("/proc/self/exe", none).string()));
}

IdxFile read_part(const std::string& folder, const std::string& name) {
  const std::string plain = folder + "/" + name, packed = plain + ".gz";
  if (file_exists(packed)) return read_idx(packed);
  if (file_exists(plain)) return read_idx(plain);
  throw UserError(fmt::format("MNIST: there is neither {} nor {}; give the folder that holds the four files",
                              packed, plain));
}

Dataset read_pair(const std::string& folder, const std::string& name) {
  const IdxFile images = read_part(folder, name + "-images-idx3-ubyte");
  const IdxFile labels = read_part(folder, name + "-labels-idx1-ubyte");
  const std::int64_t n = images.shape.rank() > 0 ? images.shape[0] : 0;
  if (images.dtype != DType::u8 || images.shape != Shape{n, 28, 28})
    throw UserError(fmt::format("MNIST: {}/{}-images-idx3-ubyte holds {}, but must hold u8[n, 28, 28]",
                                folder, name, to_string(Type{images.dtype, images.shape})));
  if (labels.dtype != DType::u8 || labels.shape != Shape{n})
    throw UserError(
        fmt::format("MNIST: {}/{}-labels-idx1-ubyte holds {}, but must hold u8[{}], one for each image",
                    folder, name, to_string(Type{labels.dtype, labels.shape}), n));
  std::vector<std::int64_t> digits;
  for (const std::byte b : labels.data) {
    digits.push_back(static_cast<std::int64_t>(b));
    if (digits.back() > 9)
      throw UserError(fmt::format("MNIST: label {} in {}/{}-labels-idx1-ubyte is {}, but must be 0 to 9",
                                  digits.size() - 1, folder, name, digits.back()));
  }
  return {tensor_from_bytes(images.data.data(), images.shape.numel(), DType::u8, {n, 28, 28, 1}, {}),
          tensor(digits, Shape{n})};
}

}  // namespace

Dataset Dataset::first(std::int64_t n) const {
  if (n < 0) throw UserError(fmt::format("Dataset::first: {} examples were asked; ask for 0 or more", n));
  if (n >= size()) return *this;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return {gather_rows(images, rows, {}), gather_rows(labels, rows, {})};
}

Mnist load_mnist(const std::string& folder) {
  const char* set = std::getenv("OPGRAD_DATA_DIR");
  const std::string from = !folder.empty() ? folder : set && *set ? set : installed_folder();
  return {read_pair(from, "train"), read_pair(from, "t10k")};
}

std::vector<std::int64_t> permutation(std::int64_t n, const Order& order) {
  std::vector<std::int64_t> p(static_cast<std::size_t>(n));
  std::iota(p.begin(), p.end(), 0);
  if (!order.shuffled) return p;
  const std::uint64_t stream = fold_in(fold_in(order.seed, "shuffle"), order.epoch);
  const std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(stream),
                                         static_cast<std::uint32_t>(stream >> 32)};
  std::uint64_t drawn = 0;
  const auto word = [&] {
    const auto low = static_cast<std::uint32_t>(drawn), high = static_cast<std::uint32_t>(drawn >> 32);
    ++drawn;
    const auto bits = philox({low, high, 0, 0}, key);
    return bits[0] | static_cast<std::uint64_t>(bits[1]) << 32;
  };
  for (auto i = static_cast<std::uint64_t>(n); i > 1; --i) {
    // Words from the last, incomplete run of i are drawn again, so that every remainder is equally likely.
    const std::uint64_t rejected = (0 - i) % i;
    std::uint64_t w = word();
    while (w < rejected) w = word();
    std::swap(p[i - 1], p[w % i]);
  }
  return p;
}

Batches::Batches(Dataset data, std::int64_t size, const Order& order, bool drop_remainder, Location where)
    : data_(std::move(data)), size_(size), drop_(drop_remainder), where_(where) {
  if (size < 1)
    throw UserError(fmt::format("batches: the size of a batch is {}, but must be at least 1", size));
  if (data_.images.rank() < 1 || data_.labels.rank() < 1 || data_.images.dim(0) != data_.labels.dim(0))
    throw UserError(fmt::format("batches: images {} and labels {} must have the same size of the first axis",
                                to_string(data_.images.shape()), to_string(data_.labels.shape())));
  order_ = permutation(data_.size(), order);
}

std::int64_t Batches::count() const {
  return drop_ ? data_.size() / size_ : (data_.size() + size_ - 1) / size_;
}

Batch Batches::batch(std::int64_t i) const {
  const std::int64_t begin = i * size_;
  if (i < 0 || i >= count()) throw UserError(fmt::format("batches: batch {} was asked of {}", i, count()));
  const auto rows = std::span(order_).subspan(
      static_cast<std::size_t>(begin), static_cast<std::size_t>(std::min(size_, data_.size() - begin)));
  const bool grey = data_.images.dtype() == DType::u8;
  return {grey ? gather_grey(data_.images, rows, where_) : gather_rows(data_.images, rows, where_),
          gather_rows(data_.labels, rows, where_)};
}

Batches batches(const Dataset& data, std::int64_t size, const Order& order, bool drop_remainder,
                const char* file, int line) {
  return {data, size, order, drop_remainder, {file, line}};
}

}  // namespace opgrad
