// The README's listings are the files in tests/examples, which are compiled with the tests.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "../graph/grad.h"
#include "../ops/ops.h"

using namespace opgrad;

Tensor softsign(const Operand& x);  // tests/examples/operation.cpp

namespace {
std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  REQUIRE(in);
  return (std::stringstream() << in.rdbuf()).str();
}
}  // namespace

TEST_CASE("README: every C++ listing is a file in tests/examples") {
  const std::filesystem::path root = OPGRAD_SOURCE_DIR;
  std::set<std::string> examples;
  for (const auto& e : std::filesystem::directory_iterator(root / "tests/examples"))
    examples.insert(text_of(e.path()));
  const std::string readme = text_of(root / "README.md"), open = "```cpp\n";
  std::size_t listings = 0;
  for (std::size_t at = 0; (at = readme.find(open, at)) != readme.npos; ++listings) {
    at += open.size();
    CHECK(examples.contains(readme.substr(at, readme.find("```", at) - at)));
  }
  CHECK(listings == 2);
}

TEST_CASE("README: the operation of one's own computes, differentiates and differentiates again") {
  const Tensor x = variable(tensor({-3.0, 0.5, 1.0}));
  const Tensor y = softsign(x);
  CHECK(y.to_vector<double>() == std::vector<double>{-0.75, 0.5 / 1.5, 0.5});
  const Tensor first = grad(sum(y), x), second = grad(sum(first), x);
  CHECK(first.values<double>()[2] == doctest::Approx(0.25));
  CHECK(second.values<double>()[0] == doctest::Approx(2.0 / 64));
  CHECK(second.values<double>()[2] == doctest::Approx(-0.25));
}
