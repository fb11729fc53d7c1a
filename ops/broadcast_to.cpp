// broadcast_to, the one place where elements are repeated, and sum_to, its adjoint.
#include <fmt/format.h>

#include "define.h"
#include "example_rules.h"
#include "movement.h"

namespace opgrad {

using fmt::format;

namespace {

// [n, 1, ..., 1, shape...], with as many ones as bring a tensor of `shape` to `rank` axes.
Shape aligned(std::int64_t n, const Shape& shape, int rank) {
  std::vector<std::int64_t> dims(shape.begin(), shape.end());
  dims.insert(dims.begin(), at(rank - shape.rank()), 1);
  dims.insert(dims.begin(), n);
  return Shape(dims);
}

// What repeats along axis 0 is shared: its gradient is summed within each example alone.
Grads broadcast_by_example(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
  const Tensor x = y.input(0);
  if (x.rank() == y.rank() && x.dim(0) == y.dim(0)) return rows_apart(y, dy, wanted, examples);
  std::vector<std::int64_t> cut(y.shape().begin(), y.shape().end());
  cut[0] /= examples;
  const Tensor apart =
      sum_to(reshape(dy, in_front(examples, Shape(cut))), aligned(examples, x.shape(), y.rank()));
  return {reshape(apart, in_front(examples, x.shape()))};
}

Tensor lift_broadcast(const Tensor& y, std::span<const Tensor> inputs) {
  const std::int64_t n = inputs[0].dim(0);
  return broadcast_to(reshape(inputs[0], aligned(n, y.input(0).shape(), y.rank())), in_front(n, y.shape()));
}

}  // namespace

constinit const Op records::broadcast_to_op{
    .name = "broadcast_to",
    .arity = 1,
    .traits = Traits::movement | Traits::nothrow | Traits::linear,
    .about = "x repeated along new axes at the left and along axes of size 1; adjoint: sum_to",
    .shape =
        [](const Call& call) {
          const Shape &from = call.shape(0), &to = call.attributes<ShapeAttributes>().shape;
          const int added = to.rank() - from.rank();
          bool ok = added >= 0;
          for (int i = 0; ok && i < from.rank(); ++i) ok = from[i] == 1 || from[i] == to[i + added];
          if (!ok)
            call.fail(format(
                "{} does not broadcast to {}: aligned at the right, each size must be equal or 1 in the "
                "former",
                to_string(from), to_string(to)));
          return Result(call.dtype(0), to);
        },
    .forward = {},
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{sum_to(dy, y.input(0).shape())}; },
    .examples =
        [] {
          return Examples{{{sample({3, 1})},
                           [](std::span<const Tensor> x) {
                             return broadcast_to(x[0], {2, 3, 4});
                           }},
                          {{sample({})}, [](std::span<const Tensor> x) { return broadcast_to(x[0], {3}); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"broadcast_to: [2, 3] does not broadcast to [3, 3]",
                           [] {
                             broadcast_to(zeros({2, 3}), {3, 3});
                           }},
                          {"broadcast_to: [2, 3] does not broadcast to [3]",
                           [] {
                             broadcast_to(zeros({2, 3}), {3});
                           }},
                          {"sum_to: [3] does not broadcast to [2, 4]", [] {
                             sum_to(zeros({2, 4}), {3});
                           }}};
        },
    .attributes = &attribute_info<ShapeAttributes>,
    .view =
        [](const void*, const Shape& in, const Shape& out, Layout& layout) {
          const Strides old = layout.strides;
          const int added = out.rank() - in.rank();
          for (int i = 0; i < out.rank(); ++i)
            layout.strides[at(i)] = i < added || in[i - added] != out[i] ? 0 : old[at(i - added)];
          return true;
        },
    .per_example = {broadcast_by_example, lift_broadcast}};

Tensor broadcast_to(const Operand& x, const Shape& shape) {
  const Tensor t = x.tensor("broadcast_to");
  if (t.shape() == shape) return t;
  if (const auto number = number_of(t); number && t.rank() == 0)
    return full(shape, *number, t.dtype(), x.where().file, x.where().line);
  return make(records::broadcast_to_op, {t.node()}, x.where(), ShapeAttributes{shape});
}

Tensor sum_to(const Operand& x, const Shape& shape) {
  const Tensor t = x.tensor("sum_to");
  const Shape& from = t.shape();
  const int added = from.rank() - shape.rank();
  bool ok = added >= 0;
  Axes repeated;
  for (int i = 0; ok && i < from.rank(); ++i) {
    if (i >= added && shape[i - added] == from[i]) continue;
    ok = i < added || shape[i - added] == 1;
    repeated.push_back(i);
  }
  if (!ok)
    refuse("sum_to", x.where(),
           format("{} does not broadcast to {}, so nothing can be summed back", to_string(shape),
                  to_string(from)));
  if (repeated.size() == 0) return t;
  return reshape_node(sum(Operand(t, x.where().file, x.where().line), repeated, true), shape, x.where());
}

}  // namespace opgrad
