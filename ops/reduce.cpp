// Reductions. The records keep folded axes with size 1; the public functions reshape them away.
#include <fmt/format.h>

#include "define.h"

namespace opgrad {

using fmt::format;

namespace {

struct ReduceAttributes {
  Axes axes;
  static constexpr auto fields() { return std::tuple{field("axes", &ReduceAttributes::axes)}; }
};

const Axes& axes_of(const Tensor& y) { return y.attributes<ReduceAttributes>().axes; }

// The shape with size 1 along the axes, or without them.
Shape without(const Shape& shape, const Axes& axes, bool keepdims) {
  std::array<std::int64_t, max_rank> dims{};
  std::size_t rank = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    const bool folded = std::ranges::count(axes, i) > 0;
    if (folded && !keepdims) continue;
    dims[rank++] = folded ? 1 : shape[i];
  }
  return Shape(std::span(dims.data(), rank));
}

std::int64_t folded_count(const Shape& shape, const Axes& axes) {
  std::int64_t n = 1;
  for (const std::int64_t axis : axes) n *= shape[static_cast<int>(axis)];
  return n;
}

Result reduced(const Call& call) {
  const Result r = same_number(call);
  return {r.dtype, without(call.shape(0), call.attributes<ReduceAttributes>().axes, true)};
}

void need_elements(const Call& call) {
  const Axes& axes = call.attributes<ReduceAttributes>().axes;
  if (folded_count(call.shape(0), axes) == 0)
    call.fail(format("{} has no element along axes {}, and the greatest of none is not defined",
                     type_text(call, 0), field_text(axes)));
}

Result reduced_nonempty(const Call& call) {
  need_elements(call);
  return reduced(call);
}

// Node `op` over normalised axes, then the folded axes dropped unless kept.
Tensor reduce(const Op& op, const Tensor& x, const Axes& axes, bool keepdims, Location where) {
  const Tensor y = make(op, {x.node()}, where, ReduceAttributes{axes});
  return reshape_node(y, without(x.shape(), axes, keepdims), where);
}

using Reduction = Tensor (*)(const Operand&, const Axes&, bool);

template <Reduction f>
Examples reductions() {
  return {{{sample({2, 3, 4})}, [](std::span<const Tensor> x) { return f(x[0], {}, false); }},
          {{sample({2, 3, 4})},
           [](std::span<const Tensor> x) {
             return f(x[0], {0, -1}, false);
           }},
          {{sample({3, 5})}, [](std::span<const Tensor> x) { return f(x[0], {1}, true); }}};
}

template <Reduction f>
BadCalls bad_reductions() {
  return {{"axis 2 is out of range; with rank 2 it must lie between -2 and 1",
           [] {
             f(zeros({2, 3}), {2}, false);
           }},
          {"axis -3 is out of range",
           [] {
             f(zeros({2, 3}), {-3}, false);
           }},
          {"axis 2147483648 is out of range",
           [] {
             f(zeros({2, 3}), {1LL << 31}, false);
           }},
          {"axis 4611686018427387904 is out of range",
           [] {
             f(zeros({2, 3}), {1LL << 62}, false);
           }},
          {"axis -2 is named twice in [0, -2]",
           [] {
             f(zeros({2, 3}), {0, -2}, false);
           }},
          {"axis 0 was given, but the tensor has rank 0", [] { f(zeros({}), {0}, false); }},
          {"an operand is an empty Tensor", [] { f(Tensor(), {}, false); }}};
}

}  // namespace

// ------------------------------------------------------------ sum, mean

constinit const Op records::sum_op{
    .name = "sum",
    .arity = 1,
    .traits = Traits::reduction | Traits::linear,
    .about = "the sum over axes, kept with size 1; 0 of no element; adjoint: broadcast_to",
    .shape = reduced,
    .forward = fold<Sum>,
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{broadcast_to(dy, y.input(0).shape())}; },
    .examples = reductions<sum>,
    .bad_calls = bad_reductions<sum>,
    .attributes = &attribute_info<ReduceAttributes>};

Tensor sum(const Operand& x, const Axes& axes, bool keepdims) {
  Tensor t = x.tensor("sum");
  if (!is_float(t.dtype())) t = cast_node(t, DType::i64, x.where());
  const Axes folded = axes_of("sum", x.where(), axes, t.rank());
  return folded.size() == 0 ? t : reduce(records::sum_op, t, folded, keepdims, x.where());
}

// sum / n, for n elements to each result; NaN for n = 0. Floats only.
Tensor mean(const Operand& x, const Axes& axes, bool keepdims) {
  const CallScope scope(x.where());
  const Tensor t = x.tensor("mean");
  if (!is_float(t.dtype()))
    refuse("mean", x.where(),
           format("needs f32 or f64 and was given {}; convert with cast(x, DType::f32)", type_text(t)));
  const Axes folded = axes_of("mean", x.where(), axes, t.rank());
  return sum(t, axes, keepdims) / folded_count(t.shape(), folded);
}

// ------------------------------------------------------------ max
//
// The gradient goes where first_max is true: linear in dy, and constant in x away from ties.

namespace {

Tensor first_max(const Tensor& x, const Axes& axes) {
  return make(records::first_max_op, {x.node()}, {}, ReduceAttributes{axes});
}

// a comes before b in the order of maxima: greater, or the first NaN.
template <class T>
bool beats(T a, T b) {
  return a > b || (a != a && b == b);
}

// One pass in row-major order finds where the maximum of each group lies, so that the first of equals is
// kept.
void first_max_kernel(const KernelArgs& args) {
  const View &x = args.in[0], &y = args.out;
  const Shape& shape = x.shape();
  std::fill_n(y.as<bool>(), y.numel(), false);
  if (x.numel() == 0) return;
  if (shape.rank() == 0) {
    *y.as<bool>() = true;
    return;
  }
  const Shape groups = without(shape, args.attributes<ReduceAttributes>().axes, true);
  auto to_group = dense_strides(groups);
  for (int i = 0; i < shape.rank(); ++i)
    if (groups[i] != shape[i]) to_group[static_cast<std::size_t>(i)] = 0;
  const int last = shape.rank() - 1;
  const std::int64_t row = shape[last], step = to_group[static_cast<std::size_t>(last)];
  std::vector<std::int64_t> best(static_cast<std::size_t>(groups.numel()), -1);
  dispatch(x.dtype(), [&]<class T>() {
    const T* const values = x.as<T>();
    std::array<std::int64_t, max_rank> at{};
    std::int64_t* group = best.data();
    for (std::int64_t k = 0; k < x.numel();) {
      for (const std::int64_t end = k + row; k < end; ++k, group += step)
        if (*group < 0 || beats(values[k], values[*group])) *group = k;
      group -= step * row;
      for (int i = last - 1; i >= 0; --i) {
        const auto axis = static_cast<std::size_t>(i);
        group += to_group[axis];
        if (++at[axis] < shape[i]) break;
        group -= to_group[axis] * shape[i];
        at[axis] = 0;
      }
    }
  });
  for (const std::int64_t b : best) y.as<bool>()[b] = true;
}

}  // namespace

constinit const Op records::max_op{
    .name = "max",
    .arity = 1,
    .traits = Traits::reduction,
    .about =
        "the greatest over axes, kept with size 1; NaN if any is NaN; the gradient goes to the first at ties",
    .shape = reduced_nonempty,
    .forward = fold<Max>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted) {
          const Tensor x = y.input(0);
          return Grads{where(first_max(x, axes_of(y)), dy, 0)};
        },
    .examples = reductions<max>,
    .bad_calls =
        [] {
          BadCalls bad = bad_reductions<max>();
          bad.push_back({"max: f32[2, 0] has no element along axes [1]", [] { max(zeros({2, 0}), {1}); }});
          bad.push_back({"max: needs numbers and was given bool[2]", [] { max(zeros({2}, DType::bool_)); }});
          return bad;
        },
    .attributes = &attribute_info<ReduceAttributes>};

Tensor max(const Operand& x, const Axes& axes, bool keepdims) {
  const Tensor t = x.tensor("max");
  const Axes folded = axes_of("max", x.where(), axes, t.rank());
  return folded.size() == 0 ? t : reduce(records::max_op, t, folded, keepdims, x.where());
}

constinit const Op records::first_max_op{
    .name = "first_max",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "true at the first greatest element over axes, NaN counting as greatest, and false elsewhere",
    .shape =
        [](const Call& call) {
          need_elements(call);
          return Result(DType::bool_, same_number(call).shape);
        },
    .forward = first_max_kernel,
    .backward = no_gradient,
    .examples =
        [] {
          return Examples{
              {{sample({2, 3, 4})},
               [](std::span<const Tensor> x) {
                 return first_max(x[0], {0, 2});
               }},
              {{integers({4, 6}, 0, 3)}, [](std::span<const Tensor> x) { return first_max(x[0], {1}); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"first_max: f32[0] has no element along axes [0]", [] { first_max(zeros({0}), {0}); }}};
        },
    .attributes = &attribute_info<ReduceAttributes>};

// ------------------------------------------------------------ argmax

constinit const Op records::argmax_op{
    .name = "argmax",
    .arity = 1,
    .about =
        "the i64 index of the greatest along one axis, kept with size 1; the first at ties; NaN counts as "
        "greatest",
    .shape =
        [](const Call& call) {
          need_elements(call);
          same_number(call);
          return Result(DType::i64, without(call.shape(0), call.attributes<ReduceAttributes>().axes, true));
        },
    .forward =
        [](const KernelArgs& args) {
          reduce_argmax(args.in[0], static_cast<int>(args.attributes<ReduceAttributes>().axes[0]), args.out);
        },
    .backward = no_gradient,
    .examples =
        [] {
          return Examples{
              {{sample({3, 4})}, [](std::span<const Tensor> x) { return argmax(x[0]); }},
              {{integers({4, 3}, 0, 3)}, [](std::span<const Tensor> x) { return argmax(x[0], 0, true); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"argmax: axis 2 is out of range",
                           [] {
                             argmax(zeros({2, 3}), 2);
                           }},
                          {"argmax: axis -4611686018427387904 is out of range",
                           [] {
                             argmax(zeros({2, 3}), -(1LL << 62));
                           }},
                          {"argmax: axis -1 was given, but the tensor has rank 0", [] { argmax(zeros({})); }},
                          {"argmax: f32[0] has no element along axes [0]", [] { argmax(zeros({0})); }}};
        },
    .attributes = &attribute_info<ReduceAttributes>};

Tensor argmax(const Operand& x, std::int64_t axis, bool keepdims) {
  const Tensor t = x.tensor("argmax");
  return reduce(records::argmax_op, t, {axis_of("argmax", x.where(), axis, t.rank())}, keepdims, x.where());
}

}  // namespace opgrad
