// Drawings by Graphviz: its program `dot` reads a temporary file and writes to a pipe.
#include "graph_svg.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <vector>

#include "../../core/error.h"
#include "../../core/file.h"

namespace opgrad {
namespace {

constexpr std::size_t most_items = 3000;

struct TemporaryFolder {
  std::string path = (std::filesystem::temp_directory_path() / "opgrad-XXXXXX").string();
  TemporaryFolder() {
    if (!mkdtemp(path.data()))
      throw UserError(fmt::format("graph: no temporary folder can be made: {}", path));
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
};

// One word for the shell.
std::string quoted(const std::string& path) {
  std::string word = "'";
  for (const char c : path) word += c == '\'' ? "'\\''" : std::string(1, c);
  return word + "'";
}

}  // namespace

std::string svg_of(const std::string& dot, std::size_t items) {
  if (items > most_items)
    throw UserError(
        fmt::format("graph: {} values are more than the {} that Graphviz lays out in time; take --format "
                    "text, or a smaller "
                    "--batch for a chain",
                    items, most_items));
  const TemporaryFolder folder;
  write_file(folder.path + "/program.dot", std::as_bytes(std::span(dot)));
  // The shell says 127 where there is no such program.
  const std::string command =
      fmt::format("cd {} && exec dot -Tsvg program.dot 2>errors", quoted(folder.path));
  std::FILE* const pipe = popen(command.c_str(), "r");
  if (!pipe) throw UserError("graph: no process can be started for Graphviz's dot");
  std::string svg;
  std::array<char, 1 << 16> part;
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    svg.append(part.data(), n);
  const int status = pclose(pipe);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (code == 127)
    throw UserError(
        "graph: --format svg needs Graphviz's program dot, which is not installed or not on the PATH; "
        "install it "
        "(Debian: apt install graphviz) or take --format dot");
  if (code != 0) {
    const std::vector<std::byte> said = read_file(folder.path + "/errors");
    throw UserError(fmt::format("graph: Graphviz's dot ended with exit code {}: {}", code,
                                std::string(reinterpret_cast<const char*>(said.data()), said.size())));
  }
  return svg;
}

}  // namespace opgrad
