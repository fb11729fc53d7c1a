// The file seam over POSIX calls. Every call is counted and may be made to fail; calls interrupted by a
// signal are repeated.
#include "file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "error.h"

namespace opgrad {
namespace {

std::atomic<std::uint64_t> calls{0};
std::atomic<std::uint64_t> failing_call{0};
std::atomic<int> failing_error{0};

// What f returns, or -1 with errno set when this call is the one to fail.
template <class F>
auto counted(F f) -> decltype(f()) {
  for (;;) {
    const std::uint64_t number = ++calls;
    std::uint64_t failing = failing_call.load();
    if (number == failing && failing_call.compare_exchange_strong(failing, 0))
      errno = failing_error.load();
    else if (const auto result = f(); result >= 0)
      return result;
    if (errno != EINTR) return -1;
  }
}

[[noreturn]] void fail(const char* verb, const std::string& path, int error, const std::string& rest = "") {
  throw UserError(
      fmt::format("cannot {} the file '{}': {}{}", verb, path, std::system_category().message(error), rest));
}

// An open file, closed at the end of its scope at the latest.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, mode_t mode = 0)
      : fd_(counted([&] { return open(path.c_str(), flags | O_CLOEXEC, mode); })) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }
  // Closing reports what could not be written (on network file systems, or on a full disk). It is never
  // repeated: the descriptor is gone even when the call was interrupted.
  int close() {
    const int fd = std::exchange(fd_, -1);
    const int closed = ::close(fd) == 0 || errno == EINTR ? 0 : -1;
    return counted([&] { return closed; });
  }

 private:
  int fd_;
};

// Zero, or the errno of the first call that failed.
int write_all(int fd, std::span<const std::byte> content) {
  while (!content.empty()) {
    const ssize_t n = counted([&] { return write(fd, content.data(), content.size()); });
    if (n < 0) return errno;
    content = content.subspan(static_cast<std::size_t>(n));
  }
  return 0;
}

int write_and_close(Descriptor& file, std::span<const std::byte> content, bool sync) {
  if (const int error = write_all(file, content)) return error;
  if (sync && counted([&] { return fsync(file); }) != 0) return errno;
  return file.close() == 0 ? 0 : errno;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return path.substr(0, slash + 1);
}

}  // namespace

std::vector<std::byte> read_file(const std::string& path, std::uint64_t limit) {
  Descriptor file(path, O_RDONLY);
  if (file < 0) fail("open", path, errno);
  struct stat about {};
  if (counted([&] { return fstat(file, &about); }) != 0) fail("read", path, errno);
  const auto too_large = [&](std::uint64_t size) {
    throw UserError(
        fmt::format("cannot read the file '{}': it has {} bytes or more, but at most {} are accepted here",
                    path, size, limit));
  };
  const std::uint64_t expected = S_ISREG(about.st_mode) ? static_cast<std::uint64_t>(about.st_size) : 0;
  if (expected > limit) too_large(expected);
  // One byte more than expected, so that the end of the file is seen without growing.
  std::vector<std::byte> content(static_cast<std::size_t>(expected) + 1);
  std::size_t size = 0;
  for (;;) {
    const ssize_t n = counted([&] { return read(file, content.data() + size, content.size() - size); });
    if (n < 0) fail("read", path, errno);
    size += static_cast<std::size_t>(n);
    if (size > limit) too_large(size);
    if (n == 0) break;
    if (size == content.size()) content.resize(std::max<std::size_t>(2 * size, 1 << 16));
  }
  content.resize(size);
  return content;
}

void write_file(const std::string& path, std::span<const std::byte> content) {
  struct stat about {};
  const bool exists = counted([&] { return stat(path.c_str(), &about); }) == 0;
  if (!exists && errno != ENOENT) fail("write", path, errno);
  if (exists && !S_ISREG(about.st_mode)) {  // a device or a pipe is written to, not replaced
    Descriptor file(path, O_WRONLY);
    if (file < 0) fail("open", path, errno);
    if (const int error = write_and_close(file, content, false)) fail("write", path, error);
    return;
  }

  // Through a symbolic link to the file itself, so that the link stays.
  std::string target = path;
  if (exists)
    if (char* const real = realpath(path.c_str(), nullptr)) {
      target = real;
      std::free(real);
    }
  static std::atomic<unsigned> number{0};
  const std::string temporary = fmt::format("{}.tmp.{}.{}", target, getpid(), ++number);
  {
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
                    exists ? about.st_mode & 0777 : 0666);
    if (file < 0) fail("create", temporary, errno);
    if (const int error = write_and_close(file, content, true)) {
      unlink(temporary.c_str());
      fail("write", path, error, "; what it held before is untouched");
    }
  }
  if (counted([&] { return rename(temporary.c_str(), target.c_str()); }) != 0) {
    const int error = errno;
    unlink(temporary.c_str());
    fail("replace", path, error, "; what it held before is untouched");
  }
  const std::string folder = folder_of(target);
  Descriptor directory(folder, O_RDONLY | O_DIRECTORY);
  // EINVAL: a file system that cannot sync a directory has nothing to be waited for.
  if (directory < 0 || (counted([&] { return fsync(directory); }) != 0 && errno != EINVAL) ||
      directory.close() != 0)
    fail("sync the folder of", path, errno, "; the new content is in place, but a crash now could lose it");
}

bool file_exists(const std::string& path) {
  struct stat about {};
  return counted([&] { return stat(path.c_str(), &about); }) == 0;
}

void fail_file_call(std::uint64_t n, int error) {
  failing_error = error;
  failing_call = n == 0 ? 0 : calls + n;
}

std::uint64_t file_calls() { return calls; }

}  // namespace opgrad
