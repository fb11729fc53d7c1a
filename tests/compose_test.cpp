// Loops of machine code made of several operations: the bits are those of the operations one by one.
#include "../core/compose.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "../core/buffer.h"
#include "../graph/passes.h"
#include "../graph/plan.h"
#include "../graph/registry.h"
#include "../graph/run.h"
#include "../ops/ops.h"
#include "loops.h"

using namespace opgrad;
using kernel::Recipe;
using Line = LoopText::Line;

namespace {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();
template <class T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();

// Every pair, and every triple of neighbours, of numbers where operations have something to decide.
template <class T>
std::vector<std::vector<T>> telling_numbers() {
  const std::vector<T> few{0,      T(-0.0), 1,        -1,      T(0.5), T(-1.5),
                           inf<T>, -inf<T>, nan<T>,   -nan<T>, T(3),   std::numeric_limits<T>::denorm_min(),
                           T(2.7), T(1e30), T(-1e-30)};
  std::vector<std::vector<T>> in(3);
  for (std::size_t a = 0; a < few.size(); ++a)
    for (std::size_t b = 0; b < few.size(); ++b) {
      in[0].push_back(few[a]);
      in[1].push_back(few[b]);
      in[2].push_back(few[(a + b) % few.size()]);
    }
  return in;
}

template <class T>
bool same(T a, T b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof a) == 0;
}

// The results of a compiled loop on as many whole packs as the inputs fill; nothing if it cannot be compiled.
template <class T>
std::vector<T> run(const LoopText& text, Isa isa, std::vector<std::vector<T>> in) {
  const std::size_t lanes = static_cast<std::size_t>(vector_bytes(isa)) / sizeof(T);
  const std::size_t n = (in[0].size() + lanes - 1) / lanes * lanes;
  std::vector<T> out(n, T(7));
  std::vector<std::byte*> data;
  for (auto& x : in) {
    x.resize(n, T(1));
    data.push_back(reinterpret_cast<std::byte*>(x.data()));
  }
  data.push_back(reinterpret_cast<std::byte*>(out.data()));
  std::vector<std::uint8_t> code;
  const auto at = compile(text, static_cast<std::uint32_t>(data.size()), isa, code);
  if (!at) return {};
  const Executable executable(code);
  const bool runnable = executable.at(*at) != nullptr;
  REQUIRE(runnable);
  executable.at (*at)(data.data(), static_cast<std::int64_t>(n * sizeof(T)));
  return out;
}

// What a record's kernel gives for the first n numbers.
template <class T>
std::vector<T> by_kernel(const Op& op, std::vector<std::vector<T>> in) {
  const auto n = static_cast<std::int64_t>(in[0].size());
  std::vector<T> out(in[0].size());
  std::vector<View> views;
  for (int k = 0; k < op.arity; ++k)
    views.push_back(dense_view(in[static_cast<std::size_t>(k)].data(), {dtype_of<T>, Shape{n}}));
  op.forward.run({.in = views, .out = dense_view(out.data(), {dtype_of<T>, Shape{n}})});
  return out;
}

std::vector<Isa> compiled_for() {
  std::vector<Isa> all;
  for (const Isa i : {Isa::avx2, Isa::avx512})
    if (i <= best_isa()) all.push_back(i);
  return all;
}

template <class T>
void compare(const Op& op, const Recipe& recipe) {
  LoopText text(dtype_of<T>);
  std::vector<Line> lines;
  for (int k = 0; k < op.arity; ++k) lines.push_back(text.read(static_cast<std::uint32_t>(k), false));
  text.write(3, text.apply(recipe, lines));
  const auto in = telling_numbers<T>();
  const std::vector<T> want = by_kernel<T>(op, in);
  for (const Isa isa : compiled_for()) {
    const std::vector<T> got = run<T>(text, isa, in);
    REQUIRE(got.size() >= want.size());
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK_MESSAGE(same(got[i], want[i]), op.name, " ", std::string(name_of(isa)), " of ", in[0][i], ", ",
                    in[1][i], " is ", got[i], ", the kernel says ", want[i]);
  }
}

}  // namespace

TEST_CASE("compose: every operation with a recipe has its kernel's bits") {
  std::string names;
  for (const Op* op : all_ops()) {
    const detail::MapTable* const map = op->forward.map;
    if (!map || !map->recipe) continue;
    const Recipe recipe = map->recipe();
    if (!recipe.known) continue;
    names += std::string(op->name) + " ";
    compare<float>(*op, recipe);
    compare<double>(*op, recipe);
  }
  for (const char* name : {"add", "subtract", "multiply", "divide", "negate", "square", "sqrt", "maximum",
                           "minimum", "relu", "abs"})
    CHECK_MESSAGE(names.find(name) != std::string::npos, name);
  MESSAGE(names);
}

TEST_CASE("compose: a recipe says when it does not know") {
  CHECK(kernel::recipe_of<[](auto x) { return x * 2 + 1; }, 1>().known);
  CHECK(kernel::recipe_of<[](auto) { return 3.0; }, 1>().known);
  CHECK_FALSE(kernel::recipe_of<[](auto x) { return 1 + exp(x); }, 1>().known);
  CHECK_FALSE(kernel::recipe_of<[](auto x, auto y) { return x < y; }, 2>().known);
  CHECK_FALSE(kernel::recipe_of<[](auto x) { return select(!(x < 0), x, 0); }, 1>().known);
  // Twenty-five products.
  constexpr auto power = [](auto x) {
    auto y = x;
    for (int i = 0; i < 25; ++i) y = y * x;
    return y;
  };
  CHECK_FALSE(kernel::recipe_of<power, 1>().known);
}

TEST_CASE("compose: numbers, choices and lambdas of several lines") {
  constexpr auto f = [](auto x, auto y, auto z) {
    return select(x < y, min(x, 2.5) * z, -abs(y) / 3) - max(0.25, sqrt(z) + x);
  };
  static constexpr Kernel by_map = map3<f>;
  const auto one = [&]<class T>(T) {
    LoopText text(dtype_of<T>);
    const std::vector<Line> lines{text.read(0, false), text.read(1, false), text.read(2, false)};
    text.write(3, text.apply(kernel::recipe_of<f, 3>(), lines));
    auto in = telling_numbers<T>();
    std::vector<T> want(in[0].size());
    const auto n = static_cast<std::int64_t>(want.size());
    std::vector<View> views;
    for (auto& x : in) views.push_back(dense_view(x.data(), {dtype_of<T>, Shape{n}}));
    by_map.run({.in = views, .out = dense_view(want.data(), {dtype_of<T>, Shape{n}})});
    for (const Isa isa : compiled_for()) {
      const std::vector<T> got = run<T>(text, isa, in);
      REQUIRE(got.size() >= want.size());
      for (std::size_t i = 0; i < want.size(); ++i) CHECK(same(got[i], want[i]));
    }
  };
  one(1.0F);
  one(1.0);
}

TEST_CASE("compose: what does not fit registers is refused, what just fits is right") {
  constexpr auto sum = [](auto x, auto y) { return x + y; };
  constexpr auto next = [](auto x) { return x + 1; };
  for (const Isa isa : compiled_for()) {
    const int registers = isa == Isa::avx512 ? 31 : 15;
    for (int held = 2; held <= 40; ++held) {
      // So many numbers that all wait for the last one.
      LoopText text(DType::f32);
      const Line x = text.read(0, false);
      std::vector<Line> lines;
      Line last = x;
      for (int i = 0; i < held; ++i) {
        last = text.apply(kernel::recipe_of<next, 1>(), std::vector{last});
        lines.push_back(last);
      }
      Line total = x;
      for (std::size_t i = lines.size(); i-- > 0;)
        total = text.apply(kernel::recipe_of<sum, 2>(), std::vector{total, lines[i]});
      text.write(1, total);
      const std::vector<float> got = run<float>(text, isa, {{1, 3, -2}});
      CHECK_MESSAGE(got.empty() == (held + 2 > registers), held, " values and ", std::string(name_of(isa)));
      if (got.empty()) continue;
      const auto h = static_cast<float>(held);
      CHECK(got[0] == (h + 1) * 1 + h * (h + 1) / 2);
      CHECK(got[1] == (h + 1) * 3 + h * (h + 1) / 2);
      CHECK(got[2] == (h + 1) * -2 + h * (h + 1) / 2);
    }
    LoopText wide(DType::f32);
    Line total = wide.read(0, false);
    for (std::uint32_t s = 1; s < 12; ++s)
      total = wide.apply(kernel::recipe_of<sum, 2>(), std::vector{total, wide.read(s, s % 2 == 0)});
    wide.write(0, total);
    std::vector<std::uint8_t> code;
    CHECK_FALSE(compile(wide, 13, isa, code));
    CHECK(code.empty());
    // Twelve streams use every register that a pointer can have; the caller's keep their values.
    const auto at = compile(wide, 12, isa, code);
    REQUIRE(at);
    alignas(64) float memory[12][16];
    std::byte* data[12];
    for (int s = 0; s < 12; ++s) {
      for (float& number : memory[s]) number = static_cast<float>(s + 1);
      data[s] = reinterpret_cast<std::byte*>(memory[s]);
    }
    const Executable executable(code);
    executable.at (*at)(data, vector_bytes(isa));
    CHECK(memory[0][0] == 78);
    CHECK(memory[0][7] == 78);
  }
  std::vector<std::uint8_t> code;
  CHECK_FALSE(compile(LoopText(DType::f32), 0, Isa::baseline, code));
  const bool runnable = Executable().at(0) != nullptr;
  CHECK_FALSE(runnable);
}

TEST_CASE("compose: a group on lengths around packs and tiles has the bits of its members one by one") {
  struct Restore {
    PassSet passes = current_passes();
    ~Restore() {
      set_passes(passes);
      set_thorough(false);
    }
  } restore;
  set_thorough(true);
  for (const std::uint64_t n : {1U, 7U, 8U, 15U, 16U, 17U, 31U, 100U, 1023U, 1024U, 1025U, 3000U, 40000U}) {
    const Tensor x = random_uniform(random_key({3, n}), {static_cast<std::int64_t>(n)}, -2, 2),
                 y = random_normal(random_key({4, n}), x.shape());
    eval({x, y});
    std::vector<std::vector<float>> answers;
    for (const bool on : {false, true}) {
      set_passes(on ? PassSet::all() : PassSet::all().without("compile"));
      const Tensor a = x * 0.5 + y, b = relu(a - 0.25) / (abs(y) + 1), c = exp(a) + b * b,
                   d = where(a > b, maximum(c, x), -y) * 3;
      eval({a, c, d});
      if (on && best_isa() > Isa::baseline && isa() > Isa::baseline) CHECK(!last_plan()->loops.empty());
      if (!on) CHECK(last_plan()->loops.empty());
      for (const Tensor& t : {a, c, d}) answers.push_back(t.to_vector<float>());
    }
    for (std::size_t i = 0; i < 3; ++i) CHECK(test::same_bits(answers[i], answers[i + 3]));
  }
}

TEST_CASE("compose: a plan that is met again has loops for its small groups, too") {
  const PassSet before = current_passes();
  set_passes(PassSet::all());
  const Tensor x = tensor({1.0, -2.0, 3.0});
  std::vector<std::vector<double>> values;
  std::vector<std::size_t> loops;
  for (int i = 0; i < 3; ++i) {
    const Tensor y = x * 3.25 + x / 7;
    values.push_back(y.to_vector<double>());
    loops.push_back(last_plan()->loops.size());
  }
  set_passes(before);
  CHECK(loops[0] == 0);
  if (isa() > Isa::baseline) CHECK(loops[1] == 1);
  CHECK(loops[2] == loops[1]);
  CHECK(values[1] == values[0]);
  CHECK(values[2] == values[0]);
}

TEST_CASE("compose: a plan's loops are left alone where the instructions are others than it was made for") {
  const test::Restore restore;
  const PassSet before = current_passes();
  set_passes(PassSet::all());
  const Tensor x = random_uniform(random_key({5}), {5000}, -2, 2);
  eval(x);
  const auto f = [&] { return (relu(x * 0.5 - 0.25) / 3 + x).to_vector<float>(); };
  set_isa(best_isa());
  const std::vector<float> want = f();
  const std::shared_ptr<const Plan> plan = last_plan();
  for (int i = 0; i < isa_count; ++i) {
    if (static_cast<Isa>(i) > best_isa()) continue;
    set_isa(static_cast<Isa>(i));
    CHECK(test::same_bits(f(), want));
    CHECK(last_plan()->key == plan->key);
  }
  set_passes(before);
}

TEST_CASE("compose: more numbers than registers are read where they are needed") {
  constexpr auto sum = [](auto x, auto y) { return x + y; };
  for (const Isa isa : compiled_for()) {
    // Forty numbers that are the same for all elements, one of them stored as it is.
    LoopText text(DType::f64);
    Line total = text.read(0, false);
    const std::vector<Recipe> numbers{kernel::recipe_of<[](auto) { return 0.5; }, 1>()};
    for (int i = 0; i < 40; ++i)
      total = text.apply(kernel::recipe_of<sum, 2>(),
                         std::vector{total, text.apply(numbers[0], std::vector{total})});
    text.write(1, total);
    const std::vector<double> got = run<double>(text, isa, {{1, -20, 7}});
    REQUIRE(got.size() >= 3);
    CHECK(got[0] == 21);
    CHECK(got[1] == 0);
    CHECK(got[2] == 27);
  }
}
