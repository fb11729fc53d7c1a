// Keyed random numbers: element i of a draw depends on the key and i alone (core/random.h). The key is a
// tensor, so that the step may change without a new plan.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "../core/parallel.h"
#include "define.h"

namespace opgrad {

using fmt::format;

namespace {

struct RandomAttributes {
  Shape shape;
  double first = 0, second = 1;  // low and high, or mean and deviation
  DType dtype = DType::f32;
  static constexpr auto fields() {
    return std::tuple{field("shape", &RandomAttributes::shape), field("first", &RandomAttributes::first),
                      field("second", &RandomAttributes::second), field("dtype", &RandomAttributes::dtype)};
  }
};

constexpr std::int64_t grain = 8192;

Result random_shape(const Call& call) {
  const auto& a = call.attributes<RandomAttributes>();
  if (call.dtype(0) != DType::i64 || call.shape(0) != Shape{2})
    call.fail(format("the key is {} and must be i64[2]; make one with random_key(Key)", type_text(call, 0)));
  if (!is_float(a.dtype))
    call.fail(format("the element type is {} and must be f32 or f64", name_of(a.dtype)));
  return {a.dtype, a.shape};
}

// As a number of the element type.
bool finite(double number, DType dtype) {
  return std::abs(number) <= (dtype == DType::f32 ? double{std::numeric_limits<float>::max()}
                                                  : std::numeric_limits<double>::max());
}

Result uniform_shape(const Call& call) {
  const Result r = random_shape(call);
  const auto& a = call.attributes<RandomAttributes>();
  if (!(a.first < a.second) || !finite(a.first, r.dtype) || !finite(a.second, r.dtype) ||
      !finite(a.second - a.first, r.dtype))
    call.fail(format("low {} and high {} must be finite as {}, so must their difference, and low below high",
                     a.first, a.second, name_of(r.dtype)));
  return r;
}

Result normal_shape(const Call& call) {
  const Result r = random_shape(call);
  const auto& a = call.attributes<RandomAttributes>();
  if (!finite(a.first, r.dtype) || !finite(a.second, r.dtype) || a.second < 0)
    call.fail(format("mean {} and deviation {} must be finite as {}, and the deviation not negative", a.first,
                     a.second, name_of(r.dtype)));
  return r;
}

Key key_of(const View& v) {
  const auto* words = v.as<std::int64_t>();
  return {static_cast<std::uint64_t>(words[0]), static_cast<std::uint64_t>(words[1])};
}

void uniform_kernel(const KernelArgs& args) {
  const auto& a = args.attributes<RandomAttributes>();
  const Key key = key_of(args.in[0]);
  dispatch_float(args.out.dtype(), [&]<class T>() {
    const T low = static_cast<T>(a.first), width = static_cast<T>(a.second - a.first);
    // Rounding may carry low + u * width up to high itself.
    const T below = std::nextafter(static_cast<T>(a.second), low);
    parallel_ranges(args.out.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
      T* const out = args.out.as<T>() + begin;
      fill_uniform(key, begin, end - begin, out);
      for (std::int64_t i = 0; i < end - begin; ++i) out[i] = std::min(low + out[i] * width, below);
    });
  });
}

void normal_kernel(const KernelArgs& args) {
  const auto& a = args.attributes<RandomAttributes>();
  const Key key = key_of(args.in[0]);
  dispatch_float(args.out.dtype(), [&]<class T>() {
    const T mean = static_cast<T>(a.first), deviation = static_cast<T>(a.second);
    parallel_ranges(args.out.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
      T* const out = args.out.as<T>() + begin;
      fill_normal(key, begin, end - begin, out);
      for (std::int64_t i = 0; i < end - begin; ++i) out[i] = mean + deviation * out[i];
    });
  });
}

using Draw = Tensor (*)(const Operand&, const Shape&, double, double, DType);

template <Draw f>
Examples draws() {
  return {
      {{integers({2}, 0, 1000)},
       [](std::span<const Tensor> x) {
         return f(x[0], {3, 5}, 0.5, 2, DType::f64);
       }},
      {{integers({2}, 0, 1000)}, [](std::span<const Tensor> x) { return f(x[0], {}, -1, 1, DType::f32); }}};
}

template <Draw f>
BadCalls bad_draws() {
  return {
      {"the key is f32[2] and must be i64[2]", [] { f(zeros({2}), {3}, 0, 1, DType::f32); }},
      {"the key is i64[3] and must be i64[2]", [] { f(zeros({3}, DType::i64), {3}, 0, 1, DType::f32); }},
      {"the element type is i32 and must be f32 or f64", [] { f(random_key({}), {3}, 0, 1, DType::i32); }},
      {"inf must be finite as f32", [] { f(random_key({}), {3}, 0, HUGE_VAL, DType::f32); }},
      {"1e+300 must be finite as f32", [] { f(random_key({}), {3}, 0, 1e300, DType::f32); }},
      {"-1 must be finite as f64", [] { f(random_key({}), {3}, 0, -1, DType::f64); }},
      {"1 must be finite as f32", [] { f(random_key({}), {3}, NAN, 1, DType::f32); }}};
}

}  // namespace

constinit const Op records::random_uniform_op{
    .name = "random_uniform",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "numbers drawn from [low, high), each a function of the key and its place",
    .shape = uniform_shape,
    .forward = uniform_kernel,
    .backward = no_gradient,
    .examples = draws<random_uniform>,
    .bad_calls = bad_draws<random_uniform>,
    .attributes = &attribute_info<RandomAttributes>};

constinit const Op records::random_normal_op{
    .name = "random_normal",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "numbers from the normal distribution, each a function of the key and its place",
    .shape = normal_shape,
    .forward = normal_kernel,
    .backward = no_gradient,
    .examples = draws<random_normal>,
    .bad_calls = bad_draws<random_normal>,
    .attributes = &attribute_info<RandomAttributes>};

Tensor random_key(Key key) {
  return tensor(std::vector{static_cast<std::int64_t>(key.stream), static_cast<std::int64_t>(key.step)}, {2});
}

Tensor random_uniform(const Operand& key, const Shape& shape, double low, double high, DType dtype) {
  return make(records::random_uniform_op, {key.tensor("random_uniform").node()}, key.where(),
              RandomAttributes{shape, low, high, dtype});
}

Tensor random_normal(const Operand& key, const Shape& shape, double mean, double deviation, DType dtype) {
  return make(records::random_normal_op, {key.tensor("random_normal").node()}, key.where(),
              RandomAttributes{shape, mean, deviation, dtype});
}

}  // namespace opgrad
