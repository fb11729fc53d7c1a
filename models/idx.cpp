// Reading IDX files; see idx.h. Bytes come from one source that is either the file or zlib's inflation of it.
#include "idx.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <span>

#include "../core/error.h"
#include "../core/file.h"

namespace opgrad {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw UserError(fmt::format("read_idx: {}: {}", path, what));
}

// The file's bytes, unpacked on the way if they are gzip.
class Source {
 public:
  Source(const std::string& path, std::span<const std::byte> file) : path_(path), rest_(file) {
    packed_ = file.size() >= 2 && file[0] == std::byte{0x1f} && file[1] == std::byte{0x8b};
    if (!packed_) return;
    // 15 is the largest window, 16 asks for gzip's header and checksum.
    if (inflateInit2(&zlib_, 15 + 16) != Z_OK) throw std::bad_alloc();
  }
  ~Source() {
    if (packed_) inflateEnd(&zlib_);
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  bool packed() const { return packed_; }
  // Bytes that are known to follow; nothing is known of packed ones.
  std::size_t remaining() const { return rest_.size(); }

  // Fills as much of `out` as there is and says how much that was.
  std::size_t read(std::span<std::byte> out) {
    if (packed_) return inflate_into(out);
    const std::size_t n = std::min(out.size(), rest_.size());
    std::copy_n(rest_.begin(), n, out.begin());
    rest_ = rest_.subspan(n);
    return n;
  }

 private:
  std::size_t inflate_into(std::span<std::byte> out) {
    std::size_t got = 0;
    while (got < out.size() && !ended_) {
      // zlib counts in 32 bits.
      const auto in_step = static_cast<uInt>(std::min<std::size_t>(rest_.size(), 1u << 30));
      const auto out_step = static_cast<uInt>(std::min<std::size_t>(out.size() - got, 1u << 30));
      // zlib reads through this pointer only, but its type does not say so.
      zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(rest_.data()));
      zlib_.avail_in = in_step;
      zlib_.next_out = reinterpret_cast<Bytef*>(out.data() + got);
      zlib_.avail_out = out_step;
      const int status = inflate(&zlib_, Z_NO_FLUSH);
      rest_ = rest_.subspan(in_step - zlib_.avail_in);
      got += out_step - zlib_.avail_out;
      total_ += out_step - zlib_.avail_out;
      if (status == Z_STREAM_END) {
        // gzip allows several packed pieces one after the other.
        if (rest_.empty())
          ended_ = true;
        else
          inflateReset(&zlib_);
      } else if (status == Z_BUF_ERROR || (status == Z_OK && rest_.empty() && zlib_.avail_out > 0)) {
        fail(path_,
             fmt::format("the gzip data break off after {} unpacked bytes; the file is cut short", total_));
      } else if (status == Z_MEM_ERROR) {
        throw std::bad_alloc();
      } else if (status != Z_OK) {
        fail(path_, fmt::format("the gzip data are damaged after {} unpacked bytes ({})", total_,
                                zlib_.msg ? zlib_.msg : "unexpected end"));
      }
    }
    return got;
  }

  const std::string& path_;
  std::span<const std::byte> rest_;
  bool packed_ = false;
  bool ended_ = false;
  std::uint64_t total_ = 0;
  z_stream zlib_{};
};

std::uint32_t big_endian(const std::byte* b) {
  return std::to_integer<std::uint32_t>(b[0]) << 24 | std::to_integer<std::uint32_t>(b[1]) << 16 |
         std::to_integer<std::uint32_t>(b[2]) << 8 | std::to_integer<std::uint32_t>(b[3]);
}

// How an element lies in the file and what it becomes.
struct Element {
  std::size_t bytes;
  DType dtype;
};

std::optional<Element> element_of(unsigned code) {
  switch (code) {
    case 0x08:
      return Element{1, DType::u8};
    case 0x09:
      return Element{1, DType::i32};
    case 0x0B:
      return Element{2, DType::i32};
    case 0x0C:
      return Element{4, DType::i32};
    case 0x0D:
      return Element{4, DType::f32};
    case 0x0E:
      return Element{8, DType::f64};
    default:
      return std::nullopt;
  }
}

// Sign-extended 1- and 2-byte integers.
std::vector<std::byte> widened(const std::vector<std::byte>& raw, std::size_t width) {
  std::vector<std::byte> out(raw.size() / width * sizeof(std::int32_t));
  for (std::size_t i = 0; i < raw.size() / width; ++i) {
    const auto high = static_cast<std::int8_t>(raw[i * width]);
    const std::int32_t value =
        width == 1 ? high : high * 256 + std::to_integer<std::int32_t>(raw[i * width + 1]);
    std::memcpy(out.data() + i * sizeof value, &value, sizeof value);
  }
  return out;
}

std::vector<std::byte> in_our_order(std::vector<std::byte> raw, std::size_t width) {
  if constexpr (std::endian::native == std::endian::little)
    for (std::size_t i = 0; width > 1 && i < raw.size(); i += width)
      std::reverse(raw.data() + i, raw.data() + i + width);
  return raw;
}

Shape checked_shape(const std::string& path, std::span<const std::int64_t> sizes) {
  try {
    return Shape(sizes);
  } catch (const UserError& e) {
    fail(path,
         fmt::format("the header's sizes {} do not make an array: {}", fmt::join(sizes, " x "), e.what()));
  }
}

// `bytes` bytes of data and not one more. Grows with what is really there, so a header that lies costs
// nothing.
std::vector<std::byte> read_data(Source& source, const std::string& path, std::uint64_t bytes,
                                 const std::string& what) {
  std::vector<std::byte> data;
  std::size_t got = 0;
  while (got < bytes) {
    data.resize(
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes, std::max<std::size_t>(got * 2, 1u << 20))));
    const std::size_t step = source.read(std::span(data).subspan(got));
    got += step;
    if (got < data.size())
      fail(path,
           fmt::format("{} takes {} bytes of data, but the file has {}; it is cut short", what, bytes, got));
  }
  std::byte extra;
  // This read also makes zlib compare the checksum.
  if (source.read({&extra, 1}) != 0)
    fail(path, source.packed() ? fmt::format("{} takes {} bytes of data, but more follow", what, bytes)
                               : fmt::format("{} takes {} bytes of data, but {} more follow", what, bytes,
                                             source.remaining() + 1));
  return data;
}

}  // namespace

IdxFile read_idx(const std::string& path, std::uint64_t limit) {
  const std::vector<std::byte> file = read_file(path);
  Source source(path, file);
  std::array<std::byte, 4> magic;
  const std::size_t magic_bytes = source.read(magic);
  if (magic_bytes < 4)
    fail(path,
         fmt::format("an IDX file starts with 4 bytes that say what it holds, this one has {}", magic_bytes));
  const auto code = std::to_integer<unsigned>(magic[2]);
  const std::optional<Element> element = element_of(code);
  if (magic[0] != std::byte{0} || magic[1] != std::byte{0})
    fail(path, fmt::format("not an IDX file: it starts with {:08x}, IDX files start with 0000",
                           big_endian(magic.data())));
  if (!element)
    fail(path,
         fmt::format("type code {:02x} in its first bytes {:08x} is none of IDX's: 08 u8, 09 i8, 0B i16, "
                     "0C i32, 0D f32, 0E f64",
                     code, big_endian(magic.data())));
  const auto rank = std::to_integer<std::size_t>(magic[3]);
  if (rank > max_rank) fail(path, fmt::format("it has {} axes, at most {} are possible", rank, max_rank));

  std::array<std::byte, 4 * max_rank> header;
  const std::size_t header_bytes = source.read(std::span(header).first(4 * rank));
  if (header_bytes < 4 * rank)
    fail(path,
         fmt::format("{} axes take {} bytes of sizes, but the file has {}", rank, 4 * rank, header_bytes));
  std::array<std::int64_t, max_rank> sizes{};
  for (std::size_t i = 0; i < rank; ++i) sizes[i] = big_endian(header.data() + 4 * i);
  const Shape shape = checked_shape(path, std::span(sizes).first(rank));

  const auto bytes = static_cast<std::uint64_t>(shape.numel()) * element->bytes;
  const std::string what =
      fmt::format("an array of shape {} with {} byte(s) per element", to_string(shape), element->bytes);
  if (bytes > limit)
    fail(path, fmt::format("{} takes {} bytes, more than the {} that are allowed", what, bytes, limit));
  std::vector<std::byte> data = read_data(source, path, bytes, what);
  const bool widen = element->bytes < size_of(element->dtype);
  return {shape, element->dtype,
          widen ? widened(data, element->bytes) : in_our_order(std::move(data), element->bytes)};
}

}  // namespace opgrad
