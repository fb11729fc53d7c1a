// Max pooling, channels last, and its adjoint pair.
//
// Each window of x has one winner. Let P be the matrix that picks the winners: y = P x, with P fixed as long
// as the winners are. Then dx = P^T dy (max_pool2d_gradient) and, of that by dy, dv = P v (max_pool2d_pick):
// each is the derivative of the other. By x both are constant almost everywhere. All three look for the
// winners anew, which costs no more than to read where they were.
#include <fmt/format.h>

#include <bit>

#include "define.h"
#include "example_rules.h"
#include "pool2d_kernels.h"

namespace opgrad {

using fmt::format;

namespace {

// ------------------------------------------------------------------------------------------------ shape
// rules

Shape pooled(const Call& call) {
  const auto& a = call.attributes<Pool2DAttributes>();
  if (!is_float(call.dtype(0)))
    call.fail(format("x is {}, but pooling needs f32 or f64; convert with cast(x, DType::f32)",
                     type_text(call, 0)));
  const Shape& x = call.shape(0);
  if (x.rank() != 4)
    call.fail(format("x is {} of rank {}, but must be [batch, rows, columns, channels] of rank 4{}",
                     type_text(call, 0), x.rank(),
                     x.rank() == 3 ? "; add a batch of one: expand_dims(x, 0)" : ""));
  std::array<std::int64_t, 2> out{};
  for (const std::size_t axis : {0u, 1u}) {
    const char* name = axis ? "columns" : "rows";
    const std::int64_t size = a.size[axis], stride = a.strides[axis], have = x[static_cast<int>(axis) + 1];
    if (size < 1 || stride < 1)
      call.fail(
          format("size {} and strides {} must be at least 1", field_text(a.size), field_text(a.strides)));
    if (size > have)
      call.fail(format(
          "a window of {0} {1} does not fit the {2} {1} of {3}; use a smaller window, or pad x{4}", size,
          name, have, type_text(call, 0),
          x[3] > have && x[3] >= size ? "; if x has its channels first: permute(x, {0, 2, 3, 1})" : ""));
    out[axis] = (have - size) / stride + 1;
  }
  return Shape{x[0], out[0], out[1], x[3]};
}

void check_second(const Call& call, const char* what, const Shape& expected) {
  if (call.dtype(1) == call.dtype(0) && call.shape(1) == expected) return;
  const auto& a = call.attributes<Pool2DAttributes>();
  call.fail(format("{} is {}, but for x {} it must be {} (windows of {}, strides {})", what,
                   type_text(call, 1), type_text(call, 0), to_string(Type{call.dtype(0), expected}),
                   field_text(a.size), field_text(a.strides)));
}

// Where windows meet neither one another nor, in the packs of any instruction set, other channels, a window
// is read before it is written.
bool over_windows(const void* attributes, const Shape& x) {
  const auto& a = *static_cast<const Pool2DAttributes*>(attributes);
  const bool whole_packs = x[3] % 16 == 0 || std::has_single_bit(static_cast<std::uint64_t>(x[3]));
  return a.size == a.strides && whole_packs;
}

// ------------------------------------------------------------------------------------------------ nodes

Tensor node(const Op& op, const Tensor& x, const Tensor& second, const Pool2DAttributes& a) {
  return make(op, {x.node(), second.node()}, {}, a);
}

// Examples draw numbers without ties, and windows that tile, overlap, leave gaps and drop the rest.
Tensor pool_2_2(const Tensor& x) { return max_pool2d(x, {2, 2}, {2, 2}); }
Tensor pool_3_2(const Tensor& x) { return max_pool2d(x, {3, 2}, {2, 1}); }
Tensor pool_1_3(const Tensor& x) { return max_pool2d(x, {1, 2}, {2, 3}); }

}  // namespace

constinit const Op records::max_pool2d_op{
    .name = "max_pool2d",
    .arity = 1,
    .traits = Traits::dense_inputs | Traits::nothrow,
    .about =
        "y[b,i,j,c] = max over m,n of x[b, i*s + m, j*s + n, c]; NaN wins; at ties the gradient goes to the "
        "first "
        "in row-major order",
    .shape =
        [](const Call& call) {
          return Result{call.dtype(0), pooled(call)};
        },
    .forward = pool2d_forward,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted) {
          return Grads{
              node(records::max_pool2d_gradient_op, y.input(0), dy, y.attributes<Pool2DAttributes>())};
        },
    .examples =
        [] {
          return Examples{
              {{sample({2, 4, 6, 3})}, [](std::span<const Tensor> in) { return pool_2_2(in[0]); }},
              {{sample({1, 5, 7, 2})}, [](std::span<const Tensor> in) { return pool_2_2(in[0]); }},
              {{sample({2, 6, 5, 1})}, [](std::span<const Tensor> in) { return pool_3_2(in[0]); }},
              {{sample({1, 5, 6, 9})}, [](std::span<const Tensor> in) { return pool_1_3(in[0]); }}};
        },
    .kinks =
        [] {
          return Kinks{{"the first of equal elements of a window, in row-major order, gets it all",
                        {{{1, 2, 4, 1}, {0, 1, 0.5, 0.5, 1, 1, 0.5, 0.5}, {0, 1, 1, 0, 0, 0, 0, 0}}},
                        [](std::span<const Tensor> in) { return pool_2_2(in[0]); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"x is f32[4, 4, 3] of rank 3, but must be [batch, rows, columns, channels] of rank 4; add a "
               "batch of one: "
               "expand_dims(x, 0)",
               [] {
                 pool_2_2(zeros({4, 4, 3}));
               }},
              {"a window of 2 rows does not fit the 1 rows of f32[8, 1, 28, 28]; use a smaller window, or "
               "pad x; if x has "
               "its channels first: permute(x, {0, 2, 3, 1})",
               [] {
                 pool_2_2(zeros({8, 1, 28, 28}));
               }},
              {"a window of 2 columns does not fit the 1 columns of f32[8, 4, 1, 1]; use a smaller window, "
               "or pad x",
               [] {
                 pool_2_2(zeros({8, 4, 1, 1}));
               }},
              {"a window of 2147483648 rows does not fit the 4 rows of f32[1, 4, 4, 1]",
               [] {
                 max_pool2d(zeros({1, 4, 4, 1}), {1LL << 31, 2}, {1, 1});
               }},
              {"a window of 4611686018427387904 columns does not fit the 4 columns of f32[1, 4, 4, 1]",
               [] {
                 max_pool2d(zeros({1, 4, 4, 1}), {2, 1LL << 62}, {1, 1});
               }},
              {"size [0, 2] and strides [1, 1] must be at least 1",
               [] {
                 max_pool2d(zeros({1, 4, 4, 1}), {0, 2}, {1, 1});
               }},
              {"size [2, 2] and strides [2, -1] must be at least 1",
               [] {
                 max_pool2d(zeros({1, 4, 4, 1}), {2, 2}, {2, -1});
               }},
              {"x is u8[1, 4, 4, 1], but pooling needs f32 or f64; convert with cast(x, DType::f32)", [] {
                 pool_2_2(zeros({1, 4, 4, 1}, DType::u8));
               }}};
        },
    .attributes = &attribute_info<Pool2DAttributes>,
    .rows = [](const void*, const Shape&) { return every_input; },
    .per_example = {rows_apart, lift_by_rows}};

constinit const Op records::max_pool2d_gradient_op{
    .name = "max_pool2d_gradient",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::nothrow,
    .about =
        "(x, dy) -> dy at each window's winner in x, 0 elsewhere; linear in dy, and by x the gradient is 0: "
        "the "
        "winners are constant almost everywhere",
    .shape =
        [](const Call& call) {
          check_second(call, "dy", pooled(call));
          return Result{call.dtype(0), call.shape_id(0)};
        },
    .forward = pool2d_gradient,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          return Grads{
              wanted(0) ? zeros_like(dy) : Tensor(),
              wanted(1) ? node(records::max_pool2d_pick_op, y.input(0), dy, y.attributes<Pool2DAttributes>())
                        : Tensor()};
        },
    .examples =
        [] {
          return Examples{{{sample({2, 4, 5, 3}), sample({2, 2, 2, 3})},
                           [](std::span<const Tensor> in) {
                             return node(records::max_pool2d_gradient_op, in[0], in[1], {{2, 2}, {2, 2}});
                           }},
                          {{sample({1, 6, 5, 2}), sample({1, 2, 4, 2})}, [](std::span<const Tensor> in) {
                             return node(records::max_pool2d_gradient_op, in[0], in[1], {{3, 2}, {2, 1}});
                           }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"size [0, 2] and strides [2, 2] must be at least 1",
                           [] {
                             node(records::max_pool2d_gradient_op, zeros({1, 4, 4, 1}), zeros({1, 2, 2, 1}),
                                  {{0, 2}, {2, 2}});
                           }},
                          {"size [2, 2] and strides [2, -1] must be at least 1",
                           [] {
                             node(records::max_pool2d_gradient_op, zeros({1, 4, 4, 1}), zeros({1, 2, 2, 1}),
                                  {{2, 2}, {2, -1}});
                           }},
                          {"a window of 2147483648 rows does not fit the 4 rows of f32[1, 4, 4, 1]",
                           [] {
                             node(records::max_pool2d_gradient_op, zeros({1, 4, 4, 1}), zeros({1, 2, 2, 1}),
                                  {{1LL << 31, 2}, {2, 2}});
                           }},
                          {"a window of 4611686018427387904 columns does not fit the 4 columns",
                           [] {
                             node(records::max_pool2d_gradient_op, zeros({1, 4, 4, 1}), zeros({1, 2, 2, 1}),
                                  {{2, 1LL << 62}, {2, 2}});
                           }},
                          {"x is i64[1, 4, 4, 1], but pooling needs f32 or f64",
                           [] {
                             node(records::max_pool2d_gradient_op, zeros({1, 4, 4, 1}, DType::i64),
                                  zeros({1, 2, 2, 1}), {{2, 2}, {2, 2}});
                           }},
                          {"it must be f32[1, 2, 1, 1] (windows of [2, 2], strides [2, 2147483648])",
                           [] {
                             node(records::max_pool2d_gradient_op, zeros({1, 4, 4, 1}), zeros({1, 2, 2, 1}),
                                  {{2, 2}, {2, 1LL << 31}});
                           }},
                          {"dy is f32[1, 3, 2, 1], but for x f32[1, 4, 4, 1] it must be f32[1, 2, 2, 1]", [] {
                             node(records::max_pool2d_gradient_op, zeros({1, 4, 4, 1}), zeros({1, 3, 2, 1}),
                                  {{2, 2}, {2, 2}});
                           }}};
        },
    .attributes = &attribute_info<Pool2DAttributes>,
    .rows = [](const void*, const Shape&) { return every_input; },
    .per_example = {rows_apart, lift_by_rows},
    .in_place = over_windows};

constinit const Op records::max_pool2d_pick_op{
    .name = "max_pool2d_pick",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::nothrow,
    .about =
        "(x, v) -> v at each window's winner in x; linear in v, and by x the gradient is 0: the winners are "
        "constant "
        "almost everywhere",
    .shape =
        [](const Call& call) {
          const Shape y = pooled(call);
          check_second(call, "v", call.shape(0));
          return Result{call.dtype(0), y};
        },
    .forward = pool2d_pick,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          return Grads{wanted(0) ? zeros_like(y.input(0)) : Tensor(),
                       wanted(1) ? node(records::max_pool2d_gradient_op, y.input(0), dy,
                                        y.attributes<Pool2DAttributes>())
                                 : Tensor()};
        },
    .examples =
        [] {
          return Examples{{{sample({2, 4, 5, 3}), sample({2, 4, 5, 3})},
                           [](std::span<const Tensor> in) {
                             return node(records::max_pool2d_pick_op, in[0], in[1], {{2, 2}, {2, 2}});
                           }},
                          {{sample({1, 6, 5, 2}), sample({1, 6, 5, 2})}, [](std::span<const Tensor> in) {
                             return node(records::max_pool2d_pick_op, in[0], in[1], {{3, 2}, {2, 1}});
                           }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"size [0, 2] and strides [2, 2] must be at least 1",
                           [] {
                             node(records::max_pool2d_pick_op, zeros({1, 4, 4, 1}), zeros({1, 4, 4, 1}),
                                  {{0, 2}, {2, 2}});
                           }},
                          {"size [2, 2] and strides [2, -1] must be at least 1",
                           [] {
                             node(records::max_pool2d_pick_op, zeros({1, 4, 4, 1}), zeros({1, 4, 4, 1}),
                                  {{2, 2}, {2, -1}});
                           }},
                          {"a window of 2147483648 rows does not fit the 4 rows of f32[1, 4, 4, 1]",
                           [] {
                             node(records::max_pool2d_pick_op, zeros({1, 4, 4, 1}), zeros({1, 4, 4, 1}),
                                  {{1LL << 31, 2}, {2, 2}});
                           }},
                          {"a window of 4611686018427387904 columns does not fit the 4 columns",
                           [] {
                             node(records::max_pool2d_pick_op, zeros({1, 4, 4, 1}), zeros({1, 4, 4, 1}),
                                  {{2, 1LL << 62}, {2, 2}});
                           }},
                          {"x is i64[1, 4, 4, 1], but pooling needs f32 or f64",
                           [] {
                             node(records::max_pool2d_pick_op, zeros({1, 4, 4, 1}, DType::i64),
                                  zeros({1, 4, 4, 1}), {{2, 2}, {2, 2}});
                           }},
                          {"v is f32[1, 2, 2, 1], but for x f32[1, 4, 4, 1] it must be f32[1, 4, 4, 1]", [] {
                             node(records::max_pool2d_pick_op, zeros({1, 4, 4, 1}), zeros({1, 2, 2, 1}),
                                  {{2, 2}, {2, 2}});
                           }}};
        },
    .attributes = &attribute_info<Pool2DAttributes>,
    .rows = [](const void*, const Shape&) { return every_input; },
    .per_example = {rows_apart, lift_by_rows}};

Tensor max_pool2d(const Operand& x, std::array<std::int64_t, 2> size, std::array<std::int64_t, 2> strides) {
  const Tensor input = x.tensor("max_pool2d");
  return make(records::max_pool2d_op, {input.node()}, x.where(), Pool2DAttributes{size, strides});
}

}  // namespace opgrad
