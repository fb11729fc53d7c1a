// Reading and writing safetensors files; see safetensors.h.
#include "safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "../core/error.h"
#include "../core/file.h"

namespace opgrad {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little,
              "the format is little-endian, and bytes are copied as is");

constexpr std::uint64_t max_header = 100'000'000;
// The header, an entry, a list in it.
constexpr int max_depth = 3;

constexpr std::pair<std::string_view, DType> dtype_names[] = {{"F32", DType::f32}, {"F64", DType::f64},
                                                              {"I32", DType::i32}, {"I64", DType::i64},
                                                              {"U8", DType::u8},   {"BOOL", DType::bool_}};

std::string_view file_name_of(DType t) {
  return std::ranges::find(dtype_names, t, &std::pair<std::string_view, DType>::second)->first;
}

// An error that says which file.
struct Failure {
  const std::string& path;
  [[noreturn]] void operator()(const std::string& what) const {
    throw UserError(fmt::format("read_safetensors: {}: {}", path, what));
  }
};

// Text that came from a file, fit to be printed.
std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 80) + "...";
}

// nlohmann's parser lets the last of two equal keys win, so keys are watched while it reads.
json parse_header(std::string_view text, const Failure& fail) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    const bool opens =
        event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth >= max_depth)
      fail(fmt::format("the header is nested deeper than the {} levels of the format", max_depth));
    if (event == json::parse_event_t::object_start) {
      keys.resize(static_cast<std::size_t>(depth) + 1);
      keys.back().clear();
    }
    if (event == json::parse_event_t::key &&
        !keys[static_cast<std::size_t>(depth) - 1].insert(value.get<std::string>()).second)
      fail(fmt::format("the header has the key {} twice", shown(value)));
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& e) {
    fail(fmt::format("the header is not valid JSON in UTF-8 ({})", e.what()));
  }
}

Metadata read_metadata(const json& value, const Failure& fail) {
  if (!value.is_object()) fail(fmt::format("__metadata__ must map names to text, but is {}", shown(value)));
  Metadata out;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      fail(fmt::format("__metadata__ must map names to text, but {} is {}", shown(key), shown(text)));
    out[key] = text.get<std::string>();
  }
  return out;
}

// One array as the header announces it: its bytes are [begin, end) of the data.
struct Entry {
  std::string name;
  Type type;
  std::uint64_t begin = 0, end = 0;
};

DType read_dtype(const json& value, const std::string& name, const Failure& fail) {
  if (value.is_string())
    for (const auto& [text, dtype] : dtype_names)
      if (value.get_ref<const std::string&>() == text) return dtype;
  fail(fmt::format("{}: dtype {} is none of F32, F64, I32, I64, U8, BOOL", name, shown(value)));
}

Shape read_shape(const json& value, const std::string& name, const Failure& fail) {
  std::vector<std::int64_t> sizes;
  bool good = value.is_array();
  for (std::size_t i = 0; good && i < value.size(); ++i) {
    good = value[i].is_number_unsigned() && value[i].get<std::uint64_t>() <= INT64_MAX;
    if (good) sizes.push_back(value[i].get<std::int64_t>());
  }
  if (!good)
    fail(fmt::format("{}: shape must be a list of whole numbers from 0, but is {}", name, shown(value)));
  try {
    return Shape(std::span<const std::int64_t>(sizes));
  } catch (const UserError& e) {
    fail(fmt::format("{}: shape {}: {}", name, shown(value), e.what()));
  }
}

Entry read_entry(const std::string& key, const json& value, const Failure& fail) {
  const std::string name = shown(key);
  if (!value.is_object())
    fail(fmt::format("{}: an entry must be a JSON object, but is {}", name, shown(value)));
  for (const char* wanted : {"dtype", "shape", "data_offsets"})
    if (!value.contains(wanted)) fail(fmt::format("{}: the entry has no {}", name, wanted));
  for (const auto& [field, unused] : value.items())
    if (field != "dtype" && field != "shape" && field != "data_offsets")
      fail(fmt::format("{}: the entry has an unknown field {}", name, shown(field)));

  const Type type{read_dtype(value["dtype"], name, fail), read_shape(value["shape"], name, fail)};
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    fail(fmt::format("{}: data_offsets must be two whole numbers from 0, but is {}", name, shown(offsets)));
  Entry entry{key, type, offsets[0].get<std::uint64_t>(), offsets[1].get<std::uint64_t>()};
  if (entry.end < entry.begin)
    fail(fmt::format("{}: data_offsets end at {}, before they begin at {}", name, entry.end, entry.begin));
  const std::uint64_t bytes = static_cast<std::uint64_t>(type.shape.numel()) * size_of(type.dtype);
  if (entry.end - entry.begin != bytes)
    fail(fmt::format("{}: {} takes {} bytes, but data_offsets [{}, {}) hold {}", name, to_string(type), bytes,
                     entry.begin, entry.end, entry.end - entry.begin));
  return entry;
}

// Sorts the entries by place and checks that they cover the data from 0 to its end, each byte once.
void check_layout(std::vector<Entry>& entries, std::uint64_t data_bytes, const Failure& fail) {
  std::ranges::stable_sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
  std::uint64_t at = 0;
  for (const Entry& e : entries) {
    if (e.begin > at)
      fail(fmt::format("{}: its data begin at {}, which leaves a hole after byte {}", shown(e.name), e.begin,
                       at));
    if (e.begin < at)
      fail(fmt::format("{}: its data begin at {} and overlap the array before, which ends at {}",
                       shown(e.name), e.begin, at));
    at = e.end;
  }
  if (at > data_bytes)
    fail(fmt::format("the arrays take {} bytes, but the file has {} after its header; it is cut short", at,
                     data_bytes));
  if (at < data_bytes)
    fail(fmt::format("the arrays take {} bytes, but the file has {} after its header: {} too many", at,
                     data_bytes, data_bytes - at));
}

std::string write_header(std::span<const NamedArrayView* const> arrays, const Metadata& metadata) {
  std::string header = "{";
  if (!metadata.empty()) header += "\"__metadata__\":" + json(metadata).dump() + ",";
  std::uint64_t at = 0;
  for (const NamedArrayView* a : arrays) {
    const std::uint64_t end = at + a->bytes.size();
    header +=
        fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},", json(a->name).dump(),
                    file_name_of(a->type.dtype), fmt::join(a->type.shape, ","), at, end);
    at = end;
  }
  if (header.back() == ',') header.pop_back();
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

}  // namespace

std::vector<NamedArray> parse_safetensors(std::span<const std::byte> content, const std::string& path,
                                          Metadata* metadata) {
  const Failure fail{path};
  if (content.size() < 8)
    fail(fmt::format(
        "a safetensors file starts with 8 bytes that give the length of its header, this one has {}",
        content.size()));
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, content.data(), 8);
  content = content.subspan(8);
  if (header_bytes > max_header)
    fail(fmt::format(
        "its first 8 bytes announce a header of {} bytes, more than the {} that are allowed; is it a "
        "safetensors file?",
        header_bytes, max_header));
  if (header_bytes > content.size())
    fail(fmt::format("it announces a header of {} bytes, but only {} follow; it is cut short", header_bytes,
                     content.size()));
  const std::string_view text(reinterpret_cast<const char*>(content.data()),
                              static_cast<std::size_t>(header_bytes));
  const std::span<const std::byte> data = content.subspan(static_cast<std::size_t>(header_bytes));
  if (!text.starts_with('{')) fail("the header must be JSON that starts with '{'; is it a safetensors file?");

  const json header = parse_header(text, fail);
  Metadata found;
  std::vector<Entry> entries;
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__")
      found = read_metadata(value, fail);
    else
      entries.push_back(read_entry(key, value, fail));
  }
  check_layout(entries, data.size(), fail);

  std::vector<NamedArray> arrays;
  for (const Entry& e : entries) {
    const auto bytes =
        data.subspan(static_cast<std::size_t>(e.begin), static_cast<std::size_t>(e.end - e.begin));
    // A C++ bool that is neither is undefined behaviour wherever it is read.
    if (e.type.dtype == DType::bool_)
      for (std::size_t i = 0; i < bytes.size(); ++i)
        if (bytes[i] > std::byte{1})
          fail(fmt::format("{}: a BOOL is 0 or 1, but element {} is {}", shown(e.name), i,
                           std::to_integer<int>(bytes[i])));
    arrays.push_back({e.name, e.type, {bytes.begin(), bytes.end()}});
  }
  if (metadata) *metadata = std::move(found);
  return arrays;
}

std::vector<NamedArray> read_safetensors(const std::string& path, Metadata* metadata) {
  return parse_safetensors(read_file(path), path, metadata);
}

void write_safetensors(const std::string& path, std::span<const NamedArrayView> arrays,
                       const Metadata& metadata) {
  const auto fail = [&](const std::string& what) {
    throw UserError(fmt::format("write_safetensors: {}: {}", path, what));
  };
  std::vector<const NamedArrayView*> order;
  std::set<std::string_view> names;
  for (const NamedArrayView& a : arrays) {
    if (a.name == "__metadata__") fail("an array may not be called __metadata__; the format keeps that name");
    if (!names.insert(a.name).second)
      fail(fmt::format("two arrays are called \"{}\"; names must differ", a.name));
    const std::uint64_t bytes = static_cast<std::uint64_t>(a.type.shape.numel()) * size_of(a.type.dtype);
    if (a.bytes.size() != bytes)
      fail(fmt::format("\"{}\": {} takes {} bytes, but {} are given", a.name, to_string(a.type), bytes,
                       a.bytes.size()));
    order.push_back(&a);
  }
  std::ranges::sort(order, [](const NamedArrayView* a, const NamedArrayView* b) {
    const std::size_t wide_a = size_of(a->type.dtype), wide_b = size_of(b->type.dtype);
    return wide_a != wide_b ? wide_a > wide_b : a->name < b->name;
  });
  std::string header;
  try {
    header = write_header(order, metadata);
  } catch (const json::type_error& e) {
    fail(fmt::format("a name or a metadata text is not UTF-8 ({})", e.what()));
  }
  if (header.size() > max_header)
    fail(fmt::format("names and metadata make a header of {} bytes, more than the {} that are allowed",
                     header.size(), max_header));

  const std::uint64_t header_bytes = header.size();
  std::vector<std::byte> content(8 + header.size());
  std::memcpy(content.data(), &header_bytes, 8);
  std::memcpy(content.data() + 8, header.data(), header.size());
  for (const NamedArrayView* a : order) content.insert(content.end(), a->bytes.begin(), a->bytes.end());
  write_file(path, content);
}

}  // namespace opgrad
