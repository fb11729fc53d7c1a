// IDX files, the format of the MNIST database: a small header of sizes and a dense array, often packed with
// gzip.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../core/shape.h"

namespace opgrad {

// The array of an IDX file, row-major, in this machine's byte order: shape.numel() * size_of(dtype) bytes.
struct IdxFile {
  Shape shape;
  DType dtype = DType::u8;
  std::vector<std::byte> data;
};

// Reads an IDX file, plain or packed with gzip (told by its first two bytes, not by its name): big-endian,
// two zero bytes, type code, rank, rank sizes of 32 bits, data. Type codes 08 u8, 0C i32, 0D f32, 0E f64; 09
// (i8) and 0B (i16) are widened to i32. Rank 0 to 8, sizes may be 0. UserError, naming the file and the
// numbers, when it cannot be read, is not IDX, is shorter or longer than its header says, is damaged inside
// gzip, or would hold more than `limit` bytes unpacked: never more than the header announces is unpacked, so
// a small file cannot fill the memory. Source: the description of the format on the MNIST page of LeCun,
// Cortes and Burges.
IdxFile read_idx(const std::string& path, std::uint64_t limit = std::uint64_t{1} << 32);

}  // namespace opgrad
