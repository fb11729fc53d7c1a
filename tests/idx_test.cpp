// IDX files: what is read, and every way in which a file can be wrong.
#include <doctest/doctest.h>
#include <zlib.h>

#include <cstring>
#include <initializer_list>
#include <vector>

#include "../core/error.h"
#include "../models/idx.h"
#include "scratch.h"

using namespace opgrad;

namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes(std::initializer_list<int> values) {
  Bytes out;
  for (int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

// 2 x 3 bytes, 1 to 6.
Bytes small_file() { return bytes({0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6}); }

Bytes gzip(const Bytes& plain) {
  z_stream z{};
  REQUIRE(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes source = plain, out(deflateBound(&z, plain.size()) + 64);
  z.next_in = reinterpret_cast<Bytef*>(source.data());
  z.avail_in = static_cast<uInt>(source.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

template <class T>
std::vector<T> values(const IdxFile& f) {
  REQUIRE(f.dtype == dtype_of<T>);
  std::vector<T> out(f.data.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), f.data.data(), f.data.size());
  return out;
}

// The message with which the file is refused; it must name the file.
std::string refusal(const Bytes& content, std::uint64_t limit = 1u << 20) {
  const Scratch scratch;
  const std::string path = scratch.file("broken-idx", content);
  try {
    read_idx(path, limit);
  } catch (const UserError& e) {
    const std::string message = e.what();
    CHECK_MESSAGE(message.find(path) != std::string::npos, message);
    return message;
  }
  return "(not refused)";
}

bool says(const std::string& message, const std::string& part) {
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
  return message.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("idx: a plain file of bytes is read") {
  const Scratch scratch;
  const IdxFile f = read_idx(scratch.file("a", small_file()));
  CHECK(f.shape == Shape{2, 3});
  CHECK(values<std::uint8_t>(f) == std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6});
}

TEST_CASE("idx: a packed file gives what the plain one gives, whatever it is called") {
  const Scratch scratch;
  const IdxFile f = read_idx(scratch.file("no-gz-in-the-name", gzip(small_file())));
  CHECK(f.shape == Shape{2, 3});
  CHECK(f.data == read_idx(scratch.file("a", small_file())).data);
}

TEST_CASE("idx: gzip in several pieces is one file") {
  const Bytes all = small_file();
  Bytes packed = gzip(Bytes(all.begin(), all.begin() + 7));
  const Bytes rest = gzip(Bytes(all.begin() + 7, all.end()));
  packed.insert(packed.end(), rest.begin(), rest.end());
  const Scratch scratch;
  CHECK(read_idx(scratch.file("a.gz", packed)).data == Bytes(all.end() - 6, all.end()));
}

TEST_CASE("idx: every element type is turned to our byte order, narrow integers are widened") {
  const Scratch scratch;
  const auto read = [&](std::initializer_list<int> content) {
    return read_idx(scratch.file("a", bytes(content)));
  };
  CHECK(values<std::int32_t>(read({0, 0, 0x09, 1, 0, 0, 0, 3, 0x80, 0xff, 0x7f})) ==
        std::vector<std::int32_t>{-128, -1, 127});
  CHECK(values<std::int32_t>(read({0, 0, 0x0B, 1, 0, 0, 0, 3, 0x80, 0, 0xff, 0xfe, 0x01, 0x02})) ==
        std::vector<std::int32_t>{-32768, -2, 258});
  CHECK(values<std::int32_t>(read({0, 0, 0x0C, 1, 0, 0, 0, 2, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xfd})) ==
        std::vector<std::int32_t>{0x01020304, -3});
  CHECK(values<float>(read({0, 0, 0x0D, 1, 0, 0, 0, 1, 0xc0, 0x20, 0, 0})) == std::vector<float>{-2.5f});
  CHECK(values<double>(read({0, 0, 0x0E, 1, 0, 0, 0, 1, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0})) ==
        std::vector<double>{1.5});
}

TEST_CASE("idx: rank 0 is one number, a size of 0 is an empty array") {
  const Scratch scratch;
  const IdxFile number = read_idx(scratch.file("a", bytes({0, 0, 8, 0, 42})));
  CHECK(number.shape == Shape{});
  CHECK(values<std::uint8_t>(number) == std::vector<std::uint8_t>{42});
  const IdxFile empty = read_idx(scratch.file("b", bytes({0, 0, 0x0D, 2, 0, 0, 0, 0, 0, 0, 0, 5})));
  CHECK(empty.shape == Shape{0, 5});
  CHECK(empty.data.empty());
}

TEST_CASE("idx: a file cut short anywhere is refused, plain or packed") {
  for (const Bytes& whole : {small_file(), gzip(small_file())})
    for (std::size_t n = 0; n < whole.size(); ++n) {
      CAPTURE(n);
      CHECK(refusal(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n))) != "(not refused)");
    }
  Bytes cut = small_file();
  cut.resize(16);
  says(refusal(cut),
       "[2, 3] with 1 byte(s) per element takes 6 bytes of data, but the file has 4; it is cut short");
  cut.resize(9);
  says(refusal(cut), "2 axes take 8 bytes of sizes, but the file has 5");
  cut.resize(3);
  says(refusal(cut), "starts with 4 bytes that say what it holds, this one has 3");
  cut = gzip(small_file());
  cut.resize(cut.size() - 9);
  says(refusal(cut), "the gzip data break off after");
}

TEST_CASE("idx: bytes after the data are refused, plain or packed") {
  Bytes longer = small_file();
  longer.insert(longer.end(), 3, std::byte{7});
  says(refusal(longer), "takes 6 bytes of data, but 3 more follow");
  says(refusal(gzip(longer)), "takes 6 bytes of data, but more follow");
  Bytes junk = gzip(small_file());
  junk.insert(junk.end(), 5, std::byte{7});
  says(refusal(junk), "the gzip data are damaged after 18 unpacked bytes (incorrect header check)");
}

TEST_CASE("idx: what is not IDX is refused with its first bytes") {
  Bytes wrong = small_file();
  wrong[0] = std::byte{0x89};
  says(refusal(wrong), "not an IDX file: it starts with 89000802, IDX files start with 0000");
  wrong = small_file();
  wrong[1] = std::byte{1};
  says(refusal(wrong), "not an IDX file: it starts with 00010802, IDX files start with 0000");
}

TEST_CASE("idx: an unknown type code is refused with the known ones") {
  Bytes wrong = small_file();
  wrong[2] = std::byte{0x0A};
  says(refusal(wrong), "type code 0a in its first bytes 00000a02 is none of IDX's: 08 u8, 09 i8, 0B i16");
}

TEST_CASE("idx: more axes than a shape can have are refused") {
  Bytes wrong = small_file();
  wrong[3] = std::byte{9};
  says(refusal(wrong), "it has 9 axes, at most 8 are possible");
}

TEST_CASE("idx: sizes whose product does not fit are refused") {
  Bytes wrong = bytes({0, 0, 8, 8});
  wrong.insert(wrong.end(), 32, std::byte{0xff});
  says(refusal(wrong), "the header's sizes 4294967295 x 4294967295 x");
}

TEST_CASE("idx: more than the limit is refused before anything is unpacked") {
  const Bytes greedy = bytes({0, 0, 0x0E, 2, 0, 1, 0, 0, 0, 1, 0, 0});
  says(refusal(greedy), "takes 34359738368 bytes, more than the 1048576 that are allowed");
  says(refusal(small_file(), 5), "takes 6 bytes, more than the 5 that are allowed");
  CHECK(refusal(small_file(), 6) == "(not refused)");
}

TEST_CASE("idx: a gzip bomb behind a small header is refused") {
  Bytes bomb = small_file();
  bomb.resize(50'000'000);
  const Bytes packed = gzip(bomb);
  REQUIRE(packed.size() < 100'000);
  says(refusal(packed), "takes 6 bytes of data, but more follow");
}

TEST_CASE("idx: damaged gzip data are refused, whichever byte it is") {
  Bytes plain = bytes({0, 0, 8, 1, 0, 0, 4, 0});
  for (int i = 0; i < 1024; ++i) plain.push_back(static_cast<std::byte>(i * i / 7));
  const Bytes packed = gzip(plain);
  // The ten bytes of gzip's own header hold a date and such, which may be anything.
  for (std::size_t i = 10; i < packed.size(); ++i) {
    Bytes damaged = packed;
    damaged[i] ^= std::byte{0x10};
    CAPTURE(i);
    // The last byte before the checksum may end in bits that mean nothing.
    if (i != packed.size() - 9) CHECK(refusal(damaged) != "(not refused)");
  }
  Bytes checksum = packed;
  checksum[packed.size() - 8] ^= std::byte{1};
  says(refusal(checksum), "the gzip data are damaged after 1032 unpacked bytes (incorrect data check)");
}

TEST_CASE("idx: a file that is not there is refused by name") {
  CHECK_THROWS_WITH_AS(read_idx("/nowhere/train-images"), doctest::Contains("/nowhere/train-images"),
                       UserError);
}

TEST_CASE("idx: the MNIST files that come with opgrad hold what they should") {
  const std::string folder = std::string(OPGRAD_SOURCE_DIR) + "/models/data/";
  const IdxFile labels = read_idx(folder + "train-labels-idx1-ubyte.gz");
  CHECK(labels.shape == Shape{60000});
  const std::vector<std::uint8_t> digits = values<std::uint8_t>(labels);
  CHECK(std::vector<std::uint8_t>(digits.begin(), digits.begin() + 5) ==
        std::vector<std::uint8_t>{5, 0, 4, 1, 9});
  const IdxFile test_labels = read_idx(folder + "t10k-labels-idx1-ubyte.gz");
  CHECK(test_labels.shape == Shape{10000});
  CHECK(test_labels.data[0] == std::byte{7});
  CHECK(read_idx(folder + "train-images-idx3-ubyte.gz").shape == Shape{60000, 28, 28});
  CHECK(read_idx(folder + "t10k-images-idx3-ubyte.gz").shape == Shape{10000, 28, 28});
}
