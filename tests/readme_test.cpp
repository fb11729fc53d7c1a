// The C++ listings of README.md, ops/README.md and graph/README.md are the files in tests/examples, which are
// compiled with the tests; here each is shown to do what the pages say.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "../graph/grad.h"
#include "../graph/registry.h"
#include "../models/opgrad.h"
#include "examples/adagrad.h"
#include "examples/swish_layer.h"
#include "examples/warmup.h"
#include "numeric_gradient.h"
#include "run_shell.h"

using namespace opgrad;
namespace fs = std::filesystem;

// tests/examples
Tensor softsign(const Operand& x);
Tensor gelu(const Operand& x);
Tensor softplus(const Operand& x);
Tensor clip(const Operand& x, double low, double high);
Tensor logsumexp(const Operand& x, const Axes& axes = {}, bool keepdims = false);

namespace {

const fs::path root = OPGRAD_SOURCE_DIR;

std::string text_of(const fs::path& path) {
  std::ifstream in(path);
  REQUIRE(in);
  return (std::stringstream() << in.rdbuf()).str();
}

// What stands between ```language and ```.
std::vector<std::string> listings(const std::string& page, const std::string& language) {
  std::vector<std::string> found;
  const std::string open = "```" + language + "\n";
  for (std::size_t at = 0; (at = page.find(open, at)) != page.npos;) {
    at += open.size();
    found.push_back(page.substr(at, page.find("```", at) - at));
  }
  return found;
}

// The first group of every match.
std::vector<std::string> found(const std::string& text, const std::string& pattern) {
  const std::regex expression(pattern);
  std::vector<std::string> groups;
  for (std::sregex_iterator m(text.begin(), text.end(), expression); m != std::sregex_iterator(); ++m)
    groups.push_back((*m)[1]);
  return groups;
}

std::vector<std::string> pages() {
  return {text_of(root / "README.md"), text_of(root / "ops/README.md"), text_of(root / "graph/README.md")};
}

std::string output_of(const char* command) {
  const test::Run r = test::run_shell(command);
  CHECK(r.code == 0);
  return r.output;
}

}  // namespace

TEST_CASE("pages: every C++ listing is a file in tests/examples, and every file is on a page") {
  std::set<std::string> examples, listed;
  for (const auto& e : fs::directory_iterator(root / "tests/examples")) examples.insert(text_of(e.path()));
  std::size_t count = 0;
  for (const std::string& page : pages())
    for (const std::string& listing : listings(page, "cpp")) {
      CHECK_MESSAGE(examples.contains(listing), listing);
      listed.insert(listing);
      ++count;
    }
  CHECK(count == 14);
  for (const std::string& example : examples) CHECK_MESSAGE(listed.contains(example), example);
}

TEST_CASE("pages: the operation computes, differentiates and differentiates again") {
  const Tensor x = variable(tensor({-3.0, 0.5, 1.0}));
  const Tensor y = softsign(x);
  CHECK(y.to_vector<double>() == std::vector<double>{-0.75, 0.5 / 1.5, 0.5});
  const Tensor first = grad(sum(y), x), second = grad(sum(first), x);
  CHECK(first.values<double>()[2] == doctest::Approx(0.25));
  CHECK(second.values<double>()[0] == doctest::Approx(2.0 / 64));
  CHECK(second.values<double>()[2] == doctest::Approx(-0.25));
}

TEST_CASE("pages: the broadcasting operation takes one number for each channel and sums its gradient") {
  const Tensor x = variable(tensor({{1.0, -2.0}, {3.0, 4.0}})), beta = variable(tensor({0.0, 1e3}));
  const Tensor y = swish(x, beta);
  CHECK(y.to_vector<double>() == std::vector<double>{0.5, 0, 1.5, 4});
  CHECK(grad(sum(y), beta).to_vector<double>() == std::vector<double>{0.25 * (1 + 9), 0});
}

TEST_CASE("pages: the reduction does not overflow, and its gradient is softmax") {
  const Tensor x = variable(tensor({{1000.0, 1000.0}, {0.0, -1.0}}));
  const Tensor y = logsumexp(x, {1});
  CHECK(y.values<double>()[0] == doctest::Approx(1000 + std::log(2.0)));
  CHECK(y.values<double>()[1] == doctest::Approx(std::log1p(std::exp(-1.0))));
  const Values<double> g = grad(sum(y), x).values<double>(), p = softmax(x).values<double>();
  for (int i = 0; i < 4; ++i) CHECK(g[i] == doctest::Approx(p[i]));
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(logsumexp(tensor({-infinity, -infinity})).item() == -infinity);
  CHECK(logsumexp(tensor({infinity, infinity, 0.0})).item() == infinity);
  CHECK(std::isnan(logsumexp(tensor({0.0, std::nan(""), 1.0})).item()));
}

TEST_CASE("pages: the operation with settings clips, by its own kernel, whatever the strides of its input") {
  const Tensor x = variable(tensor({{-3.0, -1.0, 0.25}, {0.5, 7.0, std::nan("")}}));
  const std::vector<double> y = clip(x, -1, 0.5).to_vector<double>();
  CHECK(std::vector(y.begin(), y.end() - 1) == std::vector<double>{-1, -1, 0.25, 0.5, 0.5});
  CHECK(std::isnan(y.back()));
  CHECK(grad(sum(clip(x, -1, 0.5)), x).to_vector<double>() == std::vector<double>{0, 1, 1, 1, 0, 1});
  const Tensor turned = clip(transpose(tensor({{1.0, 2.0}, {3.0, 4.0}})), 1.5, 3.5);
  CHECK(turned.to_vector<double>() == std::vector<double>{1.5, 3, 2, 3.5});
  CHECK(clip(2.5, 0, 1).item() == 1);
  // One number in memory, with others behind it, that the kernel must not take for its neighbours.
  const Tensor repeated = broadcast_to(slice(tensor({5.0, -5.0, -5.0}), {0}, {1}), {3});
  CHECK(clip(repeated, 0, 1).to_vector<double>() == std::vector<double>{1, 1, 1});
}

TEST_CASE("pages: gelu has its known values") {
  const Tensor y = gelu(tensor({-1.0, 0.0, 2.0}));
  CHECK(y.values<double>()[0] == doctest::Approx(-0.158655253931457));
  CHECK(y.values<double>()[1] == 0);
  CHECK(y.values<double>()[2] == doctest::Approx(1.954499736103642));
}

TEST_CASE("pages: the composite has the gradient it states where its parts have kinks, and both orders") {
  const Tensor x = variable(tensor({0.0, 1000.0, -1000.0}));
  const Tensor y = softplus(x);
  CHECK(y.to_vector<double>() == std::vector<double>{std::log(2.0), 1000, 0});
  CHECK(grad(sum(y), x).to_vector<double>() == std::vector<double>{0.5, 1, 0});
  test::check_two_orders([](const std::vector<Tensor>& in) { return softplus(in[0]); }, {{3, 4}});
}

TEST_CASE("pages: the optimizer takes the steps of its formula, one plan for all") {
  const Parameter w("w", tensor({1.0, -2.0}));
  Adagrad adagrad(0.5);
  for (int i = 0; i < 2; ++i) adagrad.step(sum(w * tensor({3.0, -4.0})));
  const double both = 0.5 / (1 + 1e-7 / 3) + 0.5 * 3 / (std::sqrt(18.0) + 1e-7);
  CHECK(w.value().values<double>()[0] == doctest::Approx(1 - both));
  CHECK(w.value().values<double>()[1] == doctest::Approx(-2 + both));
  CHECK(adagrad.slot(w, "sum").to_vector<double>() == std::vector<double>{18, 32});
}

TEST_CASE("pages: the schedule rises to its peak in a straight line and falls as the root") {
  const LearningRate rate = warmup_then_sqrt(0.3, 100);
  CHECK(rate(0) == doctest::Approx(0.003));
  CHECK(rate(49) == doctest::Approx(0.15));
  CHECK(rate(99) == doctest::Approx(0.3));
  CHECK(rate(399) == doctest::Approx(0.15));
}

TEST_CASE("pages: the layer has one beta for each channel, 1 at first, and learns it") {
  const Sequential net{Dense(3), Swish()};
  const Tensor x = tensor<float>({{1, 2}, {3, 4}});
  net(x);
  const Parameter beta = net.parameter("swish/beta");
  CHECK(beta.value().to_vector<float>() == std::vector<float>{1, 1, 1});
  SGD sgd{{.learning_rate = 0.1}};
  sgd.step(sum(net(x)));
  CHECK(beta.value().to_vector<float>() != std::vector<float>{1, 1, 1});
}

TEST_CASE("pages: the network made of all of them learns") {
  double loss = 1, beta = 1;
  const std::string said = output_of(OPGRAD_NETWORK);
  CAPTURE(said);
  REQUIRE(std::sscanf(said.c_str(), "loss %lf, beta of the first unit %lf", &loss, &beta) == 2);
  CHECK(loss < 1e-3);
  CHECK(beta != 1);
}

TEST_CASE("pages: the derivatives are those that the page shows, and right") {
  const std::string said = output_of(OPGRAD_DERIVATIVES);
  const std::vector<std::string> shown = listings(text_of(root / "README.md"), "text");
  REQUIRE(shown.size() == 1);
  CHECK(said == shown[0]);
  // At x = (1, 2) with v = (1, -1), by hand: y = x (x0 + x1), energy = x0^2 x1.
  for (const char* line : {"jacobian        f64[2, 2] {{4, 1}, {2, 5}}\n", "jvp             f64[2] {3, -3}\n",
                           "vjp             f64[2] {2, -4}\n", "hessian         f64[2, 2] {{4, 2}, {2, 0}}\n",
                           "hvp             f64[2] {2, 2}\n", "custom_gradient f64[2] {1, -1}\n",
                           "by example      f64[3, 2] {{2, 0}, {0, 2}, {4, 4}}\n"})
    CHECK_MESSAGE(said.find(line) != said.npos, line);
}

TEST_CASE("pages: the pass of one's own does what the page shows") {
  const std::string said = output_of(OPGRAD_PASS);
  const std::vector<std::string> shown = listings(text_of(root / "graph/README.md"), "text");
  REQUIRE(shown.size() == 2);
  CHECK(said == shown[1]);
  CHECK(said.find("abs(") < said.find("\nall: "));
  CHECK(said.find("abs(", said.find("\nall: ")) == said.npos);
}

TEST_CASE("pages: the ways into a build are those that the tests of the installed library go") {
  const std::string page = text_of(root / "README.md"), installed = text_of(root / "tests/installed_test.sh");
  const std::string subdirectory = text_of(root / "tests/subdirectory_test.sh");
  const std::vector<std::string> cmake = listings(page, "cmake");
  REQUIRE(cmake.size() == 1);
  for (const char* words :
       {"find_package(opgrad 0.1 REQUIRED)", "PRIVATE opgrad::opgrad)", "PRIVATE opgrad::shared)"}) {
    CHECK_MESSAGE(cmake[0].find(words) != page.npos, words);
    CHECK_MESSAGE(installed.find(words) != page.npos, words);
  }
  for (const char* words : {"opgrad-static", "pkg-config --cflags", "--libs opgrad"}) {
    CHECK_MESSAGE(page.find(words) != page.npos, words);
    CHECK_MESSAGE(installed.find(words) != page.npos, words);
  }
  CHECK(page.find("add_subdirectory(opgrad)") != page.npos);
  CHECK(subdirectory.find("add_subdirectory($root opgrad)") != page.npos);
}

TEST_CASE("pages: the record's fields stand in the table in the order in which the compiler wants them") {
  const std::string page = text_of(root / "ops/README.md"), header = text_of(root / "graph/ir.h");
  const std::string table = page.substr(0, page.find("\n## 2."));
  std::string record = header.substr(header.find("\nstruct Op {"));
  record.resize(record.find("\n};"));
  record = std::regex_replace(record, std::regex("//[^\n]*"), "");
  // Behind a name may stand a function's parameters and a default.
  const auto declared = found(record, R"((\w+)\)?(\([^)]*\))?( = [^;]+)?;)");
  const auto shown = found(table, R"(\n\| `\.(\w+)` \|)");
  CHECK(shown == declared);
  CHECK(shown.size() == 23);
}

TEST_CASE("pages: the errors are real") {
  const std::string page = text_of(root / "ops/README.md");
  const Tensor x = zeros({2, 3});
  const std::vector<std::string> errors = {
      test::error_of([&] { swish(x, zeros({4})); }),
      test::error_of([&] { swish(x, zeros({3}, DType::f64)); }),
      test::error_of([&] { softsign(zeros({2}, DType::i64)); }),
      test::error_of([&] { logsumexp(x, {2}); }),
      test::error_of([&] { clip(x, 2, 1); }),
  };
  for (const std::string& error : errors) {
    const std::string words = error.substr(0, error.find("\n  at "));
    CHECK_MESSAGE(page.find(words) != page.npos, error);
    CHECK_MESSAGE(error.find("at readme_test.cpp:") != error.npos, error);
  }
}
