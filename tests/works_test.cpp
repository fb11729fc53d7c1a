// The standard works do what they are quoted for, and opgrad bench reports on them. Nothing here looks at how
// long anything takes.
#include "../models/works.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>
#include <string>

#include "../graph/run.h"
#include "errors.h"
#include "run_shell.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

const Work& work(const char* name) {
  const Work* const found = find_work(name);
  REQUIRE_MESSAGE(found, name);
  return *found;
}

// `bench ARGUMENTS`, with stderr where it is asked for.
Run bench(const std::string& arguments, const std::string& redirect = "2>/dev/null") {
  return run_shell("'" OPGRAD_COMMAND "' bench " + arguments + " " + redirect);
}

}  // namespace

TEST_CASE("works: the table holds the works that are quoted, each once") {
  std::set<std::string> names;
  for (const Work& w : works()) {
    CHECK_MESSAGE(names.insert(w.name).second, w.name);
    CHECK_MESSAGE(std::string(w.about).size() > 10, w.name);
    CHECK(find_work(w.name) == &w);
  }
  for (const char* name : {"seed_b128", "seed_b32", "seed_b1", "seed_b8", "seed_b512", "epoch", "mlp_b128",
                           "infer1", "chain2000", "deep1m"})
    CHECK_MESSAGE(names.contains(name), name);
  CHECK(find_work("seed_b2") == nullptr);
}

TEST_CASE(
    "works: each runs at a small size, gives finite numbers, and replays its plan from the fourth time on") {
  for (const Work& w : works()) {
    const Step step = w.start(4);
    for (int i = 0; i < 3; ++i) step();
    reset_plan_stats();
    const std::vector<float> result = step();
    CHECK_MESSAGE(plan_stats().plans == 0, w.name << ": " << plan_stats().last_miss);
    CHECK_MESSAGE(plan_stats().hits > 0, w.name);
    CHECK_MESSAGE(!result.empty(), w.name);
    for (const float x : result) CHECK_MESSAGE(std::isfinite(x), w.name);
  }
}

TEST_CASE("works: training begins near the loss of a guess among ten and comes down") {
  for (const char* name : {"seed_b128", "mlp_b128"}) {
    const Step step = work(name).start(8);
    const std::vector<float> first = step();
    REQUIRE(first.size() == 1);
    CHECK_MESSAGE(std::abs(first[0] - std::log(10.0F)) < 0.7F, name << ": " << first[0]);
    for (int i = 0; i < 30; ++i) step();
    CHECK_MESSAGE(step()[0] < first[0] / 2, name << ": from " << first[0] << " to " << step()[0]);
  }
}

TEST_CASE("works: the batch that a work is named after is the one it trains on") {
  for (const char* name : {"seed_b1", "seed_b8", "seed_b32", "seed_b128", "seed_b512", "mlp_b128"})
    CHECK(std::string(name).ends_with("_b" + std::to_string(work(name).size)));
  CHECK(work("epoch").size == 60'000);
  CHECK(work("infer1").size == 1);
  CHECK(work("chain2000").size == 2000);
  CHECK(work("deep1m").size == 1'000'000);
}

TEST_CASE("works: inference gives ten probabilities for each image, the same every time") {
  const Step step = work("infer1").start(3);
  const std::vector<float> first = step();
  REQUIRE(first.size() == 30);
  for (auto image = first.begin(); image != first.end(); image += 10) {
    CHECK(std::accumulate(image, image + 10, 0.0) == doctest::Approx(1).epsilon(1e-6));
    // An untrained network guesses, but not all alike.
    CHECK(*std::max_element(image, image + 10) > 0.1001F);
    CHECK(*std::min_element(image, image + 10) > 0);
  }
  CHECK(step() == first);
}

TEST_CASE("works: the gradient of the chain of tanh is the product of the slopes") {
  const std::vector<float> gradient = work("chain2000").start(2000)();
  REQUIRE(gradient.size() == 8);
  const std::array<double, 8> inputs{-0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8};
  for (std::size_t k = 0; k < 8; ++k) {
    double y = inputs[k], slope = 1;
    for (int i = 0; i < 1000; ++i) {
      const double t = std::tanh(y);
      y = t * 1.01;
      slope *= 1.01 * (1 - t * t);
    }
    CHECK(gradient[k] == doctest::Approx(slope).epsilon(1e-3).scale(0));
  }
}

TEST_CASE("works: the gradient of the chain of multiplications is the product, bit for bit") {
  const std::vector<float> gradient = work("deep1m").start(20'000)();
  float product = 1;
  for (int i = 0; i < 20'000; ++i) product *= 1.000001F;
  CHECK(product > 1.01F);
  CHECK(gradient == std::vector<float>(8, product));
}

TEST_CASE("works: arithmetic is counted as twice the multiply-adds") {
  const auto flops = [](const char* name) { return work(name).flops(work(name).size); };
  // For one image of the lecture's network: 194,688 in the first layer, whose input has no gradient, and
  // 2,230,272 + 1,638,400 + 10,240 in the others.
  CHECK(flops("infer1") == 2.0 * 4'073'600);
  CHECK(flops("seed_b1") == 2.0 * (2 * 194'688 + 3 * 3'878'912));
  CHECK(flops("seed_b128") == 128 * flops("seed_b1"));
  CHECK(flops("mlp_b128") == 128 * 2.0 * (2 * 401'408 + 3 * 267'264));
  CHECK(flops("chain2000") == 0);
}

TEST_CASE("works: names that are none lead to the nearest ones") {
  CHECK(near_works("seed_128").front() == "seed_b128");
  CHECK(near_works("chain200").front() == "chain2000");
  CHECK(near_works("infer2") == std::vector<std::string>{"infer1"});
  CHECK(near_works("seed").size() == 3);
  CHECK(near_works("quicksort").empty());
  CHECK(near_works("").empty());
}

TEST_CASE("bench command: --json gives one line for each work, in the order asked") {
  const Run r = bench("chain2000 infer1 --json --threads 1 --seconds 0 --repetitions 3");
  REQUIRE_MESSAGE(r.code == 0, r.output);
  std::istringstream lines(r.output);
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    CHECK(json.size() == 5);
    names.push_back(json.at("work"));
    CHECK(json.at("threads") == 1);
    CHECK(json.at("n") == 3);
    CHECK(json.at("min_ms").get<double>() > 0);
    CHECK(json.at("min_ms").get<double>() <= json.at("median_ms").get<double>());
  }
  CHECK(names == std::vector<std::string>{"chain2000", "infer1"});
}

TEST_CASE("bench command: the table has threads, the rate of matrix products, and a row for each work") {
  const Run r = bench("infer1 chain2000 --threads 2 --seconds 0 --repetitions 2");
  REQUIRE_MESSAGE(r.code == 0, r.output);
  CHECK(contains(r.output, "2 threads"));
  CHECK(contains(r.output, "matrix product "));
  CHECK(contains(r.output, "\ninfer1 "));
  CHECK(contains(r.output, "\nchain2000 "));
  CHECK(contains(r.output, "cached"));
  CHECK_FALSE(contains(r.output, "seed_b128"));
}

TEST_CASE("bench command: it repeats as long as asked") {
  const Run r = bench("chain2000 --json --seconds 0.5 --repetitions 1");
  REQUIRE(r.code == 0);
  const auto json = nlohmann::json::parse(r.output);
  const double n = json.at("n"), least = json.at("min_ms");
  // The times add up to no less than was asked, and without the last one to less.
  CHECK((n > 1 || least >= 500));
  CHECK((n - 1) * least < 500);
}

TEST_CASE("bench command: unknown works and wrong options are usage errors") {
  const Run r = bench("infer1 seed_128", "2>&1");
  CHECK(r.code == 2);
  CHECK(contains(r.output, "there is no work \"seed_128\"; near: seed_b128"));
  CHECK(contains(r.output, "all works: seed_b128, seed_b32"));
  CHECK(contains(r.output, "Usage:"));
  CHECK_FALSE(contains(bench("quicksort", "2>&1").output, "near"));
  for (const char* wrong :
       {"--seconds -1", "--seconds nan", "--repetitions 0", "--repetitions x", "--threads 0", "--jsn"})
    CHECK_MESSAGE(bench(wrong, "2>&1").code == 2, wrong);
}
