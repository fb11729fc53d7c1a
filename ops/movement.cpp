// Movement: views of the same memory by other strides. broadcast_to and sum_to are adjoint; reshape, permute
// and flip are their own adjoints up to their numbers.
#include <fmt/format.h>

#include <algorithm>

#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;
using Strides = std::array<std::int64_t, max_rank>;

namespace {

auto at(int i) { return static_cast<std::size_t>(i); }

struct ShapeAttributes {
  Shape shape;
  static constexpr auto fields() { return std::tuple{field("shape", &ShapeAttributes::shape)}; }
};
struct AxesAttributes {
  Axes axes;
  static constexpr auto fields() { return std::tuple{field("axes", &AxesAttributes::axes)}; }
};

}  // namespace

// ------------------------------------------------------------ reshape
//
// Strides can say it where no new axis spans old ones that do not lie one behind the other. So merge the old
// axes that do into runs, and cut the runs into the new axes from the right.

namespace {

bool reshape_view(const void*, const Shape& in, const Shape& out, Layout& layout) {
  if (in.numel() == 0) {
    layout.strides = dense_strides(out);
    return true;
  }
  struct Run {
    std::int64_t size, stride;
  };
  std::array<Run, max_rank + 1> runs{{{1, 1}}};
  std::size_t last = 0;
  for (int i = 0; i < in.rank(); ++i) {
    const std::int64_t n = in[i], stride = layout.strides[at(i)];
    if (n == 1) continue;
    if (runs[last].size != 1 && runs[last].stride == n * stride)
      runs[last] = {runs[last].size * n, stride};
    else
      runs[++last] = {n, stride};
  }
  Strides strides{};
  Run rest = runs[last];
  for (int i = out.rank() - 1; i >= 0; --i) {
    const std::int64_t n = out[i];
    if (n != 1 && rest.size == 1) rest = runs[--last];
    if (rest.size % n != 0) return false;
    strides[at(i)] = rest.stride;
    rest = {rest.size / n, rest.stride * n};
  }
  layout.strides = strides;
  return true;
}

}  // namespace

constinit const Op records::reshape_op{
    .name = "reshape",
    .arity = 1,
    .traits = Traits::movement | Traits::nothrow | Traits::linear,
    .about = "the same elements in row-major order under another shape",
    .shape =
        [](const Call& call) {
          const Shape& to = call.attributes<ShapeAttributes>().shape;
          if (to.numel() != call.shape(0).numel())
            call.fail(format("{} has {} elements and {} has {}; give as many, or one size as -1",
                             to_string(call.shape(0)), call.shape(0).numel(), to_string(to), to.numel()));
          return Result(call.dtype(0), to);
        },
    .forward = {},
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{reshape(dy, y.input(0).shape())}; },
    .simplify =
        [](const Tensor& y) {
          const Tensor x = y.input(0);
          return made_by(x, records::reshape_op) ? reshape(x.input(0), y.shape()) : y;
        },
    .examples =
        [] {
          return Examples{{{sample({2, 3, 4})},
                           [](std::span<const Tensor> x) {
                             return reshape(x[0], {4, -1});
                           }},
                          {{sample({2, 3, 4})},
                           [](std::span<const Tensor> x) {
                             return reshape(permute(x[0], {0, 2, 1}), {8, 3});
                           }},
                          {{sample({1})}, [](std::span<const Tensor> x) { return reshape(x[0], {}); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"reshape: [2, 3] has 6 elements and [4] has 4",
                           [] {
                             reshape(zeros({2, 3}), {4});
                           }},
                          {"reshape: 6 elements of [2, 3] cannot be cut into [4, -1]",
                           [] {
                             reshape(zeros({2, 3}), {4, -1});
                           }},
                          {"reshape: more than one size is -1 in [-1, -1]",
                           [] {
                             reshape(zeros({2, 3}), {-1, -1});
                           }},
                          {"reshape: the sizes [-2, 3] hold -2",
                           [] {
                             reshape(zeros({2, 3}), {-2, 3});
                           }},
                          {"reshape: [2, 3] has 6 elements and [2147483648] has",
                           [] {
                             reshape(zeros({2, 3}), {1LL << 31});
                           }},
                          {"reshape: the shape [4611686018427387904] has more than 2^56",
                           [] {
                             reshape(zeros({2, 3}), {1LL << 62});
                           }},
                          {"reshape: the product of [4611686018427387904, 4] overflows 64 bits",
                           [] {
                             reshape(zeros({2, 3}), {1LL << 62, 4});
                           }},
                          {"reshape: an operand is an empty Tensor", [] { reshape(Tensor(), {4}); }}};
        },
    .attributes = &attribute_info<ShapeAttributes>,
    .view = reshape_view,
    // Elements keep their order, so examples stay whole where both first axes can be cut into them.
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted, std::int64_t examples) {
                      const Tensor x = y.input(0);
                      const bool whole = x.rank() > 0 && x.dim(0) % examples == 0 && y.dim(0) % examples == 0;
                      return whole ? Grads{reshape(dy, x.shape())} : Grads{};
                    },
                    [](const Tensor& y, std::span<const Tensor> inputs) {
                      return reshape(inputs[0], in_front(inputs[0].dim(0), y.shape()));
                    }}};

Tensor reshape(const Operand& x, const Shape& shape) {
  const Tensor t = x.tensor("reshape");
  if (t.shape() == shape) return t;
  return make(records::reshape_op, {t.node()}, x.where(), ShapeAttributes{shape});
}

Tensor reshape(const Operand& x, std::initializer_list<std::int64_t> sizes) {
  const Tensor t = x.tensor("reshape");
  const std::span<const std::int64_t> given(sizes.begin(), sizes.size());
  const auto text = [&] { return format("[{}]", fmt::join(given, ", ")); };
  if (given.size() > max_rank)
    refuse("reshape", x.where(), format("{} has more than {} axes", text(), max_rank));
  std::array<std::int64_t, max_rank> dims{};
  std::ranges::copy(given, dims.begin());
  std::int64_t known = 1;
  std::int64_t* inferred = nullptr;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (dims[i] == -1) {
      if (inferred) refuse("reshape", x.where(), format("more than one size is -1 in {}", text()));
      inferred = &dims[i];
    } else if (dims[i] < 0) {
      refuse("reshape", x.where(),
             format("the sizes {} hold {}; only -1 (infer it) is not a size", text(), dims[i]));
    } else if (__builtin_mul_overflow(known, dims[i], &known)) {
      refuse("reshape", x.where(), format("the product of {} overflows 64 bits", text()));
    }
  }
  if (inferred) {
    if (known == 0 || t.numel() % known != 0)
      refuse("reshape", x.where(),
             format("{} elements of {} cannot be cut into {}: {} is no multiple of {}", t.numel(),
                    to_string(t.shape()), text(), t.numel(), known));
    *inferred = t.numel() / known;
  }
  try {
    return reshape(x, Shape(std::span(dims.data(), given.size())));
  } catch (const UserError& e) {
    if (std::string_view(e.what()).starts_with("reshape")) throw;
    refuse("reshape", x.where(), e.what());
  }
}

Tensor expand_dims(const Operand& x, std::int64_t axis) {
  const Tensor t = x.tensor("expand_dims");
  if (t.rank() == max_rank) refuse("expand_dims", x.where(), format("{} has 8 axes already", type_text(t)));
  std::vector<std::int64_t> dims(t.shape().begin(), t.shape().end());
  dims.insert(dims.begin() + axis_of("expand_dims", x.where(), axis, t.rank() + 1), 1);
  return reshape_node(t, Shape(dims), x.where());
}

Tensor squeeze(const Operand& x, std::int64_t axis) {
  const Tensor t = x.tensor("squeeze");
  const int i = axis_of("squeeze", x.where(), axis, t.rank());
  if (t.dim(i) != 1)
    refuse("squeeze", x.where(), format("axis {} of {} has size {}, not 1", axis, type_text(t), t.dim(i)));
  std::vector<std::int64_t> dims(t.shape().begin(), t.shape().end());
  dims.erase(dims.begin() + i);
  return reshape_node(t, Shape(dims), x.where());
}

// ------------------------------------------------------------ permute

constinit const Op records::permute_op{
    .name = "permute",
    .arity = 1,
    .traits = Traits::movement | Traits::nothrow | Traits::linear,
    .about = "axis i of the result is axis axes[i] of the input",
    .shape =
        [](const Call& call) {
          const Axes& order = call.attributes<AxesAttributes>().axes;
          const Shape& in = call.shape(0);
          std::array<bool, max_rank> seen{};
          std::array<std::int64_t, max_rank> dims{};
          if (order.size() != in.rank())
            call.fail(format("the order {} has {} axes and {} has {}", field_text(order), order.size(),
                             to_string(in), in.rank()));
          for (int i = 0; i < in.rank(); ++i) {
            if (order[i] < 0 || order[i] >= in.rank() || seen[at(static_cast<int>(order[i]))])
              call.fail(format("{} is no order of the axes 0 to {}: each must stand in it once",
                               field_text(order), in.rank() - 1));
            seen[at(static_cast<int>(order[i]))] = true;
            dims[at(i)] = in[static_cast<int>(order[i])];
          }
          return Result(call.dtype(0), Shape(std::span(dims.data(), at(in.rank()))));
        },
    .forward = {},
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted) {
          const Axes& order = y.attributes<AxesAttributes>().axes;
          Axes inverse = order;
          for (int i = 0; i < order.size(); ++i) inverse[static_cast<int>(order[i])] = i;
          return Grads{permute(dy, inverse)};
        },
    .simplify =
        [](const Tensor& y) {
          const Tensor x = y.input(0);
          if (!made_by(x, records::permute_op)) return y;
          Axes order = y.attributes<AxesAttributes>().axes;
          for (int i = 0; i < order.size(); ++i)
            order[i] = x.attributes<AxesAttributes>().axes[static_cast<int>(order[i])];
          return permute(x.input(0), order);
        },
    .examples =
        [] {
          return Examples{{{sample({2, 3, 4})},
                           [](std::span<const Tensor> x) {
                             return permute(x[0], {2, 0, 1});
                           }},
                          {{sample({3, 2})}, [](std::span<const Tensor> x) { return transpose(x[0]); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"permute: the order [0] has 1 axes and [2, 3] has 2",
                           [] {
                             permute(zeros({2, 3}), {0});
                           }},
                          {"permute: [0, 0] is no order of the axes 0 to 1",
                           [] {
                             permute(zeros({2, 3}), {0, 0});
                           }},
                          {"permute: axis 2147483648 is out of range",
                           [] {
                             permute(zeros({2, 3}), {0, 1LL << 31});
                           }},
                          {"permute: axis 4611686018427387904 is out of range",
                           [] {
                             permute(zeros({2, 3}), {0, 1LL << 62});
                           }},
                          {"permute: [-1, 0] is no order of the axes 0 to 1",
                           [] {
                             const Tensor x = zeros({2, 3});
                             make(records::permute_op, {x.node()}, {}, AxesAttributes{{-1, 0}});
                           }},
                          {"permute: axis -3 is out of range",
                           [] {
                             permute(zeros({2, 3}), {-3, 0});
                           }},
                          {"transpose: needs at least 2 axes", [] { transpose(zeros({3})); }}};
        },
    .attributes = &attribute_info<AxesAttributes>,
    .view =
        [](const void* attributes, const Shape& in, const Shape&, Layout& layout) {
          const Axes& order = static_cast<const AxesAttributes*>(attributes)->axes;
          const Strides old = layout.strides;
          for (int i = 0; i < in.rank(); ++i) layout.strides[at(i)] = old[at(static_cast<int>(order[i]))];
          return true;
        },
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const bool rows = y.attributes<AxesAttributes>().axes[0] == 0;
                      return rows ? rows_apart(y, dy, wanted, examples) : Grads{};
                    },
                    [](const Tensor& y, std::span<const Tensor> inputs) {
                      return permute(inputs[0],
                                     with_first(0, after_one(y.attributes<AxesAttributes>().axes)));
                    }}};

Tensor permute(const Operand& x, const Axes& order) {
  const Tensor t = x.tensor("permute");
  Axes axes = order;
  bool identity = order.size() == t.rank();
  for (int i = 0; i < order.size(); ++i) {
    axes[i] = axis_of("permute", x.where(), order[i], t.rank());
    identity &= axes[i] == i;
  }
  if (identity) return t;
  return make(records::permute_op, {t.node()}, x.where(), AxesAttributes{axes});
}

Tensor transpose(const Operand& x) {
  const Tensor t = x.tensor("transpose");
  const int rank = t.rank();
  if (rank < 2)
    refuse("transpose", x.where(), format("needs at least 2 axes and was given {}", type_text(t)));
  Axes order;
  for (int i = 0; i < rank; ++i) order.push_back(i < rank - 2 ? i : 2 * rank - 3 - i);
  return permute(x, order);
}

// ------------------------------------------------------------ broadcast_to

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

// ------------------------------------------------------------ flip

constinit const Op records::flip_op{
    .name = "flip",
    .arity = 1,
    .traits = Traits::movement | Traits::nothrow | Traits::linear,
    .about = "the given axes reversed; its own adjoint",
    .shape =
        [](const Call& call) {
          need_axes(call, call.attributes<AxesAttributes>().axes);
          return Result(call.dtype(0), call.shape_id(0));
        },
    .forward = {},
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{flip(dy, y.attributes<AxesAttributes>().axes)}; },
    .examples =
        [] {
          return Examples{{{sample({3, 4})}, [](std::span<const Tensor> x) { return flip(x[0], {0}); }},
                          {{sample({2, 3, 2})}, [](std::span<const Tensor> x) {
                             return flip(x[0], {1, -1});
                           }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"flip: axis 2 is out of range",
                           [] {
                             flip(zeros({2, 3}), {2});
                           }},
                          {"flip: axis 2147483648 is out of range",
                           [] {
                             flip(zeros({2, 3}), {0, 1LL << 31});
                           }},
                          {"flip: axis 4611686018427387904 is out of range",
                           [] {
                             flip(zeros({2, 3}), {1LL << 62});
                           }},
                          {"flip: axis 7 of [7] is out of range; for f32[2, 3] it must be at least 0",
                           [] {
                             const Tensor x = zeros({2, 3});
                             make(records::flip_op, {x.node()}, {}, AxesAttributes{{7}});
                           }},
                          {"flip: axis 0 was given, but the tensor has rank 0", [] { flip(zeros({}), {0}); }},
                          {"flip: axis -1 is named twice in [1, -1]",
                           [] {
                             flip(zeros({2, 3}), {1, -1});
                           }},
                          {"flip: no axis was given", [] {
                             flip(zeros({2, 3}), {});
                           }}};
        },
    .attributes = &attribute_info<AxesAttributes>,
    .view =
        [](const void* attributes, const Shape& in, const Shape&, Layout& layout) {
          for (const std::int64_t axis : static_cast<const AxesAttributes*>(attributes)->axes) {
            std::int64_t& stride = layout.strides[static_cast<std::size_t>(axis)];
            if (in.numel() > 0) layout.offset += (in[static_cast<int>(axis)] - 1) * stride;
            stride = -stride;
          }
          return true;
        },
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const bool rows = y.attributes<AxesAttributes>().axes[0] == 0;
                      return rows ? Grads{} : rows_apart(y, dy, wanted, examples);
                    },
                    [](const Tensor& y, std::span<const Tensor> inputs) {
                      return flip(inputs[0], after_one(y.attributes<AxesAttributes>().axes));
                    }}};

Tensor flip(const Operand& x, const Axes& axes) {
  const Tensor t = x.tensor("flip");
  if (axes.size() == 0) refuse("flip", x.where(), "no axis was given; name those to reverse");
  return make(records::flip_op, {t.node()}, x.where(),
              AxesAttributes{axes_of("flip", x.where(), axes, t.rank())});
}

}  // namespace opgrad
