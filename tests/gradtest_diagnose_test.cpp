// The pattern of a wrong gradient is named in words.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "wrong_tanh.h"

using namespace opgrad;
using namespace opgrad::gradtests;

namespace {

Tensor first_of(std::span<const Tensor> x) { return x[0] * 1; }

// What the true gradients of inputs of these shapes are, and what was claimed in their place.
std::string diagnosis(const std::vector<Shape>& shapes, const std::vector<Numbers>& claimed,
                      const std::vector<Numbers>& expected) {
  const Problem p = problem_of(first_of, shapes);
  Finding f;
  f.first = f.problem = &p;
  f.claimed = claimed;
  f.expected = expected;
  for (const Numbers& e : expected) f.bound.emplace_back(e.size(), 1e-12);
  return diagnose(f);
}

Numbers made_by(std::size_t n, const std::function<double(std::size_t)>& f) {
  Numbers out;
  for (std::size_t k = 0; k < n; ++k) out.push_back(f(k));
  return out;
}
// Numbers without symmetries.
Numbers some(std::size_t n) {
  return made_by(n, [](std::size_t k) { return std::sin(1.0 + 2.3 * static_cast<double>(k)); });
}
Numbers changed(Numbers v, const std::function<double(double)>& f) {
  std::ranges::transform(v, v.begin(), f);
  return v;
}
std::string of_one(const Shape& shape, const std::function<double(std::size_t)>& claimed) {
  const Numbers right = some(static_cast<std::size_t>(shape.numel()));
  return diagnosis({shape}, {made_by(right.size(), claimed)}, {right});
}
std::string of_factor(double factor) {
  const Numbers right = some(12);
  return diagnosis({{3, 4}}, {changed(right, [&](double x) { return factor * x; })}, {right});
}

}  // namespace

TEST_CASE("gradtest diagnosis: constant factors are named, familiar ones by their likely cause") {
  CHECK(contains(of_factor(2), "claimed / true is 2 at all 12 elements: a factor 2 too much"));
  CHECK(contains(of_factor(-1), "claimed / true is -1 at all 12 elements: the sign is turned"));
  CHECK(contains(of_factor(0.5), "a forgotten factor 2"));
  CHECK(contains(of_factor(4), "4 is the size of axis 1 of input 0: a division by it is missing"));
  CHECK(contains(of_factor(1.0 / 12), "1/12 with 12 = the number of elements of input 0: divided by it"));
  CHECK(contains(of_factor(std::log(2.0)), "another base"));
  CHECK(contains(of_factor(1.00001),
                 "claimed / true is 1.00001 at all 12 elements: a constant factor is wrong"));
  CHECK(contains(of_factor(1.7), "claimed / true is 1.7 at all 12 elements: a constant factor is wrong"));
}

TEST_CASE("gradtest diagnosis: a ratio that varies is no factor") {
  const Numbers right = some(12);
  CHECK_FALSE(contains(of_one({12}, [&](std::size_t k) { return right[k] * (k % 2 ? 2 : 2.001); }),
                       "claimed / true"));
}

TEST_CASE("gradtest diagnosis: one element proves no factor, unless it is a familiar one") {
  CHECK_FALSE(contains(diagnosis({{1}}, {{1.7}}, {{1.0}}), "claimed / true"));
  CHECK(contains(diagnosis({{1}}, {{-1.0}}, {{1.0}}), "claimed / true is -1 (of one element)"));
}

TEST_CASE("gradtest diagnosis: zero everywhere is a missing path") {
  CHECK(contains(of_one({3, 4}, [](std::size_t) { return 0; }), "a path is missing"));
}

TEST_CASE("gradtest diagnosis: NaN is told before anything else") {
  CHECK(contains(of_one({4}, [](std::size_t k) { return k ? 0 : std::nan(""); }),
                 "1 of 4 elements are NaN or infinite"));
}

TEST_CASE("gradtest diagnosis: swapped operands, with either sign") {
  const Numbers a = some(6), b = changed(some(6), [](double x) { return x * x + 1; });
  CHECK(contains(diagnosis({{2, 3}, {2, 3}}, {b, a}, {a, b}),
                 "it equals the true gradient of input 1: operands are swapped"));
  CHECK(contains(diagnosis({{2, 3}, {2, 3}}, {changed(b, std::negate()), b}, {a, b}),
                 "minus the true gradient of input 1: operands are swapped"));
}

TEST_CASE("gradtest diagnosis: one wrong element is named by its index") {
  const Numbers right = some(6);
  CHECK(contains(of_one({2, 3}, [&](std::size_t k) { return k == 4 ? 0 : right[k]; }),
                 "one element of 6 is wrong, at [1, 1]: claimed 0, true"));
}

TEST_CASE("gradtest diagnosis: wrong signs alone") {
  const Numbers right = some(6);
  CHECK(contains(of_one({6}, [&](std::size_t k) { return k == 1 || k == 4 ? -right[k] : right[k]; }),
                 "the sign alone is wrong, at 2 of 6 elements"));
}

TEST_CASE("gradtest diagnosis: layouts are told apart") {
  const Numbers right = some(12);
  CHECK(contains(of_one({3, 4}, [&](std::size_t k) { return right[11 - k]; }),
                 "turned by 180 degrees (axes 0 and 1"));
  CHECK(contains(of_one({3, 4}, [&](std::size_t k) { return right[k / 4 * 4 + 3 - k % 4]; }),
                 "axis 1 reversed"));
  CHECK(contains(of_one({3, 4}, [&](std::size_t k) { return right[(k + 8) % 12]; }),
                 "moved by 1 along axis 0"));
  CHECK(contains(of_one({3, 4}, [&](std::size_t k) { return right[k % 3 * 4 + k / 3]; }),
                 "axes 0 and 1 transposed"));
  const Numbers nine = some(9);
  CHECK(contains(of_one({3, 3}, [&](std::size_t k) { return nine[k % 3 * 3 + k / 3]; }),
                 "axes 0 and 1 transposed"));
}

TEST_CASE("gradtest diagnosis: a constant that is added") {
  const Numbers right = some(6);
  CHECK(contains(of_one({6}, [&](std::size_t k) { return right[k] + 0.25; }),
                 "claimed - true is 0.25 at all 6 elements"));
}

TEST_CASE("gradtest diagnosis: what sums along an axis tell") {
  const Numbers v = some(6);
  const auto row_sum = [&](std::size_t k) { return v[k / 3 * 3] + v[k / 3 * 3 + 1] + v[k / 3 * 3 + 2]; };
  const Numbers sums = made_by(6, row_sum);
  CHECK(contains(diagnosis({{2, 3}}, {v}, {sums}), "summed along axis 1 it equals the true gradient"));
  CHECK(contains(diagnosis({{2, 3}}, {sums}, {v}), "it is the true gradient summed along axis 1"));
  CHECK(
      contains(diagnosis({{2, 3}}, {made_by(6, [&](std::size_t k) { return v[k] + (k < 3 ? 1 : 2); })}, {v}),
               "claimed - true is the same along axis 1"));
  Numbers elsewhere = v;
  elsewhere[0] += 0.5, elsewhere[1] -= 0.5, elsewhere[3] += 0.25, elsewhere[5] -= 0.25;
  CHECK(contains(diagnosis({{2, 3}}, {elsewhere}, {v}), "its sums along axis 1 are right"));
}

TEST_CASE("gradtest diagnosis: borders, dropped contributions, errors that grow") {
  const Numbers v = some(12);
  CHECK(contains(of_one({3, 4}, [&](std::size_t k) { return k % 4 == 3 ? v[k] * v[k] * 3 : v[k]; }),
                 "only at index 3 of axis 1, its last"));
  CHECK(contains(of_one({3, 4}, [&](std::size_t k) { return k == 2 || k == 5 || k == 7 ? 0 : v[k]; }),
                 "zero at 3 of 12 elements"));
  CHECK(contains(
      of_one({6}, [&](std::size_t k) { return v[k] + 0.01 * std::pow(static_cast<double>(k) + 1, 2); }),
      "the error grows along axis 0 forwards"));
}

TEST_CASE("gradtest diagnosis: else the share of wrong elements, and the largest difference") {
  const Numbers v = some(8);
  const std::string said =
      of_one({2, 4}, [&](std::size_t k) { return k == 1 || k == 6 ? v[k] * v[k] + 3 : v[k]; });
  CHECK(contains(said, "2 of 8 elements are wrong; the largest difference is at [0, 1]"));
}

TEST_CASE("gradtest diagnosis: elements with an infinite bound are not looked at") {
  const Problem p = problem_of(first_of, {{3}});
  Finding f;
  f.first = f.problem = &p;
  f.claimed = {{2, 4, 99}};
  f.expected = {{1, 2, 3}};
  f.bound = {{1e-12, 1e-12, INFINITY}};
  CHECK(contains(diagnose(f), "claimed / true is 2 at all 2 elements"));
}

TEST_CASE("gradtest diagnosis: a cotangent that is ignored, turned or taken in part") {
  // The adjoint of broadcasting sums along axis 0.
  const Problem p = problem_of(
      [](std::span<const Tensor> x) {
        return broadcast_to(x[0], {2, 3}) * 1.5;
      },
      {{3}});
  Finding f;
  f.first = f.problem = &p;
  f.cotangent = some(6);
  const Numbers& dy = f.cotangent;
  const auto with = [&](const std::function<double(std::size_t)>& claimed) {
    f.claimed = {made_by(3, claimed)};
    f.expected = {made_by(3, [&](std::size_t k) { return 1.5 * (dy[k] + dy[k + 3]); })};
    f.bound = {{1e-12, 1e-12, 1e-12}};
    return diagnose(f);
  };
  CHECK(contains(with([&](std::size_t k) { return 1.5 * dy[k]; }),
                 "takes dy at index 0 of axis 0 of the result only"));
  CHECK(contains(with([&](std::size_t k) { return 1.5 * dy[k + 3]; }), "takes dy at index 1 of axis 0"));
  CHECK(contains(with([&](std::size_t) { return 3; }), "dy is not used"));
  // dy written column by column.
  const auto source = [](std::size_t m) { return m % 2 * 3 + m / 2; };
  CHECK(contains(with([&](std::size_t k) { return 1.5 * (dy[source(k)] + dy[source(k + 3)]); }),
                 "for dy with axes 0 and 1 transposed"));
}

TEST_CASE("gradtest diagnosis: inputs with one mistake share a sentence") {
  const Numbers a = some(4), b = changed(some(4), [](double x) { return x + 3; });
  const auto half = [](double x) { return x / 2; };
  CHECK(contains(diagnosis({{4}, {4}}, {changed(a, half), changed(b, half)}, {a, b}),
                 "gradient of input 0 and input 1: "));
}

TEST_CASE("gradtest diagnosis: right in the first order only is a stale intermediate") {
  const WrongTanh w({2, 3}, stale, 2);
  CHECK(contains(diagnose(w.finding), "right in the first order, wrong in the second"));
  CHECK(contains(diagnose(w.finding), "stale"));
}

TEST_CASE("gradtest diagnosis: a wrong second order below a wrong first one says no more than that") {
  WrongTanh w({2, 3}, twice, 2);
  w.finding.first_order_right = false;
  CHECK(diagnose(w.finding) == "the first order is wrong already, and the second follows it");
}
