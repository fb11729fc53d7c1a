// Calls that must be refused: those that the records state, and thousands that are made from their examples
// by putting wrong types and numbers in. Each is refused by a text that names what was wrong and where, or is
// sound and then runs.
#include "bad_calls.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "../core/loops.h"
#include "../graph/registry.h"
#include "../ops/define.h"
#include "errors.h"
#include "refusal.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

bool structural_op(const Op& op) {
  return &op == &structural::leaf || &op == &structural::number || &op == &structural::add_any ||
         &op == &structural::detach;
}
// The engine's own records have no public examples; names with a dot belong to other libraries.
bool must_be_complete(const Op& op) { return !structural_op(op) && !std::strchr(op.name, '.'); }

// ------------------------------------------------------------------------------------------------ many calls

// Tries calls with up to three changes, each call once, until `wanted` are refused; the operations take
// turns.
struct Campaign {
  int refused = 0, accepted = 0, ran = 0, faults = 0;
  std::set<const Op*> refusing;

  void run(const std::vector<const Op*>& ops, int wanted, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::unordered_set<std::string> tried;
    std::vector<std::vector<Attempt>> sound;
    for (const Op* op : ops) {
      sound.push_back(sound_calls(*op));
      for (const Attempt& a : sound.back()) tried.insert(text_of(a));
    }
    for (std::int64_t turn = 0; refused < wanted && faults < 20 && turn < 100LL * wanted; ++turn) {
      auto& calls = sound[static_cast<std::size_t>(turn) % sound.size()];
      if (calls.empty()) continue;
      Attempt& good = calls[random() % calls.size()];
      Attempt bad = good;
      const std::size_t count = 1 + random() % 3;
      for (std::size_t i = 0; i < count; ++i)
        if (const std::optional<Change> c = draw_change(bad, random, count == 1)) apply(bad, *c);
      if (tried.insert(text_of(bad)).second) judge(bad, good);
    }
  }

 private:
  void judge(Attempt& bad, Attempt& good) {
    const Outcome o = attempt(bad);
    std::string fault;
    if (o.end == End::faulty) fault = o.text;
    if (o.end == End::accepted) {
      ++accepted;
      fault = fault_of_accepted(bad, o.result, ran);
    }
    if (o.end == End::refused) {
      ++refused;
      refusing.insert(bad.op);
      if (!speaks_of(o.said(), bad, good)) fault = "the text does not speak of what was put in: " + o.text;
    }
    if (fault.empty()) return;
    ++faults;
    FAIL_CHECK(text_of(bad).substr(0, 400) << "\n" << fault);
  }
};

// Operands that no value alone puts at fault, and why.
struct Harmless {
  const char *op, *operand, *reason;
};
constexpr Harmless harmless[] = {
    {"detach", "input 0", "every tensor can lose its past"},
    {"cast", "input 0", "every element type converts to every other"},
    {"cast", "dtype", "as above"},
    {"one_hot", "dtype", "0 and 1 exist in every element type"},
    {"pad", "value",
     "every number fits a float; for integers a bad call of the record has one that does not"},
    {"custom_gradient", "input 1", "of whatever type: the rule says whether it has a gradient"},
    {"custom_gradient", "input 2", "as above"},
    {"custom_gradient", "rows_apart", "both are promises that only the rule can keep"},
    {"take_along", "labels", "chooses the words of an error"},
    {"add_along", "labels", "chooses the words of an error"},
    {"random_uniform", "shape", "every shape can be drawn"},
    {"random_normal", "shape", "every shape can be drawn"},
};

// Operands that some change of them alone puts at fault, as far as the refusal speaks of it, and the integers
// that were refused.
struct Walk {
  std::set<std::string> operands, at_fault;
  std::set<std::int64_t> refused_integers;
  int refused = 0;
};

Walk walk(const Op& op) {
  Walk w;
  for (Attempt a : sound_calls(op)) {
    if (a.call) continue;
    for (std::size_t i = 0; i + 1 < operand_count(a); ++i) {
      const std::string name = operand_name(a, i);
      w.operands.insert(name);
      for (const Change& c : changes(a, i)) {
        const auto* type = std::get_if<std::optional<Type>>(&c.to);
        if (type && !*type) continue;
        Attempt bad = a;
        apply(bad, c);
        const Outcome o = attempt(bad);
        if (o.end == End::faulty) FAIL_CHECK(text_of(bad) << "\n" << o.text);
        if (o.end != End::refused) continue;
        ++w.refused;
        if (speaks_of(o.said(), bad, a)) w.at_fault.insert(name);
        if (const auto* integer = std::get_if<std::int64_t>(&c.to)) w.refused_integers.insert(*integer);
      }
    }
  }
  return w;
}

// What a record lacks of bad calls; empty if nothing.
std::string incomplete(const Op& op) {
  if (!op.examples || op.examples().empty()) return "it has no examples";
  if (!op.bad_calls || op.bad_calls().empty()) return "it has no bad calls";
  const Walk w = walk(op);
  const BadCalls bad = op.bad_calls();
  if (bad.size() < w.at_fault.size())
    return std::to_string(bad.size()) + " bad calls cannot put " + std::to_string(w.at_fault.size()) +
           " operands at fault";
  std::string texts;
  for (const BadCall& b : bad) {
    const std::string expect = b.expect;
    bool value = has_word(expect, "empty") || has_word(expect, "no") || contains(expect, "[]") ||
                 std::ranges::any_of(expect, [](char c) { return c >= '0' && c <= '9'; });
    for (int i = 0; i < dtype_count; ++i) value = value || has_word(expect, name_of(static_cast<DType>(i)));
    if (!value) return "the bad call \"" + expect + "\" expects no value in its message";
    texts += expect + "\n";
  }
  for (const std::int64_t n :
       {std::int64_t{-1}, std::int64_t{0}, std::int64_t{1} << 31, std::int64_t{1} << 62})
    if (w.refused_integers.contains(n) && !has_word(texts, std::to_string(n)))
      return "no bad call has the number " + std::to_string(n);
  return {};
}

// ------------------------------------------------------------------------------------------------ wrong
// records: what the checks above must see

Result accepts_all(const Call& call) { return {call.dtype(0), call.shape_id(0)}; }

constexpr Op wrong(const char* name, ShapeRule rule) {
  return {.name = name,
          .arity = 1,
          .about = "a record with a wrong shape rule",
          .shape = rule,
          .forward = map1<[](auto x) { return x; }>,
          .backward = no_gradient};
}

// A record's faults in a campaign, without the failures that the campaign would report.
std::string first_fault(const Op& op, const std::optional<Type>& in) {
  Attempt a{.op = &op, .in = {in}};
  const Outcome o = attempt(a);
  int ran = 0;
  if (o.end == End::faulty) return o.text;
  return o.end == End::accepted ? fault_of_accepted(a, o.result, ran) : "refused: " + o.text;
}

}  // namespace

TEST_CASE("bad calls: 10,000 made from the records' examples are refused, and the sound ones run") {
  Campaign c;
  c.run(all_ops(), 10'000, 1);
  MESSAGE(c.refused << " refused, " << c.accepted << " accepted, " << c.ran << " of those run");
  CHECK(c.refused == 10'000);
  CHECK(c.refusing.size() == all_ops().size());
}

TEST_CASE("bad calls: 200,000 made from the records' examples" * doctest::skip()) {
  Campaign c;
  c.run(all_ops(), 200'000, 2);
  MESSAGE(c.refused << " refused, " << c.accepted << " accepted, " << c.ran << " of those run");
  CHECK(c.refused == 200'000);
}

TEST_CASE("bad calls: every operand of every record is put at fault by itself, by a text that speaks of it") {
  std::set<const Harmless*> needed;
  int refused = 0;
  for (const Op* op : all_ops()) {
    const Walk w = walk(*op);
    refused += w.refused;
    for (const std::string& operand : w.operands) {
      const auto* const known = std::ranges::find_if(
          harmless, [&](const Harmless& h) { return h.op == std::string(op->name) && h.operand == operand; });
      const bool is_known = known != std::end(harmless);
      const bool at_fault = w.at_fault.contains(operand);
      CHECK_MESSAGE(at_fault != is_known, std::string(op->name) << ", " << operand);
      if (is_known) needed.insert(known);
    }
  }
  CHECK(needed.size() == std::size(harmless));
  CHECK(refused > 1000);
}

TEST_CASE("bad calls: those that records state put each operand at fault, with -1, 0, 2^31 and 2^62") {
  for (const Op* op : all_ops()) {
    if (!must_be_complete(*op)) continue;
    const std::string lacks = incomplete(*op);
    CHECK_MESSAGE(lacks.empty(), std::string(op->name) << ": " << lacks);
  }
}

TEST_CASE("bad calls: the checks see a record that gives another error, no line, memory, or a wrong type") {
  const Type matrix{DType::i64, {2, 3}};
  static constexpr Op internal =
      wrong("wrong.kind", [](const Call&) -> Result { throw InternalError("ours"); });
  CHECK(contains(first_fault(internal, matrix), "refused by another error: ours"));
  static constexpr Op greedy = wrong("wrong.memory", [](const Call& call) -> Result {
    allocate(64);
    call.fail("no");
  });
  CHECK(contains(first_fault(greedy, matrix), "memory, registry or inputs changed"));
  static constexpr Op taking = wrong("wrong.silent_memory", [](const Call& call) {
    allocate(64);
    return accepts_all(call);
  });
  CHECK(contains(first_fault(taking, matrix), "building it took memory"));
  static constexpr Op nameless = wrong("wrong.place", [](const Call&) -> Result {
    throw UserError("wrong.place: it is not so\n  at another_file.cpp:1");
  });
  CHECK(contains(first_fault(nameless, matrix), "does not end with the user's line"));
  static constexpr Op unsure = wrong("wrong.result", [](const Call& call) {
    static int times = 0;
    return Result(call.dtype(0), Shape{++times});
  });
  CHECK(contains(first_fault(unsure, matrix), "not its shape rule's"));
  static constexpr Op unable = wrong("wrong.kernel", accepts_all);
  CHECK(contains(first_fault(unable, matrix), "its run failed"));
  CHECK(first_fault(unable, Type{DType::f32, {2, 3}}).empty());
}

TEST_CASE("bad calls: a text that speaks of something else is seen") {
  Attempt good, bad;
  for (Attempt& a : sound_calls(*find_op("conv2d")))
    if (!a.call) good = a;
  bad = good;
  bad.attributes = good.attributes;
  *bad.refs()[0].integer = std::int64_t{1} << 31;
  CHECK(speaks_of("conv2d: strides are [1, 2147483648]", bad, good));
  CHECK_FALSE(speaks_of("conv2d: strides are [1, 21474836480]", bad, good));
  CHECK_FALSE(speaks_of("conv2d: that is wrong", bad, good));
  const Type before{DType::f32, {2, 3}}, shape{DType::f32, {2, 1}}, dtype{DType::i64, {2, 3}};
  CHECK(speaks_of("add: the shape [2, 1]", shape, before, false));
  CHECK(speaks_of("add: of 1 and 3", shape, before, false));
  CHECK_FALSE(speaks_of("add: the shape [2, 3]", shape, before, false));
  CHECK_FALSE(speaks_of("add: f32 is not enough", shape, before, false));
  CHECK(speaks_of("add: i64 is not enough", dtype, before, false));
  CHECK_FALSE(speaks_of("add: f32 is not enough", dtype, before, false));
}

TEST_CASE("bad calls: a record without examples or bad calls, or with too few, is seen") {
  Op op = *find_op("one_hot");
  CHECK(incomplete(op).empty());
  op.examples = nullptr;
  CHECK(incomplete(op) == "it has no examples");
  op = *find_op("one_hot");
  op.bad_calls = nullptr;
  CHECK(incomplete(op) == "it has no bad calls");
  op.bad_calls = [] { return BadCalls{{"one_hot: the depth is 0", nullptr}}; };
  CHECK(contains(incomplete(op), "1 bad calls cannot put 2 operands at fault"));
  op.bad_calls = [] { return BadCalls{{"the depth is 0", nullptr}, {"the indices", nullptr}}; };
  CHECK(contains(incomplete(op), "\"the indices\" expects no value"));
  op.bad_calls = [] {
    return BadCalls{{"the depth is 0", nullptr}, {"f32 and 4611686018427387904", nullptr}};
  };
  CHECK(incomplete(op) == "no bad call has the number -1");
}

TEST_CASE("bad calls: attributes that are missing, or that the record would lose, are refused") {
  struct Number {
    std::int64_t n = 3;
  };
  const Tensor x = zeros({2}, DType::i64);
  CHECK(contains(message([&] { make(*find_op("one_hot"), {x.node()}, {}); }),
                 "one_hot: its record has .attributes and the node was made without"));
  CHECK(contains(message([&] { make(*find_op("negate"), {x.node()}, {}, Number{}); }),
                 "negate: the node was made with attributes, which its record would lose"));
  CHECK(contains(message([&] {
                   make(*find_op("negate"), {x.node(), x.node()}, {});
                 }),
                 "negate: takes 1 inputs and was given 2"));
  CHECK(contains(message([&] { make(*find_op("negate"), {nullptr}, {}); }),
                 "negate: input 0 is an empty Tensor"));
}

TEST_CASE("bad calls: extreme but sound ones run: steps never taken, and many images of nothing") {
  const Tensor image = ones({1, 3, 3, 1}), kernel = ones({3, 3, 1, 1});
  CHECK(conv2d(image, kernel, {.strides = {INT64_MAX, INT64_MAX}}).item() == 9);
  CHECK(conv2d(image, ones({1, 1, 1, 1}), {.strides = {3, 3}, .dilations = {INT64_MAX, INT64_MAX}}).item() ==
        1);
  CHECK(max_pool2d(zeros({std::int64_t{1} << 40, 4, 4, 0}), {2, 2}, {2, 2}).to_vector<float>().empty());
}
