// safetensors files: the round trip, the exact bytes, and every way in which a file can be wrong.
#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../core/error.h"
#include "../core/file.h"
#include "../models/safetensors.h"
#include "scratch.h"

using namespace opgrad;

namespace {

using Bytes = std::vector<std::byte>;

template <class T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes out(values.size() * sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

Bytes file_of(const std::string& header, const Bytes& data) {
  Bytes out = bytes_of(std::vector<std::uint64_t>{header.size()});
  for (char c : header) out.push_back(static_cast<std::byte>(c));
  out.insert(out.end(), data.begin(), data.end());
  return out;
}

// Two f32 called a, two u8 called b.
const char* const small_header =
    R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[2,1],"data_offsets":[8,10]}})";

Bytes small_file() { return file_of(small_header, Bytes(10, std::byte{1})); }

// The message with which the file is refused; it must name the file.
std::string refusal(const Bytes& content) {
  try {
    parse_safetensors(content, "some/file");
  } catch (const UserError& e) {
    const std::string message = e.what();
    CHECK_MESSAGE(message.starts_with("read_safetensors: some/file: "), message);
    return message;
  }
  return "(not refused)";
}

void check_refused(const std::string& header, std::size_t data_bytes, const std::string& part) {
  const std::string message = refusal(file_of(header, Bytes(data_bytes)));
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
}

// An entry called a with these three fields.
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

}  // namespace

TEST_CASE("safetensors: arrays of every dtype and the metadata come back as they were") {
  const Scratch scratch;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Bytes f32 = bytes_of<float>({1.5f, nan, -std::numeric_limits<float>::infinity(), -0.0f, 1e-45f, 2});
  const Bytes f64 = bytes_of<double>({3.25}), i32 = bytes_of<std::int32_t>({-7, 7});
  const Bytes i64 = bytes_of<std::int64_t>({INT64_MIN}), u8 = bytes_of<std::uint8_t>({0, 255, 3});
  const Bytes flags = bytes_of<std::uint8_t>({0, 1});
  const std::vector<NamedArrayView> arrays = {
      {"net/conv \"1\" \u00e4\n", {DType::f32, Shape{2, 3}}, f32},
      {"number", {DType::f64, Shape{}}, f64},
      {"i32", {DType::i32, Shape{2}}, i32},
      {"i64", {DType::i64, Shape{1, 1}}, i64},
      {"u8", {DType::u8, Shape{3}}, u8},
      {"flags", {DType::bool_, Shape{2, 1}}, flags},
      {"empty", {DType::f32, Shape{4, 0}}, {}},
  };
  const Metadata metadata = {{"epoch", "3"}, {"quote", "\"\\\u20ac"}};
  write_safetensors(scratch.path("a"), arrays, metadata);

  Metadata found;
  const std::vector<NamedArray> back = read_safetensors(scratch.path("a"), &found);
  CHECK(found == metadata);
  REQUIRE(back.size() == arrays.size());
  for (const NamedArrayView& a : arrays) {
    CAPTURE(a.name);
    int hits = 0;
    for (const NamedArray& b : back)
      if (b.name == a.name) {
        ++hits;
        CHECK(b.type == a.type);
        CHECK(b.bytes == Bytes(a.bytes.begin(), a.bytes.end()));
      }
    CHECK(hits == 1);
  }
}

TEST_CASE("safetensors: the file is the reference writer's, byte for byte") {
  const Scratch scratch;
  const Bytes b = bytes_of<std::uint8_t>({9, 8}), z = bytes_of<float>({1}), y = bytes_of<float>({2});
  const std::vector<NamedArrayView> arrays = {
      {"b", {DType::u8, Shape{2}}, b}, {"z", {DType::f32, Shape{1}}, z}, {"y", {DType::f32, Shape{}}, y}};
  write_safetensors(scratch.path("a"), arrays, {{"format", "pt"}});
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"y":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("z":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"b":{"dtype":"U8","shape":[2],"data_offsets":[8,10]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  Bytes data = y;
  data.insert(data.end(), z.begin(), z.end());
  data.insert(data.end(), b.begin(), b.end());
  CHECK(read_file(scratch.path("a")) == file_of(padded, data));
}

TEST_CASE("safetensors: data begin at a multiple of 8 bytes, with no more padding than that takes") {
  const Scratch scratch;
  for (std::size_t length = 1; length <= 8; ++length) {
    const std::vector<NamedArrayView> arrays = {{std::string(length, 'x'), {DType::f32, Shape{0}}, {}}};
    write_safetensors(scratch.path("a"), arrays);
    const std::size_t bytes = read_file(scratch.path("a")).size() - 8;
    const std::size_t unpadded =
        std::string(R"({"":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})").size() + length;
    CAPTURE(length);
    CHECK(bytes == (unpadded + 7) / 8 * 8);
  }
}

TEST_CASE("safetensors: a file without arrays is a file") {
  const Scratch scratch;
  write_safetensors(scratch.path("a"), {});
  CHECK(read_safetensors(scratch.path("a")).empty());
}

TEST_CASE("safetensors: arrays are read in the order of their data, whatever the order of the header") {
  const auto back = parse_safetensors(
      file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},"b":{"dtype":"U8","shape":[2],)"
              R"("data_offsets":[0,2]},"c":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}   )",
              bytes_of<std::uint8_t>({1, 2, 3})),
      "f");
  REQUIRE(back.size() == 3);
  CHECK(back[0].name == "b");
  CHECK(back[1].name == "c");
  CHECK(back[2].name == "a");
  CHECK(back[2].bytes == bytes_of<std::uint8_t>({3}));
}

TEST_CASE("safetensors: fewer than 8 bytes are refused") {
  CHECK(refusal(Bytes(7)).find("8 bytes that give the length of its header, this one has 7") !=
        std::string::npos);
}

TEST_CASE("safetensors: a header of more than 100,000,000 bytes is refused") {
  const std::string message = refusal(bytes_of<std::uint64_t>({100'000'001, 0}));
  CHECK(message.find("a header of 100000001 bytes, more than the 100000000 that are allowed") !=
        std::string::npos);
}

TEST_CASE("safetensors: a header longer than the file is refused") {
  const std::string message = refusal(bytes_of<std::uint64_t>({9, 0}));
  CHECK(message.find("a header of 9 bytes, but only 8 follow; it is cut short") != std::string::npos);
}

TEST_CASE("safetensors: a header that does not start with a brace is refused") {
  check_refused(" {}", 0, "must be JSON that starts with '{'");
  check_refused("", 0, "must be JSON that starts with '{'");
  check_refused("[]", 0, "must be JSON that starts with '{'");
}

TEST_CASE("safetensors: a header that is not JSON is refused") {
  check_refused(R"({"a":)", 0, "the header is not valid JSON in UTF-8");
  check_refused("{} {}", 0, "the header is not valid JSON in UTF-8");
}

TEST_CASE("safetensors: a header that is not UTF-8 is refused") {
  check_refused("{\"__metadata__\":{\"k\":\"\xff\"}}", 0, "the header is not valid JSON in UTF-8");
  check_refused("{\"__metadata__\":{\"k\":\"\xc0\x80\"}}", 0, "the header is not valid JSON in UTF-8");
}

TEST_CASE("safetensors: a key given twice is refused at every level") {
  check_refused(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}})", 0,
                "has the key \"a\" twice");
  check_refused(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0,
                "the key \"dtype\" twice");
  check_refused(R"({"__metadata__":{"k":"1","k":"2"}})", 0, "the key \"k\" twice");
}

TEST_CASE("safetensors: a header nested deeper than the format is refused, however deep") {
  check_refused(entry(R"("U8")", "[[0]]", "[0,0]"), 0, "nested deeper than the 3 levels");
  std::string deep = "{\"a\":";
  deep.append(1'000'000, '[');
  check_refused(deep, 0, "nested deeper than the 3 levels");
}

TEST_CASE("safetensors: metadata that do not map names to text are refused") {
  check_refused(R"({"__metadata__":[]})", 0, "__metadata__ must map names to text, but is []");
  check_refused(R"({"__metadata__":{"k":1}})", 0, "__metadata__ must map names to text, but \"k\" is 1");
}

TEST_CASE("safetensors: an entry that is no object, lacks a field or has one too many is refused") {
  check_refused(R"({"a":1})", 0, "\"a\": an entry must be a JSON object, but is 1");
  check_refused(R"({"a":{"shape":[0],"data_offsets":[0,0]}})", 0, "\"a\": the entry has no dtype");
  check_refused(R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", 0, "\"a\": the entry has no shape");
  check_refused(R"({"a":{"dtype":"U8","shape":[0]}})", 0, "\"a\": the entry has no data_offsets");
  check_refused(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]}})", 0,
                "\"a\": the entry has an unknown field \"strides\"");
}

TEST_CASE("safetensors: a dtype that opgrad does not have is refused with those it has") {
  check_refused(entry(R"("BF16")", "[1]", "[0,2]"), 2,
                "\"a\": dtype \"BF16\" is none of F32, F64, I32, I64, U8, BOOL");
  check_refused(entry("4", "[1]", "[0,4]"), 4, "\"a\": dtype 4 is none of");
}

TEST_CASE("safetensors: a shape that is no list of sizes is refused") {
  for (const char* shape : {"3", "[-1]", "[1.0]", "[\"1\"]", "[null]", "[9223372036854775808]", "[1e400]"}) {
    CAPTURE(shape);
    const std::string message = refusal(file_of(entry(R"("U8")", shape, "[0,1]"), Bytes(1)));
    INFO(message);
    CHECK((message.find("shape must be a list of whole numbers from 0") != std::string::npos ||
           message.find("not valid JSON") != std::string::npos));
  }
}

TEST_CASE("safetensors: a shape with too many axes or whose product does not fit is refused") {
  check_refused(entry(R"("U8")", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "\"a\": shape [1,1,1,1,1,1,1,1,1]: ");
  check_refused(entry(R"("F64")", "[4294967296,4294967296]", "[0,0]"), 0,
                "\"a\": shape [4294967296,4294967296]: ");
}

TEST_CASE("safetensors: offsets that are not two whole numbers are refused") {
  for (const char* offsets : {"[0]", "[0,1,1]", "[0,-1]", "[0,1.5]", "{}", "[\"0\",1]"}) {
    CAPTURE(offsets);
    check_refused(entry(R"("U8")", "[1]", offsets), 1,
                  "\"a\": data_offsets must be two whole numbers from 0");
  }
}

TEST_CASE("safetensors: an end before the beginning is refused") {
  check_refused(entry(R"("U8")", "[1]", "[5,4]"), 1, "\"a\": data_offsets end at 4, before they begin at 5");
}

TEST_CASE("safetensors: a length that does not match the shape is refused") {
  check_refused(entry(R"("F32")", "[2,3]", "[0,23]"), 23,
                "\"a\": f32[2, 3] takes 24 bytes, but data_offsets [0, 23) hold 23");
  check_refused(entry(R"("U8")", "[1]", "[0,18446744073709551615]"), 1, "hold 18446744073709551615");
}

TEST_CASE("safetensors: a hole between arrays or before the first is refused") {
  check_refused(entry(R"("U8")", "[1]", "[1,2]"), 2,
                "\"a\": its data begin at 1, which leaves a hole after byte 0");
}

TEST_CASE("safetensors: arrays that overlap are refused") {
  check_refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                3, "\"b\": its data begin at 1 and overlap the array before, which ends at 2");
}

TEST_CASE("safetensors: missing data and trailing bytes are refused") {
  check_refused(entry(R"("U8")", "[4]", "[0,4]"), 3,
                "take 4 bytes, but the file has 3 after its header; it is cut");
  check_refused(entry(R"("U8")", "[4]", "[0,4]"), 6,
                "take 4 bytes, but the file has 6 after its header: 2 too many");
  check_refused("{}", 1, "take 0 bytes, but the file has 1 after its header: 1 too many");
}

TEST_CASE("safetensors: a BOOL that is neither 0 nor 1 is refused") {
  const Bytes content = file_of(entry(R"("BOOL")", "[3]", "[0,3]"), bytes_of<std::uint8_t>({0, 1, 2}));
  CHECK(refusal(content).find("\"a\": a BOOL is 0 or 1, but element 2 is 2") != std::string::npos);
}

TEST_CASE("safetensors: a file cut short anywhere is refused") {
  const Bytes whole = small_file();
  REQUIRE(refusal(whole) == "(not refused)");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    CHECK(refusal(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n))) != "(not refused)");
  }
}

TEST_CASE("safetensors: damaged files are read or refused, and never more than that") {
  std::mt19937 random(1);
  const Bytes whole = small_file();
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    Bytes damaged = whole;
    for (unsigned i = 0; i <= random() % 3; ++i)
      damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    refused += refusal(damaged) != "(not refused)";
  }
  CHECK(refused > 10'000);
  CHECK(refused < 20'000);
}

TEST_CASE("safetensors: a file that is not there is refused by name") {
  CHECK_THROWS_WITH_AS(read_safetensors("/nowhere/weights"), doctest::Contains("/nowhere/weights"),
                       UserError);
}

TEST_CASE("safetensors: arrays that cannot be written are refused, and the old file stays") {
  const Scratch scratch;
  const Bytes four(4);
  const auto refused = [&](const std::vector<NamedArrayView>& arrays, const Metadata& metadata,
                           const char* part) {
    CHECK_THROWS_WITH_AS(write_safetensors(scratch.path("a"), arrays, metadata), doctest::Contains(part),
                         UserError);
  };
  const Type u8{DType::u8, Shape{4}};
  write_safetensors(scratch.path("a"), std::vector<NamedArrayView>{{"old", u8, four}});
  refused({{"x", u8, four}, {"x", u8, four}}, {}, "two arrays are called \"x\"; names must differ");
  refused({{"__metadata__", u8, four}}, {}, "an array may not be called __metadata__");
  refused({{"x", {DType::f32, Shape{2}}, four}}, {}, "\"x\": f32[2] takes 8 bytes, but 4 are given");
  refused({{"\xff", u8, four}}, {}, "a name or a metadata text is not UTF-8");
  refused({}, {{"k", "\xff"}}, "a name or a metadata text is not UTF-8");
  CHECK(read_safetensors(scratch.path("a")).at(0).name == "old");
}
