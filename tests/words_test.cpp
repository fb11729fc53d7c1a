// The words of ops/define.h for those who bring operations: shape rules, makers, alignment, examples.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "../ops/define.h"
#include "numeric_gradient.h"

using namespace opgrad;
using test::check_two_orders;
using test::error_of;

extern const Op swish_op;  // this and the functions: tests/examples
Tensor swish(const Operand& x, const Operand& beta);
Tensor logsumexp(const Operand& x, const Axes& axes = {}, bool keepdims = false);

namespace {

// The lesser of two operands.
extern const Op clamp_above_op;
Tensor clamp_above(const Operand& x, const Operand& limit) { return binary(clamp_above_op, x, limit); }
constinit const Op clamp_above_op{.name = "words.clamp_above",
                                  .arity = 2,
                                  .traits = Traits::pointwise,
                                  .about = "the lesser of x and limit",
                                  .shape = broadcast,
                                  .forward = map2<[](auto x, auto limit) { return min(x, limit); }>,
                                  .backward = no_gradient};

// a + w (b - a), three operands
extern const Op mix_op;
Tensor mix(const Operand& a, const Operand& b, const Operand& w) { return ternary(mix_op, a, b, w); }
constinit const Op mix_op{.name = "words.mix",
                          .arity = 3,
                          .traits = Traits::pointwise,
                          .about = "a + w (b - a)",
                          .shape = broadcast,
                          .forward = map3<[](auto a, auto b, auto w) { return a + w * (b - a); }>,
                          .backward = [](const Tensor& y, const Tensor& dy, Wanted) -> Grads {
                            const Tensor a = y.input(0), b = y.input(1), w = y.input(2);
                            return {dy * (1 - w), dy * w, dy * (b - a)};
                          },
                          .examples = examples_of<mix>};

// The sum of squares of any number of operands, by a kernel of one's own.
extern const Op energy_op;
void energy_kernel(const KernelArgs& args) {
  dispatch(args.out.dtype(), [&]<class T>() {
    for (std::int64_t i = 0; i < args.out.numel(); ++i) {
      T total{};
      for (const View& v : args.in) total = static_cast<T>(total + v.as<T>()[i] * v.as<T>()[i]);
      args.out.as<T>()[i] = total;
    }
  });
}
constinit const Op energy_op{.name = "words.energy",
                             .arity = -1,
                             .traits = Traits::dense_inputs,
                             .about = "the sum of the squares of the inputs",
                             .shape = broadcast_number,
                             .forward = energy_kernel,
                             .backward = [](const Tensor& y, const Tensor& dy, Wanted) -> Grads {
                               Grads grads;
                               for (int i = 0; i < y.node()->arity; ++i) grads.push_back(2 * dy * y.input(i));
                               return grads;
                             }};
Tensor energy(std::initializer_list<Operand> x) { return nary(energy_op, {x.begin(), x.size()}); }
Tensor energy_of(const Operand& a, const Operand& b) { return energy({a, b}); }

// The product over axes, integers too; its gradient is claimed away from 0 only.
struct Product {
  static constexpr double identity = 1, empty = 1;
  template <class X>
  [[gnu::always_inline]] X operator()(const X& a, const X& b) const {
    return a * b;
  }
};
extern const Op product_op;
Tensor product(const Operand& x, const Axes& axes = {}, bool keepdims = false) {
  return reduction(product_op, x, axes, keepdims);
}
constinit const Op product_op{
    .name = "words.product",
    .arity = 1,
    .traits = Traits::reduction,
    .about = "the product over axes, kept with size 1",
    .shape = reduce_number,
    .forward = fold<Product>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) -> Grads { return {dy * y / y.input(0)}; },
    .examples = examples_of<product, 1, 3>,
    .attributes = &attribute_info<ReduceAttributes>};

struct Refusal {
  std::string text;
  int line;
};

// What f is told, which must not fill more than one line of this file.
template <class F>
Refusal refused(F&& f, int line = __builtin_LINE()) {
  return {error_of(f), line};
}

// The message holds all of these, and the line.
void says(const Refusal& r, std::vector<std::string> parts) {
  parts.push_back("at words_test.cpp:" + std::to_string(r.line));
  for (const std::string& part : parts) CHECK_MESSAGE(r.text.find(part) != r.text.npos, r.text << part);
}

}  // namespace

TEST_CASE("broadcast, two operands: values with equal shapes, broadcasting shapes and numbers") {
  const Tensor x = tensor<float>({{-2, 3}, {4, -5}});
  CHECK(clamp_above(x, x).to_vector<float>() == std::vector<float>{-2, 3, 4, -5});
  CHECK(clamp_above(x, tensor<float>({-3, 1})).to_vector<float>() == std::vector<float>{-3, 1, -3, -5});
  CHECK(clamp_above(x, tensor<float>({{1}, {2}})).to_vector<float>() == std::vector<float>{-2, 1, 2, -5});
  CHECK(clamp_above(x, 0.25).to_vector<float>() == std::vector<float>{-2, 0.25F, 0.25F, -5});
  CHECK(clamp_above(2, tensor<double>({0.5, 3})).to_vector<double>() == std::vector<double>{0.5, 2});
  CHECK(clamp_above(-2, 3).to_vector<float>() == std::vector<float>{-2});
  CHECK(clamp_above(zeros({3, 1}), zeros({2, 1, 4})).shape() == Shape{2, 3, 4});
}

TEST_CASE("broadcast, two operands: gradients of both orders; what was repeated is summed") {
  const test::Function f = [](const std::vector<Tensor>& x) { return swish(x[0], x[1]); };
  check_two_orders(f, {{2, 3}, {2, 3}});
  check_two_orders(f, {{4, 3}, {3}});
  check_two_orders(f, {{3, 1}, {2, 1, 4}});
}

TEST_CASE("broadcast, three operands: values and gradients of both orders") {
  CHECK(mix(tensor<double>({1, 2}), tensor<double>({{5}, {6}}), 0.5).to_vector<double>() ==
        std::vector<double>{3, 3.5, 3.5, 4});
  CHECK(mix(1, 3, tensor<double>({0.5, 2})).to_vector<double>() == std::vector<double>{2, 5});
  const test::Function f = [](const std::vector<Tensor>& x) { return mix(x[0], x[1], x[2]); };
  check_two_orders(f, {{2, 3}, {2, 3}, {2, 3}});
  check_two_orders(f, {{3, 1}, {2, 1, 4}, {4}});
}

TEST_CASE("broadcast_number, any number of operands: integers mix with numbers, floats have gradients") {
  const Tensor i = tensor<std::int64_t>({1, 2}), j = tensor<std::int64_t>({{3}, {4}});
  CHECK(energy({i, j, 2}).to_vector<std::int64_t>() == std::vector<std::int64_t>{14, 17, 21, 24});
  check_two_orders(
      [](const std::vector<Tensor>& x) {
        return energy({x[0], x[1], x[2], x[1]});
      },
      {{2, 1}, {3}, {}});
}

TEST_CASE("broadcast: what does not fit is refused with operation, types, rule and the user's line") {
  const Tensor x = zeros({2, 3});
  says(refused([&] { swish(x, zeros({4})); }), {"mine.swish: the shapes [2, 3] and [4] do not broadcast"});
  says(refused([&] { swish(x, zeros({3}, DType::f64)); }),
       {"mine.swish: f32[2, 3] and f64[3] have element types that do not mix", "cast(x, DType::f32)"});
  says(refused([&] { swish(zeros({2}, DType::i64), 1); }),
       {"mine.swish: needs f32 or f64 and was given i64[2]; convert with cast(x, DType::f32)"});
  says(refused([&] { swish(x, Tensor()); }), {"mine.swish: an operand is an empty Tensor"});
  says(refused([&] { mix(x, zeros({3}), zeros({2})); }),
       {"words.mix: the shapes [2, 3] and [2] do not broadcast"});
  says(refused([&] { mix(x, 1, zeros({3}, DType::f64)); }),
       {"words.mix: f32[2, 3] and f64[3] have element types that do not mix"});
  says(refused([&] { energy_of(0.5, zeros({2}, DType::i64)); }),
       {"words.energy: the number 0.5 does not fit the elements of i64[2]"});
  says(refused([&] { energy_of(zeros({2}, DType::bool_), 1); }),
       {"words.energy: needs numbers and was given bool[2]"});
}

TEST_CASE("broadcast: a node made without a maker is refused, and the message names the makers") {
  const Tensor x = zeros({2, 3}), beta = zeros({3});
  const auto bare = [](const Tensor& a, const Tensor& b, int line = __builtin_LINE()) {
    return make(swish_op, {a.node(), b.node()}, {__builtin_FILE(), line});
  };
  says(refused([&] { bare(x, beta); }),
       {"mine.swish: inputs 0 and 1 arrive as f32[2, 3] and f32[3]", "make the node with binary"});
  says(refused([&] { energy({x}); }),
       {"words.energy: broadcast is the rule of two or more inputs, and there is 1"});
}

TEST_CASE("reduce: values over all axes, some, kept, negative; a number; nothing to fold") {
  const Tensor x = tensor<double>({{1, 2, 3}, {4, 5, 6}});
  CHECK(product(x).item() == 720);
  CHECK(product(x, {0}).to_vector<double>() == std::vector<double>{4, 10, 18});
  CHECK(product(x, {-1}).to_vector<double>() == std::vector<double>{6, 120});
  CHECK(product(x, {-1}, true).shape() == Shape{2, 1});
  CHECK(product(x, {0, 1}, true).shape() == Shape{1, 1});
  CHECK(product(tensor<std::int32_t>({2, 3, 7})).item() == 42);
  CHECK(product(7).item() == 7);
  CHECK(product(zeros({2, 0}), {1}).to_vector<float>() == std::vector<float>{1, 1});
  CHECK(logsumexp(tensor<double>({{1000, 1000}, {-3, -3}}), {1}).to_vector<double>() ==
        std::vector<double>{1000 + std::log(2.0), -3 + std::log(2.0)});
}

TEST_CASE("reduce: gradients of both orders, whatever axes are folded") {
  for (const Axes& axes : {Axes{}, Axes{0, -1}, Axes{1}})
    check_two_orders([&](const std::vector<Tensor>& x) { return logsumexp(x[0], axes); }, {{2, 3, 4}});
  check_two_orders([](const std::vector<Tensor>& x) { return product(x[0] + 3, {1}, true); }, {{2, 3}});
}

TEST_CASE("reduce: axes and types that do not fit are refused with the user's line") {
  const Tensor x = zeros({2, 3});
  says(refused([&] { product(x, {2}); }),
       {"words.product: axis 2 is out of range; with rank 2 it must lie between -2 and 1"});
  says(refused([&] { product(x, {1, -1}); }), {"words.product: axis -1 is named twice in [1, -1]"});
  says(refused([&] { logsumexp(zeros({2}, DType::i32)); }),
       {"mine.logsumexp: needs f32 or f64 and was given i32[2]"});
  says(refused([&] { product(zeros({2}, DType::bool_)); }),
       {"words.product: needs numbers and was given bool[2]"});
}

TEST_CASE("reduce: a record that forgets its attributes is told so, by the rule and by the maker") {
  static Op forgetful = product_op;
  forgetful.attributes = nullptr;
  const std::string words =
      "words.product: the record of a reduction must say .attributes = &attribute_info<ReduceAttributes>";
  const auto bare = [](const Tensor& x, int line = __builtin_LINE()) {
    return make(forgetful, {x.node()}, {__builtin_FILE(), line}, ReduceAttributes{{0}});
  };
  says(refused([&] { bare(zeros({2})); }), {words});
  forgetful.shape = [](const Call& call) { return Result(call.dtype(0), Shape{1}); };
  says(refused([&] { reduction(forgetful, zeros({2}), {}, false); }), {words});
}

TEST_CASE("without_axes drops axes or keeps them with size 1") {
  CHECK(without_axes({2, 3, 4}, {0, 2}, false) == Shape{3});
  CHECK(without_axes({2, 3, 4}, {0, 2}, true) == Shape{1, 3, 1});
  CHECK(without_axes({2, 3}, {}, false) == Shape{2, 3});
}

TEST_CASE("examples_of: one operand, two, three, a reduction; from the range asked for") {
  const auto shapes = [](const Examples& examples) {
    std::string s;
    for (const Example& e : examples) {
      for (const Sample& in : e.inputs) s += to_string(in.shape);
      s += " ";
    }
    return s;
  };
  CHECK(shapes(examples_of<tanh>()) == "[3, 3] [] ");
  CHECK(shapes(swish_op.examples()) == "[3, 3][3, 3] [3, 1][2, 1, 4] ");
  CHECK(shapes(mix_op.examples()) == "[2, 3][2, 3][2, 3] [3, 1][2, 1, 4][4] ");
  CHECK(shapes(product_op.examples()) == "[2, 3, 4] [2, 3, 4] [3, 5] ");
  CHECK(product_op.examples()[0].inputs[0].low == 1);
  CHECK(product_op.examples()[0].inputs[0].high == 3);
  const std::vector<Tensor> in = {ones({2, 3, 4})};
  CHECK(product_op.examples()[1].call(in).shape() == Shape{3});
}
