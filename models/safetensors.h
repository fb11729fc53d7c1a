// safetensors files: named arrays behind a JSON header, readable by the common frameworks. Knows no graph.
#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "../core/shape.h"

namespace opgrad {

// One array: row-major, little-endian, numel * size_of(dtype) bytes.
struct NamedArray {
  std::string name;
  Type type;
  std::vector<std::byte> bytes;
};

// The same, its bytes owned by somebody else.
struct NamedArrayView {
  std::string name;
  Type type;
  std::span<const std::byte> bytes;
};

// What the header's "__metadata__" holds.
using Metadata = std::map<std::string, std::string>;

// The arrays of a safetensors file in the order in which their data lie, and its metadata if asked for.
// dtypes F32, F64, I32, I64, U8, BOOL; rank 0 to 8, empty arrays allowed; NaN and infinity pass.
// UserError, naming the file and what is wrong, for anything else: a header longer than the file or than
// 100,000,000 bytes, JSON that is not valid UTF-8, nested or has a key twice, offsets that leave holes or
// overlap, sizes that do not match the shape, missing or trailing bytes, a BOOL that is neither 0 nor 1.
// Source: the format's description at https://github.com/huggingface/safetensors.
std::vector<NamedArray> read_safetensors(const std::string& path, Metadata* metadata = nullptr);

// The same for a file that is in memory already; `path` is what messages call it.
std::vector<NamedArray> parse_safetensors(std::span<const std::byte> content, const std::string& path,
                                          Metadata* metadata = nullptr);

// Writes a safetensors file in one move (core/file.h): the old file stays until the new one is complete. The
// order is that of the reference writer, wide dtypes first and then by name, the header padded to a multiple
// of 8 bytes, so equal arrays give equal files. UserError when a name is used twice, is "__metadata__" or is
// not UTF-8, when bytes do not match the type, or when the file cannot be written.
void write_safetensors(const std::string& path, std::span<const NamedArrayView> arrays,
                       const Metadata& metadata = {});

}  // namespace opgrad
