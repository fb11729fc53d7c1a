// The file seam: all reading and writing of files goes through here, so tests can make the N-th call fail.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace opgrad {

// The whole file. UserError naming the file and the system's reason when it cannot be read, or when it is
// larger than `limit` bytes.
std::vector<std::byte> read_file(const std::string& path, std::uint64_t limit = std::uint64_t{1} << 34);

// Replaces the file's content in one move: writes a temporary file beside it, syncs it, renames it over
// `path`, syncs the directory. After a failure (UserError) or a crash the old file is intact; the temporary
// file is removed. Only if the directory cannot be synced is the new content in place already; the error says
// so. A symbolic link is followed; what is not a regular file (a device, a pipe) is written to as it is.
void write_file(const std::string& path, std::span<const std::byte> content);

bool file_exists(const std::string& path);

// The seam: the n-th system call of the functions above from now (1 is the next; open, read, write, sync,
// rename each count) fails with `error` (an errno value); n = 0 switches it off.
void fail_file_call(std::uint64_t n, int error);
// System calls made through the seam so far.
std::uint64_t file_calls();

}  // namespace opgrad
