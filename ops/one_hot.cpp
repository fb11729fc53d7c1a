// one_hot: indices as rows of zeros with a single 1.
#include <fmt/format.h>

#include <algorithm>

#include "define.h"
#include "indices.h"

namespace opgrad {

using fmt::format;

namespace {

struct OneHotAttributes {
  std::int64_t depth = 0;
  DType dtype = DType::f32;
  static constexpr auto fields() {
    return std::tuple{field("depth", &OneHotAttributes::depth), field("dtype", &OneHotAttributes::dtype)};
  }
};

Result one_hot_shape(const Call& call) {
  need_integers(call, 0);
  const auto& a = call.attributes<OneHotAttributes>();
  if (a.depth < 1) call.fail(format("the depth is {} and must be at least 1", a.depth));
  const std::array last{a.depth};
  return {a.dtype, joined(call.shape(0), last)};
}

void one_hot_kernel(const KernelArgs& args) {
  const View &indices = args.in[0], &y = args.out;
  const std::int64_t depth = args.attributes<OneHotAttributes>().depth;
  dispatch_integer(indices.dtype(), [&]<class I>() {
    check_range("one_hot", indices, depth);
    dispatch(y.dtype(), [&]<class T>() {
      std::fill_n(y.as<T>(), y.numel(), T{0});
      for (std::int64_t r = 0; r < indices.numel(); ++r)
        y.as<T>()[r * depth + static_cast<std::int64_t>(indices.as<I>()[r])] = T{1};
    });
  });
}

}  // namespace

constinit const Op records::one_hot_op{
    .name = "one_hot",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "y[i..., j] = 1 where index[i...] = j, else 0",
    .shape = one_hot_shape,
    .forward = one_hot_kernel,
    .backward = no_gradient,
    .examples =
        [] {
          return Examples{
              {{integers({2, 3}, 0, 4)}, [](std::span<const Tensor> x) { return one_hot(x[0], 4); }},
              {{integers({3}, 0, 2, DType::u8)},
               [](std::span<const Tensor> x) { return one_hot(x[0], 2, DType::bool_); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"one_hot: the indices are f32[2] and must be integers", [] { one_hot(zeros({2}), 3); }},
              {"one_hot: the depth is 0 and must be at least 1", [] { one_hot(zeros({2}, DType::i64), 0); }},
              {"one_hot: the depth is -1 and must be at least 1",
               [] { one_hot(zeros({2}, DType::i64), -1); }},
              {"one_hot: the shape [2, 4611686018427387904] has more than 2^56",
               [] { one_hot(zeros({2}, DType::i64), 1LL << 62); }},
              {"one_hot: index 3 at position [1] is outside [0, 3)", [] {
                 one_hot(tensor<std::int64_t>({0, 3}), 3).values<float>();
               }}};
        },
    .attributes = &attribute_info<OneHotAttributes>};

Tensor one_hot(const Operand& indices, std::int64_t depth, DType dtype) {
  return make(records::one_hot_op, {indices.tensor("one_hot").node()}, indices.where(),
              OneHotAttributes{depth, dtype});
}

}  // namespace opgrad
