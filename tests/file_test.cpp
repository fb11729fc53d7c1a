// Files: whole or not at all, at whichever call it fails.
#include "../core/file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "../core/error.h"
#include "scratch.h"

using namespace opgrad;

namespace {

std::vector<std::byte> bytes(const std::string& s) {
  const auto* p = reinterpret_cast<const std::byte*>(s.data());
  return {p, p + s.size()};
}

struct FailingCall {
  FailingCall(std::uint64_t n, int error) { fail_file_call(n, error); }
  ~FailingCall() { fail_file_call(0, 0); }
};

int files_in(const std::string& folder) {
  int n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n;
  return n;
}

std::string error_of(const std::string& path, std::uint64_t limit = 1 << 20) {
  try {
    read_file(path, limit);
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("file: what is written is read back, replaced or new, empty or large") {
  const Scratch scratch;
  const std::string path = scratch.path("f");
  CHECK_FALSE(file_exists(path));
  for (const std::size_t size : {0u, 1u, 4096u, 3'000'000u, 5u}) {
    std::vector<std::byte> content(size);
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<std::byte>(i * 7);
    write_file(path, content);
    CHECK(file_exists(path));
    CHECK(read_file(path) == content);
  }
  CHECK(files_in(scratch.path("")) == 1);
}

TEST_CASE("file: whichever call fails, the file is old or new and no temporary file stays") {
  const Scratch scratch;
  const std::string path = scratch.path("f");
  const auto old_content = bytes("old content"), new_content = bytes("new and longer content");
  for (const bool existed : {true, false}) {
    int failures = 0;
    for (std::uint64_t n = 1;; ++n) {
      CAPTURE(n);
      std::filesystem::remove(path);
      if (existed) write_file(path, old_content);
      bool failed = false;
      {
        const FailingCall seam(n, EIO);
        try {
          write_file(path, new_content);
        } catch (const UserError& e) {
          failed = true;
          CHECK(std::string(e.what()).find(path) != std::string::npos);
          CHECK(std::string(e.what()).find("Input/output error") != std::string::npos);
        }
      }
      REQUIRE(n < 100);
      const bool there = file_exists(path);
      if (there) {
        const auto now = read_file(path);
        CHECK((now == new_content || (existed && failed && now == old_content)));
      } else {
        CHECK((!existed && failed));
      }
      CHECK(files_in(scratch.path("")) == (there ? 1 : 0));
      if (!failed) break;
      ++failures;
    }
    // stat, open, write, sync, close, rename; open, sync and close of the folder.
    CHECK(failures == 9);
  }
}

TEST_CASE("file: up to the rename a failure leaves the old content, and says so") {
  const Scratch scratch;
  const std::string path = scratch.path("f");
  write_file(path, bytes("old"));
  const FailingCall seam(6, ENOSPC);
  CHECK_THROWS_WITH_AS(write_file(path, bytes("new")), doctest::Contains("what it held before is untouched"),
                       UserError);
  CHECK(read_file(path) == bytes("old"));
}

TEST_CASE("file: whichever call of a reading fails, it is reported with the file's name") {
  const Scratch scratch;
  const std::string path = scratch.path("f");
  write_file(path, bytes("content"));
  int failures = 0;
  for (std::uint64_t n = 1; n < 100; ++n) {
    const FailingCall seam(n, EIO);
    const std::string error = error_of(path);
    if (error == "no error") break;
    CHECK(error.find(path + "': Input/output error") != std::string::npos);
    ++failures;
  }
  CHECK(failures >= 3);
}

TEST_CASE("file: calls interrupted by a signal are repeated") {
  const Scratch scratch;
  const std::string path = scratch.path("f");
  for (std::uint64_t n = 1; n <= 12; ++n) {
    CAPTURE(n);
    const FailingCall seam(n, EINTR);
    const auto content = bytes("content " + std::to_string(n));
    CHECK_NOTHROW(write_file(path, content));
    fail_file_call(n, EINTR);
    CHECK(read_file(path) == content);
  }
}

TEST_CASE("file: system calls are counted") {
  const Scratch scratch;
  const auto before = file_calls();
  write_file(scratch.path("f"), bytes("x"));
  CHECK(file_calls() == before + 9);
}

TEST_CASE("file: writes that the system cuts short are continued") {
  const Scratch scratch;
  const std::string path = scratch.path("pipe");
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  // Many times what a pipe holds: the writer blocks half way, where a signal makes the system return a part.
  std::vector<std::byte> content(1'000'000);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i % 251);
  struct sigaction handler {
  }, before{};
  handler.sa_handler = [](int) {};
  REQUIRE(sigaction(SIGUSR1, &handler, &before) == 0);
  std::vector<std::byte> received;
  std::thread reader([&, writer = pthread_self()] {
    const int fd = open(path.c_str(), O_RDONLY);
    std::vector<std::byte> piece(1 << 16);
    for (;;) {
      if (received.size() < 300'000) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        pthread_kill(writer, SIGUSR1);
      }
      const ssize_t n = read(fd, piece.data(), piece.size());
      if (n <= 0) break;
      received.insert(received.end(), piece.begin(), piece.begin() + n);
    }
    close(fd);
  });
  write_file(path, content);
  reader.join();
  sigaction(SIGUSR1, &before, nullptr);
  CHECK(received == content);
  struct stat about {};
  REQUIRE(stat(path.c_str(), &about) == 0);
  CHECK(S_ISFIFO(about.st_mode));  // written to, not replaced
}

TEST_CASE("file: a file that is missing, a folder, and a path through a file are refused by name") {
  const Scratch scratch;
  CHECK(error_of(scratch.path("none")).find("none': No such file or directory") != std::string::npos);
  CHECK(error_of(scratch.path("")).find("Is a directory") != std::string::npos);
  const std::string f = scratch.file("f", bytes("x"));
  CHECK(error_of(f + "/g").find("Not a directory") != std::string::npos);
  CHECK_THROWS_WITH_AS(write_file(scratch.path("no/such/folder"), bytes("x")),
                       doctest::Contains("No such file or directory"), UserError);
  CHECK_THROWS_WITH_AS(write_file(scratch.path(""), bytes("x")), doctest::Contains("Is a directory"),
                       UserError);
  CHECK_FALSE(file_exists(scratch.path("none")));
  CHECK(file_exists(scratch.path("")));
}

TEST_CASE("file: a full device is reported") {
  CHECK_THROWS_WITH_AS(write_file("/dev/full", bytes("x")),
                       doctest::Contains("'/dev/full': No space left on device"), UserError);
}

TEST_CASE("file: reading stops at the limit, whether the size is known before or not") {
  const Scratch scratch;
  const std::string f = scratch.file("f", bytes("12345"));
  CHECK(read_file(f, 5).size() == 5);
  CHECK(error_of(f, 4).find("it has 5 bytes or more, but at most 4 are accepted") != std::string::npos);
  CHECK(error_of("/dev/zero", 1000).find("at most 1000 are accepted") != std::string::npos);
}

TEST_CASE("file: a symbolic link stays one, and permissions are kept") {
  const Scratch scratch;
  const std::string f = scratch.file("f", bytes("old")), link = scratch.path("link");
  REQUIRE(chmod(f.c_str(), 0600) == 0);
  REQUIRE(symlink("f", link.c_str()) == 0);
  write_file(link, bytes("new"));
  CHECK(read_file(f) == bytes("new"));
  struct stat about {};
  REQUIRE(lstat(link.c_str(), &about) == 0);
  CHECK(S_ISLNK(about.st_mode));
  REQUIRE(stat(f.c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
}
