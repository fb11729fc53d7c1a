// Reductions. The records keep folded axes with size 1; the public functions reshape them away.
#include <fmt/format.h>

#include "../core/scratch.h"
#include "define.h"

namespace opgrad {

using fmt::format;

namespace {

const Axes& axes_of(const Tensor& y) { return y.attributes<ReduceAttributes>().axes; }

std::int64_t folded_count(const Shape& shape, const Axes& axes) {
  std::int64_t n = 1;
  for (const std::int64_t axis : axes) n *= shape[static_cast<int>(axis)];
  return n;
}

void need_elements(const Call& call) {
  const Axes& axes = call.attributes<ReduceAttributes>().axes;
  if (folded_count(call.shape(0), axes) == 0)
    call.fail(format("{} has no element along axes {}, and the greatest of none is not defined",
                     type_text(call, 0), field_text(axes)));
}

Result reduced_nonempty(const Call& call) {
  const Result r = reduce_number(call);
  need_elements(call);
  return r;
}

using Reduce = Tensor (*)(const Operand&, const Axes&, bool);

template <Reduce f>
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
          {"axis -1 was given, but the tensor has rank 0", [] { f(zeros({}), {-1}, false); }},
          {"an operand is an empty Tensor", [] { f(Tensor(), {}, false); }}};
}

}  // namespace

// ------------------------------------------------------------ sum, mean

constinit const Op records::sum_op{
    .name = "sum",
    .arity = 1,
    .traits = Traits::reduction | Traits::linear,
    .about = "the sum over axes, kept with size 1; 0 of no element; adjoint: broadcast_to",
    .shape = reduce_number,
    .forward = fold<Sum>,
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{broadcast_to(dy, y.input(0).shape())}; },
    .examples = examples_of<sum>,
    .bad_calls = bad_reductions<sum>,
    .attributes = &attribute_info<ReduceAttributes>,
    .rows = rows_of_reduction,
    .over_rows = over_rows_of<Sum>};

Tensor sum(const Operand& x, const Axes& axes, bool keepdims) {
  Tensor t = x.tensor("sum");
  if (!is_float(t.dtype())) t = cast_node(t, DType::i64, x.where());
  if (t.rank() == 0 && axes.size() == 0) return t;
  return reduction(records::sum_op, Operand(t, x.where().file, x.where().line), axes, keepdims);
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
  const Shape groups = without_axes(shape, args.attributes<ReduceAttributes>().axes, true);
  auto to_group = dense_strides(groups);
  for (int i = 0; i < shape.rank(); ++i)
    if (groups[i] != shape[i]) to_group[static_cast<std::size_t>(i)] = 0;
  const int last = shape.rank() - 1;
  const std::int64_t row = shape[last], step = to_group[static_cast<std::size_t>(last)];
  const Scratch<std::int64_t> best(groups.numel());
  std::fill_n(best.data(), groups.numel(), -1);
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
  for (std::int64_t g = 0; g < groups.numel(); ++g) y.as<bool>()[best[g]] = true;
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
    .examples = examples_of<max>,
    .kinks =
        [] {
          return Kinks{{"the first of equal elements gets it all",
                        {{{2, 3}, {0.5, 1, 1, -1, -1, -1}, {0, 1, 0, 1, 0, 0}}},
                        [](std::span<const Tensor> x) { return max(x[0], {1}); }}};
        },
    .bad_calls =
        [] {
          BadCalls bad = bad_reductions<max>();
          bad.push_back({"max: f32[2, 0] has no element along axes [1]", [] { max(zeros({2, 0}), {1}); }});
          bad.push_back({"max: needs numbers and was given bool[2]", [] { max(zeros({2}, DType::bool_)); }});
          return bad;
        },
    .attributes = &attribute_info<ReduceAttributes>,
    .rows = rows_of_reduction,
    .over_rows = over_rows_of<Max>};

Tensor max(const Operand& x, const Axes& axes, bool keepdims) {
  const Tensor t = x.tensor("max");
  if (t.rank() == 0 && axes.size() == 0) return t;
  return reduction(records::max_op, x, axes, keepdims);
}

constinit const Op records::first_max_op{
    .name = "first_max",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "true at the first greatest element over axes, NaN counting as greatest, and false elsewhere",
    .shape =
        [](const Call& call) {
          reduced_nonempty(call);
          return Result(DType::bool_, call.shape_id(0));
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
              {"first_max: f32[0] has no element along axes [0]", [] { first_max(zeros({0}), {0}); }},
              {"first_max: needs numbers and was given bool[2]",
               [] { first_max(zeros({2}, DType::bool_), {0}); }},
              {"first_max: axis -1 of [-1] is out of range; for f32[2, 3] it must be at least 0 and less "
               "than 2",
               [] {
                 first_max(zeros({2, 3}), {-1});
               }},
              {"first_max: axis 2147483648 of [0, 2147483648] is out of range",
               [] {
                 first_max(zeros({2, 3}), {0, 1LL << 31});
               }},
              {"first_max: axis 4611686018427387904 of [4611686018427387904] is out of range",
               [] {
                 first_max(zeros({2, 3}), {1LL << 62});
               }},
              {"first_max: axis 0 of [1, 0] does not come after 1; name each axis once", [] {
                 first_max(zeros({2, 3}), {1, 0});
               }}};
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
          const Axes& axes = call.attributes<ReduceAttributes>().axes;
          if (axes.size() != 1) call.fail(format("takes one axis and was given {}", field_text(axes)));
          return Result(DType::i64, reduced_nonempty(call).shape);
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
          return BadCalls{
              {"argmax: axis 2 is out of range",
               [] {
                 argmax(zeros({2, 3}), 2);
               }},
              {"argmax: axis -4611686018427387904 is out of range",
               [] {
                 argmax(zeros({2, 3}), -(1LL << 62));
               }},
              {"argmax: axis 2147483648 is out of range",
               [] {
                 argmax(zeros({2, 3}), 1LL << 31);
               }},
              {"argmax: axis 4611686018427387904 is out of range",
               [] {
                 argmax(zeros({2, 3}), 1LL << 62);
               }},
              {"argmax: takes one axis and was given [0, 1]",
               [] {
                 reduction(records::argmax_op, zeros({2, 3}), {}, false);
               }},
              {"argmax: needs numbers and was given bool[2]", [] { argmax(zeros({2}, DType::bool_)); }},
              {"argmax: axis -1 was given, but the tensor has rank 0", [] { argmax(zeros({})); }},
              {"argmax: f32[0] has no element along axes [0]", [] { argmax(zeros({0})); }}};
        },
    .attributes = &attribute_info<ReduceAttributes>,
    .rows = rows_of_reduction};

Tensor argmax(const Operand& x, std::int64_t axis, bool keepdims) {
  return reduction(records::argmax_op, x, {axis}, keepdims);
}

}  // namespace opgrad
