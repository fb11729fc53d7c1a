// take_along and add_along, adjoint to each other: one entry of each row, by tensors of integers.
#include <fmt/format.h>

#include <algorithm>

#include "../core/scratch.h"
#include "define.h"
#include "example_rules.h"
#include "indices.h"

namespace opgrad {

using fmt::format;

namespace {

struct AlongAttributes {
  bool labels = false;  // the indices are the labels of a cross-entropy: its errors speak of those
  static constexpr auto fields() { return std::tuple{field("labels", &AlongAttributes::labels)}; }
};

// x [.., n] and index [..] fit.
void check_along(const Call& call) {
  need_integers(call, 1);
  const Shape &x = call.shape(0), &index = call.shape(1);
  if (x.rank() == 0 ||
      !std::ranges::equal(x.dims().first(static_cast<std::size_t>(x.rank() - 1)), index.dims()))
    call.fail(format("the index is {} and must have the sizes of x, {}, without the last", to_string(index),
                     to_string(x)));
}

Result take_along_shape(const Call& call) {
  check_along(call);
  return {call.dtype(0), call.shape_id(1)};
}

Result add_along_shape(const Call& call) {
  check_along(call);
  if (call.dtype(2) != call.dtype(0) || call.shape_id(2) != call.shape_id(1) || call.dtype(0) == DType::bool_)
    call.fail(format(
        "the updates are {} and must be numbers of x's element type, with the sizes of the index, {}; x "
        "is {}",
        type_text(call, 2), to_string(call.shape(1)), type_text(call, 0)));
  return {call.dtype(0), call.shape_id(0)};
}

void take_along_kernel(const KernelArgs& args) {
  const View &x = args.in[0], &index = args.in[1], &y = args.out;
  const std::int64_t n = x.shape().dims().back();
  dispatch_integer(index.dtype(), [&]<class I>() {
    check_range("take_along", index, n, args.attributes<AlongAttributes>().labels, args.first_row);
    dispatch(x.dtype(), [&]<class T>() {
      for (std::int64_t r = 0; r < index.numel(); ++r)
        y.as<T>()[r] = x.as<T>()[r * n + static_cast<std::int64_t>(index.as<I>()[r])];
    });
  });
}

// x is often one repeated zero, so it may have any strides; the two others are dense by the shape of the
// walk.
void add_along_kernel(const KernelArgs& args) {
  const View &x = args.in[0], &index = args.in[1], &updates = args.in[2], &y = args.out;
  const std::int64_t n = x.shape().dims().back();
  const auto place = [&](const View& v, std::int64_t r) { return detail::offset_of(v, r); };
  dispatch_integer(index.dtype(), [&]<class I>() {
    const Scratch<I> dense(index.numel());
    copy(index, dense_view(dense.data(), index.type));
    check_range("add_along", dense_view(dense.data(), index.type), n,
                args.attributes<AlongAttributes>().labels, args.first_row);
    copy(x, y);
    dispatch(x.dtype(), [&]<class T>() {
      for (std::int64_t row = 0; row < index.numel(); ++row) {
        T& to = y.as<T>()[row * n + static_cast<std::int64_t>(dense[row])];
        to = static_cast<T>(to + updates.as<T>()[place(updates, row)]);
      }
    });
  });
}

// Rows of axis 0 are apart, unless it is the axis of the indices.
std::uint64_t rows_of_take(const void*, const Shape&) { return every_input; }
std::uint64_t rows_of_add(const void*, const Shape& result) { return result.rank() > 1 ? every_input : 0; }

bool labels_of(const Tensor& y) { return y.attributes<AlongAttributes>().labels; }

}  // namespace

Tensor take_along(const Tensor& x, const Tensor& index, bool labels, Location where) {
  return make(records::take_along_op, {x.node(), index.node()}, where, AlongAttributes{labels});
}
Tensor add_along(const Tensor& x, const Tensor& index, const Tensor& updates, bool labels, Location where) {
  return make(records::add_along_op, {x.node(), index.node(), updates.node()}, where,
              AlongAttributes{labels});
}

Tensor take_along(const Operand& x, const Operand& index) {
  return take_along(x.tensor("take_along"), index.tensor("take_along"), false, x.where());
}

constinit const Op records::take_along_op{
    .name = "take_along",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::linear,
    .about = "y[i...] = x[i..., index[i...]], one entry of each row; adjoint: add_along to zeros",
    .shape = take_along_shape,
    .forward = take_along_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted) {
          return Grads{add_along(zeros_like(y.input(0)), y.input(1), dy, labels_of(y), {}), Tensor()};
        },
    .examples =
        [] {
          return Examples{{{sample({2, 3, 4}), integers({2, 3}, 0, 4)},
                           [](std::span<const Tensor> x) { return take_along(x[0], x[1]); }},
                          {{sample({5}), integers({}, 0, 5, DType::u8)},
                           [](std::span<const Tensor> x) { return take_along(x[0], x[1]); }},
                          {{sample({3, 4}, 0.1, 0.9), integers({3}, 0, 4, DType::i32)},
                           [](std::span<const Tensor> x) { return cross_entropy(x[0], x[1]); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"take_along: the indices are f32[2] and must be integers",
               [] {
                 take_along(zeros({2, 3}), zeros({2}));
               }},
              {"take_along: the index is [3] and must have the sizes of x, [2, 3], without the last",
               [] {
                 take_along(zeros({2, 3}), zeros({3}, DType::i64));
               }},
              {"take_along: the index is [] and must have the sizes of x, []",
               [] { take_along(zeros({}), zeros({}, DType::i64)); }},
              {"take_along: index 3 at position [1] is outside [0, 3)", [] {
                 take_along(zeros({2, 3}), tensor<std::int64_t>({0, 3})).values<float>();
               }}};
        },
    .attributes = &attribute_info<AlongAttributes>,
    .rows = rows_of_take,
    .per_example = {rows_apart, lift_as_is}};

constinit const Op records::add_along_op{
    .name = "add_along",
    .arity = 3,
    .traits = Traits::linear,
    .about = "y = x, with updates[i...] added to y[i..., index[i...]]",
    .shape = add_along_shape,
    .forward = add_along_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          return Grads{dy, Tensor(), wanted(2) ? take_along(dy, y.input(1), labels_of(y), {}) : Tensor()};
        },
    .examples =
        [] {
          return Examples{{{sample({2, 3, 4}), integers({2, 3}, 0, 4), sample({2, 3})},
                           [](std::span<const Tensor> x) { return add_along(x[0], x[1], x[2], false, {}); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"add_along: the indices are f32[2] and must be integers",
               [] {
                 add_along(zeros({2, 3}), zeros({2}), zeros({2}), false, {});
               }},
              {"add_along: the index is [3] and must have the sizes of x, [2, 3], without the last",
               [] {
                 add_along(zeros({2, 3}), zeros({3}, DType::i64), zeros({3}), false, {});
               }},
              {"add_along: the updates are f32[3] and must be numbers of x's element type",
               [] {
                 add_along(zeros({2, 3}), zeros({2}, DType::i64), zeros({3}), false, {});
               }},
              {"with the sizes of the index, [2]; x is bool[2, 3]",
               [] {
                 add_along(zeros({2, 3}, DType::bool_), zeros({2}, DType::i64), zeros({2}, DType::bool_),
                           false, {});
               }},
              {"add_along: the updates are f64[2] and must be numbers of x's element type",
               [] {
                 add_along(zeros({2, 3}), zeros({2}, DType::i64), zeros({2}, DType::f64), false, {});
               }},
              {"cross_entropy: label 3 at position [0] is outside [0, 3), the 3 classes", [] {
                 add_along(zeros({1, 3}), full({1}, 3, DType::i64), zeros({1}), true, {}).values<float>();
               }}};
        },
    .attributes = &attribute_info<AlongAttributes>,
    .rows = rows_of_add,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      return y.rank() < 2 ? Grads{} : rows_apart(y, dy, wanted, examples);
                    },
                    lift_as_is}};

}  // namespace opgrad
