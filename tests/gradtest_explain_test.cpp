// How a wrong gradient is shown: on which numbers, and as which test to paste.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "wrong_tanh.h"

using namespace opgrad;
using namespace opgrad::gradtests;

namespace {

std::int64_t numbers_in(const Problem& p) {
  std::int64_t n = 0;
  for (const Input& in : p.inputs) n += in.shape.numel();
  return n;
}

}  // namespace

TEST_CASE("gradtest shrink: a factor is shown on one short number") {
  const WrongTanh w({4, 5}, twice);
  const Specimen s = shrunk(w.finding);
  CHECK(numbers_in(s.problem) == 1);
  CHECK(s.first.inputs[0].shape == Shape{1, 1});
  const double x = s.first.inputs[0].values[0];
  CHECK(x == std::round(x));
  CHECK(s.claimed[0][0] == doctest::Approx(2 * s.expected[0][0]).epsilon(1e-12));
  CHECK(s.expected[0][0] ==
        doctest::Approx(s.cotangent[0] * (1 - std::tanh(x) * std::tanh(x))).epsilon(1e-12));
}

TEST_CASE("gradtest shrink: no smaller than the mistake needs") {
  const WrongTanh w({4, 5}, [](const Tensor& y, const Tensor& dy, Wanted wanted) -> Grads {
    return {records::tanh_op.backward(y, flip(dy, {1}), wanted)};
  });
  const Specimen s = shrunk(w.finding);
  CHECK(s.first.inputs[0].shape == Shape{1, 2});
}

TEST_CASE("gradtest shrink: shapes that the function refuses are no candidates") {
  WrongTanh w({4, 5}, twice);
  w.first.f = [](std::span<const Tensor> x) {
    if (x[0].dim(0) < 3) throw UserError("three rows, please");
    return tanh(x[0]);
  };
  CHECK(shrunk(w.finding).first.inputs[0].shape == Shape{3, 1});
}

TEST_CASE("gradtest shrink: equal sizes change together") {
  WrongTanh w({3, 4}, twice);
  w.first = problem_of([](std::span<const Tensor> x) { return matmul(tanh(x[0]), x[1]); }, {{3, 4}, {4, 5}});
  const auto s = compare_anew(w.first, 1, DType::f64);
  REQUIRE(s);
  w.finding.problem = w.finding.first = &w.first;
  w.finding.claimed = s->claimed, w.finding.expected = s->expected, w.finding.bound = s->bound;
  const Specimen small = shrunk(w.finding);
  CHECK(numbers_in(small.problem) == 2);
}

TEST_CASE("gradtest shrink: numbers stay inside the domain, off zero and apart") {
  WrongTanh w({3}, [](const Tensor& y, const Tensor& dy, Wanted wanted) -> Grads {
    return {records::tanh_op.backward(y, flip(dy, {0}), wanted)};
  });
  w.first.inputs[0].low = 0.1, w.first.inputs[0].high = 0.6;
  w.first.inputs[0].values = {0.31, 0.17, 0.53};
  const Specimen s = shrunk(w.finding);
  const Numbers& x = s.first.inputs[0].values;
  REQUIRE(x.size() == 2);
  for (const double v : x) {
    CHECK(v > 0.1);
    CHECK(v < 0.6);
    CHECK(v * 256 == std::round(v * 256));
  }
  CHECK(x[0] != x[1]);
}

TEST_CASE("gradtest shrink: zero, where kinks lie, is no short number") {
  WrongTanh w({1}, twice);
  w.first.inputs[0].low = -0.3, w.first.inputs[0].high = 0.3;
  w.first.inputs[0].values = {0.04};
  const double x = shrunk(w.finding).first.inputs[0].values[0];
  CHECK(x != 0);
  CHECK(std::abs(x) < 0.3);
}

TEST_CASE("gradtest shrink: indices follow the size of their axis") {
  WrongTanh w({5, 2}, twice);
  w.first = problem_of([](std::span<const Tensor> x) { return gather(tanh(x[0]), x[1]); }, {{5, 2}});
  w.first.inputs.push_back({{3}, DType::i64, {4, 2, 4}, 0, 5});
  const auto s = compare_anew(w.first, 1, DType::f64);
  REQUIRE(s);
  w.finding.problem = w.finding.first = &w.first;
  w.finding.claimed = s->claimed, w.finding.expected = s->expected, w.finding.bound = s->bound;
  const Specimen small = shrunk(w.finding);
  CHECK(numbers_in(small.problem) == 2);
  CHECK(small.first.inputs[1].values == Numbers{0});
}

TEST_CASE("gradtest shrink: the caller's check decides") {
  WrongTanh w({6, 7}, twice);
  w.finding.still_fails = [&](const Problem& p) { return p.inputs[0].shape.dim(0) >= 4; };
  const Specimen s = shrunk(w.finding);
  CHECK(s.first.inputs[0].shape.dim(0) == 4);
  CHECK(s.first.inputs[0].shape.dim(1) == 1);
}

TEST_CASE("gradtest shrink: gives up after 300 trials, with the smallest found so far") {
  WrongTanh w({400}, twice);
  int asked = 0;
  std::int64_t size = 400;
  w.finding.still_fails = [&](const Problem& p) {
    ++asked;
    if (p.inputs[0].shape.dim(0) != size - 1) return false;
    --size;
    return true;
  };
  CHECK(shrunk(w.finding).first.inputs[0].shape.dim(0) == size);
  CHECK(asked == 300);
}

TEST_CASE("gradtest explain: the minimal case names inputs, place, both values and the estimated error") {
  const std::string text = WrongTanh({2, 3}, twice).explained().minimal;
  for (const char* part : {"input 0 = f64[1, 1] {", "dy = {1}", "gradient of input 0 at [0, 0]: claimed ",
                           ", true ", "estimated error "})
    CHECK_MESSAGE(contains(text, part), text);
}

TEST_CASE("gradtest explain: never throws, whatever the function does") {
  WrongTanh w({2}, twice);
  w.first.f = w.problem.f = [](std::span<const Tensor>) -> Tensor { throw InternalError("broken"); };
  const GradtestFailure f = w.explained();
  CHECK(contains(f.diagnosis, "broken"));
  CHECK(contains(f.minimal, "claimed"));
}

TEST_CASE("gradtest paste: a record's example is called as the record does, on literal inputs") {
  WrongTanh w({2, 3}, twice);
  w.finding.example = 3;
  const std::string text = w.explained().doctest;
  for (const char* part :
       {"TEST_CASE(\"tanh: gradient of x[0], f64\") {", "find_op(\"tanh\")", "op->examples()[3].call(x)",
        "variable(tensor(std::vector<double>{", "Shape{1, 1}))", "vjp(y, dy, std::vector<Tensor>{x[0]})[0]",
        "CHECK(gradient.values<double>()[0] == doctest::Approx("})
    CHECK_MESSAGE(contains(text, part), text);
}

TEST_CASE("gradtest paste: where the function is no record's, a marked line takes it") {
  WrongTanh w({2, 3}, twice);
  w.finding.example = -1;
  w.finding.name = "my \"net\"";
  const std::string text = w.explained().doctest;
  CHECK_FALSE(contains(text, "find_op"));
  CHECK(contains(text, "TEST_CASE(\"my \\\"net\\\": gradient"));
  CHECK(contains(text, "// <== in place of x[0]: your \"my \\\"net\\\"\" of x[0]"));
}

TEST_CASE("gradtest paste: inputs keep their types") {
  WrongTanh w({2, 2}, twice);
  w.first = problem_of([](std::span<const Tensor> x) { return where(x[1], gather(tanh(x[0]), x[2]), 0); },
                       {{2, 2}});
  w.first.inputs.push_back({{1, 2}, DType::bool_, {1, 1}, 0, 2});
  w.first.inputs.push_back({{1}, DType::i32, {1}, 0, 2});
  const auto s = compare_anew(w.first, 1, DType::f32);
  REQUIRE(s);
  w.finding.dtype = DType::f32;
  const std::string text = doctest_of(w.finding, *s);
  CHECK(contains(text, "variable(tensor(std::vector<float>{"));
  CHECK(contains(text, "cast(tensor(std::vector<std::uint8_t>{1, 1}, Shape{1, 2}), DType::bool_)"));
  CHECK(contains(text, "tensor(std::vector<std::int32_t>{1}, Shape{1})"));
  CHECK(contains(text, "gradient.values<float>()"));
}

TEST_CASE("gradtest paste: the second order is vjp of vjp") {
  const std::string text = WrongTanh({2, 3}, stale, 2).explained().doctest;
  for (const char* part :
       {"second-order gradient of x[0]", "const Tensor dy = variable(",
        "g = vjp(y, dy, std::vector<Tensor>{x[0]})", "vjp(first, weights, std::vector<Tensor>{x[0]})[0]"})
    CHECK_MESSAGE(contains(text, part), text);
}

TEST_CASE("gradtest paste: the tolerance lies between the bound and the difference") {
  const WrongTanh w({2, 3}, [](const Tensor& y, const Tensor& dy, Wanted wanted) -> Grads {
    return {records::tanh_op.backward(y, dy, wanted)[0] * 1.00001};
  });
  const Specimen s = shrunk(w.finding);
  const auto worst = worst_of(s.claimed, s.expected, s.bound);
  REQUIRE(worst);
  const std::string text = doctest_of(w.finding, s);
  const std::size_t at = text.find(".epsilon(");
  REQUIRE(at != text.npos);
  const double epsilon = std::stod(text.substr(at + 9));
  CHECK(worst->claimed != doctest::Approx(worst->expected).epsilon(epsilon));
  CHECK(worst->expected + worst->bound == doctest::Approx(worst->expected).epsilon(epsilon));
}
