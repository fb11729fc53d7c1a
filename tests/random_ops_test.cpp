// Keyed draws as tensors: the same numbers as core's, in range, and different for every key.
#include <doctest/doctest.h>

#include <cmath>

#include "../core/parallel.h"
#include "../graph/run.h"
#include "../ops/ops.h"

using namespace opgrad;

TEST_CASE("a draw holds core's numbers, whatever the shape") {
  const Key key{fold_in(7, "draw"), 3};
  std::vector<float> expected(30000);
  fill_uniform(key, 0, 30000, expected.data());
  CHECK(random_uniform(random_key(key), {30000}).to_vector<float>() == expected);
  CHECK(random_uniform(random_key(key), {100, 300}).to_vector<float>() == expected);
  std::vector<double> normal(30000);
  fill_normal(key, 0, 30000, normal.data());
  CHECK(random_normal(random_key(key), {30000}, 0, 1, DType::f64).to_vector<double>() == normal);
}

TEST_CASE("uniform numbers stay below the upper bound, even where rounding would reach it") {
  const float low = 1, high = std::nextafter(1.0f, 2.0f);
  for (const float x : random_uniform(random_key({1, 1}), {4096}, low, high).values<float>()) CHECK(x == low);
  for (const float x : random_uniform(random_key({1, 1}), {4096}, -2, 3).values<float>())
    CHECK((x >= -2 && x < 3));
}

TEST_CASE("mean and deviation of normal numbers") {
  double total = 0, squares = 0;
  const Values<double> v = random_normal(random_key({5, 0}), {200000}, 3, 2, DType::f64).values<double>();
  for (const double x : v) {
    total += x;
    squares += (x - 3) * (x - 3);
  }
  CHECK(total / 200000 == doctest::Approx(3).epsilon(0.01));
  CHECK(std::sqrt(squares / 200000) == doctest::Approx(2).epsilon(0.01));
}

TEST_CASE("a new step or stream is a new draw from the same plan") {
  const auto draw = [](Key key) { return random_uniform(random_key(key), {64}).to_vector<float>(); };
  const auto first = draw({1, 1});
  reset_plan_stats();
  CHECK(draw({1, 1}) == first);
  CHECK(draw({1, 2}) != first);
  CHECK(draw({2, 1}) != first);
  CHECK(plan_stats().plans == 0);
  CHECK(plan_stats().hits == 3);
}

TEST_CASE("draws have the same bits for any number of threads") {
  const int before = threads();
  const auto draw = [] { return random_normal(random_key({9, 9}), {100003}).to_vector<float>(); };
  set_threads(1);
  const auto one = draw();
  set_threads(3);
  CHECK(draw() == one);
  set_threads(before);
}
