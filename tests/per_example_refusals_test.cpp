// Gradients by example where they are refused: what mixes examples, what says nothing of them, and losses
// that are none.
#include <doctest/doctest.h>

#include <string>

#include "../models/opgrad.h"
#include "../ops/custom_gradient.h"
#include "../ops/define.h"
#include "per_example.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

// Halves its rows, and says nothing of examples or that they stay apart.
Tensor halve(const Op& op, const Tensor& x) { return make(op, {x.node()}, {}); }
void half(const KernelArgs& a) {
  dispatch_float(a.out.dtype(), [&]<class T>() {
    for (std::int64_t i = 0; i < a.out.numel(); ++i) a.out.as<T>()[i] = a.in[0].as<T>()[i] / 2;
  });
}
constexpr Op halving(const char* name, PerExample rules) {
  return {.name = name,
          .arity = 1,
          .traits = Traits::dense_inputs,
          .about = "x / 2, without the trait pointwise",
          .shape = same_float,
          .forward = half,
          .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{dy / 2}; },
          .per_example = rules};
}
constinit const Op silent_op = halving("test.silent", {});
constinit const Op telling_op = halving("test.telling", {rows_apart, lift_as_is});

// Each row of x times w, which is said to be a matter of rows although w has none.
void times(const KernelArgs& k) {
  dispatch_float(k.out.dtype(), [&]<class T>() {
    const std::int64_t width = k.in[1].numel();
    for (std::int64_t i = 0; i < k.out.numel(); ++i)
      k.out.as<T>()[i] = k.in[0].as<T>()[i] * k.in[1].as<T>()[i % width];
  });
}
constinit const Op times_op{.name = "test.times",
                            .arity = 2,
                            .traits = Traits::dense_inputs,
                            .about = "x w for each row of x",
                            .shape =
                                [](const Call& call) {
                                  return Result{call.dtype(0), call.shape_id(0)};
                                },
                            .forward = times,
                            .backward = [](const Tensor& y, const Tensor& dy, Wanted) -> Grads {
                              return {dy * y.input(1), sum(dy * y.input(0), {0})};
                            },
                            .per_example = {rows_apart, lift_as_is}};

}  // namespace

TEST_CASE("an index out of range is refused, never another example's row") {
  const Tensor table = weights({3, 2}, 22), index = tensor<std::int64_t>({0, 3});
  const Tensor losses = sum(gather(table, index), {1});
  const std::string said = error_of([&] { per_example_gradients(losses, table).to_vector<double>(); });
  CHECK_MESSAGE(mentions(said, "index 3 at position [1] is outside [0, 3)"), said);
}

TEST_CASE("operations that mix examples are refused by name and line, with the way out") {
  const Tensor w = weights({3, 4}, 60), x = random_tensor({4, 3}, 61);
  const auto refused = [&](int line, const char* part, const Tensor& losses) {
    const std::string said = error_of([&] { per_example_gradients(losses, w); });
    CHECK_MESSAGE(mentions(said, part), said);
    CHECK_MESSAGE(mentions(said, ("per_example_refusals_test.cpp:" + std::to_string(line)).c_str()), said);
    CHECK_MESSAGE(mentions(said, "keep examples apart"), said);
  };
  const Tensor h = matmul(x, w);
  const Tensor centre = sum(square(h), {0});
  refused(__LINE__ - 1, "sum f64[1, 4] of f64[4, 4] mixes the 4 examples along axis 0", sum(h - centre, {1}));
  const Tensor turned = transpose(h);
  refused(__LINE__ - 1, "permute f64[4, 4] of f64[4, 4] mixes the 4 examples", sum(turned, {1}));
  const Tensor flipped = flip(h, {0});
  refused(__LINE__ - 1, "flip f64[4, 4] of f64[4, 4] mixes", sum(flipped, {1}));
  const Tensor across = softmax(sum(h, {1}));
  refused(__LINE__ - 1, "softmax f64[4] of f64[4] mixes", across);
  const Tensor part = slice(concatenate(Tensors{h, h}, 0), {2, 0}, {6, 4});
  refused(__LINE__ - 1, "slice f64[4, 4] of f64[8, 4] mixes", sum(part, {1}));
  const Tensor picked = gather(h, tensor<std::int64_t>({3, 3, 0, 1}));
  refused(__LINE__ - 1, "gather f64[4, 4] of f64[4, 4] mixes", sum(h * picked, {1}));
  const Tensor gram = matmul(h, h);
  refused(__LINE__ - 1, "matmul f64[4, 4] of f64[4, 4] mixes", sum(gram, {1}));
  const GradientRule centred = [](const Tensor&, const Tensor& dy, std::span<const Tensor>) -> Grads {
    return {dy - mean(dy)};
  };
  const Tensor own = custom_gradient(h, {&h, 1}, centred);
  refused(__LINE__ - 1, "custom_gradient f64[4, 4] of f64[4, 4] mixes", sum(own, {1}));
}

TEST_CASE("batch normalisation mixes examples in training and keeps them apart in inference") {
  Sequential net{Dense(4), BatchNormalization(), Dense(2)};
  const Tensor x = cast(random_tensor({5, 3}, 62), DType::f32);
  const std::string said = error_of([&] { per_example_gradients(sum(net(x), {1})); });
  CHECK_MESSAGE(mentions(said, "sum f32[1, 4] of f32[5, 4] mixes the 5 examples along axis 0"), said);
  CHECK_MESSAGE(mentions(said, "batch_normalization"), said);
  net.eval();
  CHECK(per_example_gradients(sum(net(x), {1})).gradients.size() == 6);
}

TEST_CASE("an operation from outside needs a rule, unless it is pointwise") {
  const Tensor w = weights({3, 2}, 65), x = random_tensor({4, 3}, 66);
  const std::string said =
      error_of([&] { per_example_gradients(sum(halve(silent_op, matmul(x, w)), {1}), w); });
  CHECK_MESSAGE(mentions(said, "test.silent f64[4, 2] has no per_example rule"), said);
  CHECK_MESSAGE(mentions(said, "rows_apart"), said);
  const std::string shared =
      error_of([&] { per_example_gradients(sum(matmul(x, halve(silent_op, w)), {1}), w); });
  CHECK_MESSAGE(mentions(shared, "makes what all 4 examples share, and its record has no per_example.lift"),
                shared);
  const Network f = [](const Tensors& p, const Tensors& d) {
    return sum(square(halve(telling_op, matmul(d[0], halve(telling_op, p[0])))), {1});
  };
  check_by_loop(f, {w}, {x}, 4);
}

TEST_CASE("rows_apart for an input that examples share is called just that, with the way out") {
  const Tensor w = weights({3}, 70), x = random_tensor({4, 3}, 71);
  const auto product = [](const Tensor& a, const Tensor& b) {
    return make(times_op, {a.node(), b.node()}, {});
  };
  const std::string said = error_of([&] { per_example_gradients(sum(product(x, w), {1}), w); });
  CHECK_MESSAGE(
      mentions(said, "test.times f64[4, 3] takes input 1, f64[3], which is shared by the 4 examples"), said);
  CHECK_MESSAGE(mentions(said, "(its first dimension is not the examples', 4)"), said);
  CHECK_MESSAGE(mentions(said, "a per_example rule of its own (as matmul has, in ops/matmul.cpp)"), said);
  CHECK_MESSAGE(mentions(said, "broadcast input 1 to the examples first"), said);
  CHECK_FALSE(mentions(said, "mixes"));
  CHECK_FALSE(mentions(said, "batch normalisation"));
}

TEST_CASE("losses that are no list of floats, and weights that they do not depend on, are refused") {
  const Tensor w = weights({3, 2}, 67), x = random_tensor({4, 3}, 68);
  const auto says = [](const char* part, const std::function<void()>& f) {
    const std::string said = error_of(f);
    CHECK_MESSAGE(mentions(said, part), said);
    CHECK_MESSAGE(mentions(said, "per_example_refusals_test.cpp:"), said);
  };
  says("losses is f64[] and must be floats of rank 1", [&] { per_example_gradients(sum(matmul(x, w)), w); });
  says("losses is f64[4, 2] and must be floats of rank 1", [&] { per_example_gradients(matmul(x, w), w); });
  says("losses is i64[4] and must be floats of rank 1",
       [&] { per_example_gradients(argmax(matmul(x, w)), w); });
  says("does not depend on x", [&] { per_example_gradients(sum(x, {1}), w); });
  says("depends on no trainable parameter", [&] { per_example_gradients(sum(matmul(x, w), {1})); });
}
