// The house rules that a compiler does not check: where an #include may point, which third-party headers may
// be seen where, that the engine knows no operation by name, and how files are called.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

// Left to right; an #include may only point left or stay.
const std::vector<std::string> rooms = {"core", "graph", "ops", "optim", "models", "tests"};

int rank_of(const fs::path& file) {
  const auto room = std::ranges::find(rooms, file.begin()->string());
  return room == rooms.end() ? -1 : static_cast<int>(room - rooms.begin());
}

const std::set<std::string> standard_headers = {
    // C++20
    "algorithm", "any", "array", "atomic", "barrier", "bit", "bitset", "cassert", "cctype", "cerrno", "cfenv",
    "cfloat", "charconv", "chrono", "cinttypes", "climits", "clocale", "cmath", "codecvt", "compare",
    "complex", "concepts", "condition_variable", "coroutine", "csetjmp", "csignal", "cstdarg", "cstddef",
    "cstdint", "cstdio", "cstdlib", "cstring", "ctime", "cuchar", "cwchar", "cwctype", "deque", "exception",
    "execution", "filesystem", "format", "forward_list", "fstream", "functional", "future",
    "initializer_list", "iomanip", "ios", "iosfwd", "iostream", "istream", "iterator", "latch", "limits",
    "list", "locale", "map", "memory", "memory_resource", "mutex", "new", "numbers", "numeric", "optional",
    "ostream", "queue", "random", "ranges", "ratio", "regex", "scoped_allocator", "semaphore", "set",
    "shared_mutex", "source_location", "span", "sstream", "stack", "stdexcept", "stop_token", "streambuf",
    "string", "string_view", "syncstream", "system_error", "thread", "tuple", "type_traits", "typeindex",
    "typeinfo", "unordered_map", "unordered_set", "utility", "valarray", "variant", "vector", "version",
    // C and POSIX
    "assert.h", "ctype.h", "dirent.h", "dlfcn.h", "errno.h", "fcntl.h", "fenv.h", "float.h", "inttypes.h",
    "limits.h", "math.h", "poll.h", "pthread.h", "sched.h", "signal.h", "stdarg.h", "stddef.h", "stdint.h",
    "stdio.h", "stdlib.h", "string.h", "sys/mman.h", "sys/resource.h", "sys/stat.h", "sys/time.h",
    "sys/types.h", "sys/wait.h", "time.h", "unistd.h"};

// The text with comments and raw strings turned to blanks, lines kept: neither may look like code to the
// checks.
std::string without_comments(const std::string& text) {
  std::string out = text;
  const auto blank = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < std::min(to, out.size()); ++i)
      if (out[i] != '\n') out[i] = ' ';
  };
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i + 1;
    const bool in_word =
        i > 0 && (std::isalnum(static_cast<unsigned char>(text[i - 1])) || text[i - 1] == '_');
    if (text.compare(i, 2, "//") == 0) {
      end = std::min(text.find('\n', i), text.size());
      blank(i, end);
    } else if (text.compare(i, 2, "/*") == 0) {
      const std::size_t close = text.find("*/", i + 2);
      end = close == std::string::npos ? text.size() : close + 2;
      blank(i, end);
    } else if (text.compare(i, 2, "R\"") == 0 && !in_word && text.find('(', i) != std::string::npos) {
      const std::size_t open = text.find('(', i);
      const std::string mark = ")" + text.substr(i + 2, open - i - 2) + "\"";
      const std::size_t close = text.find(mark, open);
      end = close == std::string::npos ? text.size() : close + mark.size();
      blank(i + 2, end - 1);
    } else if (text[i] == '"' || (text[i] == '\'' && !in_word)) {
      // An apostrophe inside a number separates digits.
      while (end < text.size() && text[end] != text[i] && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
      ++end;
    }
    i = end;
  }
  return out;
}

struct Include {
  std::string target;
  char kind;  // '"', '<', or '?' for one that is spelled by a macro
};

std::vector<Include> includes_of(const std::string& code) {
  static const std::regex pattern(
      R"re(^[ \t]*#[ \t]*include(?:_next)?[ \t]*(?:"([^"\n]*)"|<([^>\n]*)>|(\S+)))re");
  std::vector<Include> out;
  std::istringstream lines(code);
  for (std::string line; std::getline(lines, line);) {
    std::smatch m;
    if (!std::regex_search(line, m, pattern)) continue;
    if (m[1].matched)
      out.push_back({m[1], '"'});
    else if (m[2].matched)
      out.push_back({m[2], '<'});
    else
      out.push_back({m[3], '?'});
  }
  return out;
}

using Files = std::map<std::string, std::string>;  // path from the root, text

bool is_code(const std::string& path) { return path.ends_with(".h") || path.ends_with(".cpp"); }

// Where an #include "..." leads: relative to the file; the listings of the README (tests/examples) stand
// outside the tree, so there from the folders that users have on their include path.
std::string target_of(const std::string& path, const std::string& include, const Files& files) {
  if (path.starts_with("tests/examples/"))
    for (const char* folder : {"models", "."})
      if (const fs::path target = (fs::path(folder) / include).lexically_normal();
          files.contains(target.string()))
        return target.string();
  return (fs::path(path).parent_path() / include).lexically_normal().string();
}

// An #include "..." must lead to one of our files in the same room or further left.
std::vector<std::string> misdirected(const Files& files) {
  std::vector<std::string> faults;
  for (const auto& [path, text] : files) {
    if (!is_code(path)) continue;
    for (const Include& include : includes_of(without_comments(text))) {
      if (include.kind == '?') faults.push_back(path + ": #include " + include.target + " hides its target");
      if (include.kind != '"') continue;
      const std::string target = target_of(path, include.target, files);
      if (!files.contains(target))
        faults.push_back(path + ": \"" + include.target + "\" is no file of ours, seen from there");
      else if (rank_of(target) > rank_of(path))
        faults.push_back(path + ": \"" + include.target + "\" points right");
    }
  }
  return faults;
}

// Headers: the standard library only (doctest too in tests). Sources: Boost in graph, cblas.h in one file of
// core, doctest in tests.
std::vector<std::string> foreign(const Files& files) {
  std::vector<std::string> faults;
  std::set<std::string> cblas_users;
  for (const auto& [path, text] : files) {
    if (!is_code(path)) continue;
    for (const Include& include : includes_of(without_comments(text))) {
      if (include.kind != '<') continue;
      const std::string& target = include.target;
      const bool in_tests = path.starts_with("tests/"), source = path.ends_with(".cpp");
      const bool boost = target.starts_with("boost/"), doctest = target.starts_with("doctest/");
      const bool cblas = target.find("cblas") != std::string::npos;
      if (cblas) cblas_users.insert(path);
      if ((!source && !standard_headers.contains(target) && !(doctest && in_tests)) ||
          (boost && !path.starts_with("graph/")) || (cblas && !path.starts_with("core/")) ||
          (doctest && !in_tests))
        faults.push_back(path + ": <" + target + "> may not be included here");
    }
  }
  if (cblas_users.size() > 1)
    for (const std::string& path : cblas_users)
      faults.push_back(path + ": more than one file includes cblas.h");
  return faults;
}

// The engine asks an operation's traits. Only the registry, which keeps names apart, and printing may look at
// names.
std::vector<std::string> name_comparisons(const Files& files) {
  static const std::regex pattern(
      R"re((->|\.)\s*name\s*(\(\s*\))?\s*\)*\s*[!=]=)re"
      R"re(|[!=]=\s*\(*\s*(\*|\w+(::\w+)*\()?[\w.>\[\]()-]*(->|\.)\s*name\b)re"
      R"re(|strcmp\s*\([^;]*(->|\.)\s*name\b)re"
      R"re(|(->|\.)\s*name\s*(\(\s*\))?\s*\)*\s*\.\s*(starts_with|ends_with|find|compare)\b)re");
  std::vector<std::string> faults;
  for (const auto& [path, text] : files) {
    const std::string file = fs::path(path).filename().string();
    if (!path.starts_with("graph/") || !path.ends_with(".cpp") || file == "registry.cpp" ||
        file.starts_with("print"))
      continue;
    std::istringstream lines(without_comments(text));
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (std::regex_search(line, pattern))
        faults.push_back(path + ":" + std::to_string(number) + ": " + line);
    }
  }
  return faults;
}

// Letters, digits, '_', '-' and '.' only, and C++ only in .h and .cpp, where these checks see it.
std::vector<std::string> misnamed(const Files& files) {
  static const std::regex good(R"(([A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*)");
  static const std::set<std::string> other_cpp = {".hpp", ".hh",  ".hxx", ".inc", ".ipp",
                                                  ".cc",  ".cxx", ".C",   ".H"};
  std::vector<std::string> faults;
  for (const auto& [path, text] : files)
    if (!std::regex_match(path, good))
      faults.push_back(path + ": a name of other characters than A-Za-z0-9_.-");
    else if (other_cpp.contains(fs::path(path).extension().string()))
      faults.push_back(path + ": C++ lies in .h and .cpp");
  return faults;
}

const Files& our_files() {
  static const Files files = [] {
    Files out;
    const fs::path root = OPGRAD_SOURCE_DIR;
    for (const std::string& room : rooms)
      for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root / room)) {
        if (!entry.is_regular_file()) continue;
        const std::string path = entry.path().lexically_relative(root).generic_string();
        std::string text;
        if (is_code(path)) {
          std::ifstream in(entry.path(), std::ios::binary);
          text.assign(std::istreambuf_iterator<char>(in), {});
        }
        out.emplace(path, text);
      }
    return out;
  }();
  return files;
}

void check_none(const std::vector<std::string>& faults) {
  for (const std::string& fault : faults) FAIL_CHECK(fault);
}

}  // namespace

TEST_CASE("layering: our files are found, all of them in rooms") {
  const Files& files = our_files();
  CHECK(files.contains("core/error.h"));
  CHECK(files.contains("tests/layering_test.cpp"));
  for (const std::string& room : rooms)
    CHECK_MESSAGE(std::ranges::any_of(files, [&](const auto& f) { return f.first.starts_with(room + "/"); }),
                  room);
}

TEST_CASE("layering: every #include leads to a file of ours and points left") {
  check_none(misdirected(our_files()));
}

TEST_CASE("layering: third-party headers stay where they belong") { check_none(foreign(our_files())); }

TEST_CASE("layering: the engine compares no operation by name") { check_none(name_comparisons(our_files())); }

TEST_CASE("layering: files have plain names") { check_none(misnamed(our_files())); }

TEST_CASE("layering: the check of directions sees what is wrong and passes what is right") {
  Files files = {{"core/a.h", ""}, {"graph/b.h", ""}, {"graph/deep/c.h", ""}, {"tests/d.h", ""}};
  const auto faults = [&](const std::string& path, const std::string& text) {
    Files with = files;
    with[path] = text;
    return misdirected(with).size();
  };
  CHECK(faults("graph/x.cpp", "#include \"../core/a.h\"\n#include \"b.h\"\n#include \"deep/c.h\"\n") == 0);
  CHECK(faults("graph/deep/x.h", "#include \"../../core/a.h\"\n#include \"../b.h\"\n") == 0);
  CHECK(faults("tests/x.cpp", "#include \"../graph/b.h\"\n#include \"d.h\"\n") == 0);
  CHECK(faults("core/x.cpp", "#include \"../graph/b.h\"\n") == 1);
  CHECK(faults("core/x.cpp", "  #  include\t\"../graph/deep/c.h\"  // why\n") == 1);
  CHECK(faults("ops/x.h", "#include \"../tests/d.h\"\n") == 1);
  CHECK(faults("graph/x.cpp", "#include \"../core/missing.h\"\n") == 1);
  CHECK(faults("graph/x.cpp", "#include \"core/a.h\"\n") == 1);
  CHECK(faults("tests/x.cpp", "#include \"core/a.h\"\n") == 1);
  CHECK(faults("tests/examples/x.cpp", "#include \"core/a.h\"\n") == 0);
  CHECK(faults("tests/examples/x.cpp", "#include \"core/missing.h\"\n") == 1);
  CHECK(faults("core/x.cpp", "#include HEADER\n") == 1);
  CHECK(faults("core/x.cpp", "// #include \"../graph/b.h\"\n/*\n#include \"../graph/b.h\"\n*/\n") == 0);
  CHECK(faults("core/x.cpp", "auto s = R\"x(\n#include \"../graph/b.h\"\n)x\";\n") == 0);
  CHECK(faults("core/x.cpp", "auto s = \"/*\"; int n = 1'000;\n#include \"../graph/b.h\"\n") == 1);
  CHECK(faults("core/x.cpp", "char c = '\"';\n#include \"../graph/b.h\"\n") == 1);
  CHECK(faults("core/x.cpp", "auto s = \"\\\"//\";\n#include \"../graph/b.h\"  /* \" */\n") == 1);
}

TEST_CASE("layering: the check of third-party headers sees what is wrong and passes what is right") {
  const auto faults = [](const Files& files) { return foreign(files).size(); };
  CHECK(faults({{"core/x.h", "#include <vector>\n#include <unistd.h>\n"}}) == 0);
  CHECK(faults({{"core/x.h", "#include <fmt/format.h>\n"}}) == 1);
  CHECK(faults({{"core/x.cpp", "#include <fmt/format.h>\n#include <sleef.h>\n"}}) == 0);
  CHECK(faults({{"models/x.h", "#include <zlib.h>\n"}}) == 1);
  CHECK(faults({{"graph/x.cpp", "#include <boost/graph/graph_traits.hpp>\n"}}) == 0);
  CHECK(faults({{"graph/x.h", "#include <boost/graph/graph_traits.hpp>\n"}}) == 1);
  CHECK(faults({{"ops/x.cpp", "#include <boost/graph/graph_traits.hpp>\n"}}) == 1);
  CHECK(faults({{"core/x.cpp", "#include <cblas.h>\n"}}) == 0);
  CHECK(faults({{"core/x.cpp", "#include <cblas.h>\n"}, {"core/y.cpp", "#include <openblas/cblas.h>\n"}}) ==
        2);
  CHECK(faults({{"ops/x.cpp", "#include <cblas.h>\n"}}) == 1);
  CHECK(faults({{"tests/x.cpp", "#include <doctest/doctest.h>\n"},
                {"tests/x.h", "#include <doctest/doctest.h>\n"}}) == 0);
  CHECK(faults({{"ops/x.cpp", "#include <doctest/doctest.h>\n"}}) == 1);
}

TEST_CASE("layering: the check of name comparisons sees what is wrong and passes what is right") {
  const auto faults = [](const std::string& line, const std::string& path = "graph/x.cpp") {
    return name_comparisons({{path, line}}).size();
  };
  CHECK(faults("if (node->op->name == \"add\") {") == 1);
  CHECK(faults("if (op.name != \"add\") {") == 1);
  CHECK(faults("if (\"add\" == op->name) {") == 1);
  CHECK(faults("if (std::string_view(op->name) == \"add\") {") == 1);
  CHECK(faults("if (add == std::string_view(op->name)) {") == 1);
  CHECK(faults("if (op->name() == add) {") == 1);
  CHECK(faults("if (strcmp(op->name, \"add\") == 0) {") == 1);
  CHECK(faults("if (op->name.starts_with(\"add\")) {") == 1);
  CHECK(faults("out += op->name;") == 0);
  CHECK(faults("const char* name = op->name;") == 0);
  CHECK(faults("if (op->traits == other->traits) use(name);") == 0);
  CHECK(faults("// if (op->name == \"add\")") == 0);
  CHECK(faults("if (op.name == \"add\") {", "graph/registry.cpp") == 0);
  CHECK(faults("if (op.name == \"add\") {", "graph/print.cpp") == 0);
  CHECK(faults("if (op.name == \"add\") {", "ops/x.cpp") == 0);
}

TEST_CASE("layering: the check of file names sees what is wrong and passes what is right") {
  CHECK(misnamed({{"core/a_b-2.h", ""}, {"models/data/x-ubyte.gz", ""}, {"tests/README.md", ""}}).empty());
  CHECK(misnamed({{"core/a b.h", ""}}).size() == 1);
  CHECK(misnamed({{"core/a\u00e4.h", ""}}).size() == 1);
  CHECK(misnamed({{"core/.hidden.h", ""}}).size() == 1);
  CHECK(misnamed({{"core/a.hpp", ""}}).size() == 1);
  CHECK(misnamed({{"core/a.cc", ""}}).size() == 1);
}
