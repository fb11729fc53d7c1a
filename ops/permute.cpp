// permute and flip: axes in another order, axes walked backwards. Each is its own adjoint up to its numbers.
#include <fmt/format.h>

#include "define.h"
#include "example_rules.h"
#include "movement.h"

namespace opgrad {

using fmt::format;

namespace {

struct AxesAttributes {
  Axes axes;
  static constexpr auto fields() { return std::tuple{field("axes", &AxesAttributes::axes)}; }
};

}  // namespace

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
