// gather and scatter_add, adjoint to each other: whole rows, by tensors of integers.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "../core/parallel.h"
#include "define.h"
#include "example_rules.h"
#include "indices.h"

namespace opgrad {

using fmt::format;

namespace {

struct RowsAttributes {
  std::int64_t rows = 0;
  static constexpr auto fields() { return std::tuple{field("rows", &RowsAttributes::rows)}; }
};

Result gather_shape(const Call& call) {
  need_integers(call, 1);
  const Shape& x = call.shape(0);
  if (x.rank() == 0) call.fail(format("x is {} and has no rows", type_text(call, 0)));
  return {call.dtype(0), joined(call.shape(1), x.dims().subspan(1))};
}

void gather_kernel(const KernelArgs& args) {
  const View &x = args.in[0], &indices = args.in[1], &y = args.out;
  const std::int64_t rows = x.shape()[0];
  dispatch_integer(indices.dtype(), [&]<class I>() {
    check_range("gather", indices, rows);
    if (y.numel() == 0) return;
    const std::size_t bytes = static_cast<std::size_t>(x.numel() / rows) * size_of(x.dtype());
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / static_cast<std::int64_t>(bytes));
    parallel_ranges(indices.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k)
        std::memcpy(y.as<std::byte>() + static_cast<std::size_t>(k) * bytes,
                    x.as<std::byte>() + static_cast<std::size_t>(indices.as<I>()[k]) * bytes, bytes);
    });
  });
}

Result scatter_add_shape(const Call& call) {
  need_integers(call, 0);
  const Shape &indices = call.shape(0), &updates = call.shape(1);
  const std::int64_t rows = call.attributes<RowsAttributes>().rows;
  if (rows < 0) call.fail(format("{} rows were asked for; give 0 or more", rows));
  if (call.dtype(1) == DType::bool_)
    call.fail(format("the updates are {} and must be numbers", type_text(call, 1)));
  const auto whole = static_cast<std::size_t>(indices.rank());
  if (updates.rank() < indices.rank() || !std::ranges::equal(updates.dims().first(whole), indices.dims()))
    call.fail(format("updates {} must begin with the sizes of the indices, {}", to_string(updates),
                     to_string(indices)));
  const std::array first{rows};
  return {call.dtype(1), joined(Shape(first), updates.dims().subspan(whole))};
}

// Threads share the columns out, so that every element adds its updates in their order.
void scatter_add_kernel(const KernelArgs& args) {
  const View &indices = args.in[0], &updates = args.in[1], &y = args.out;
  const std::int64_t rows = y.shape()[0], count = indices.numel();
  dispatch_integer(indices.dtype(), [&]<class I>() {
    check_range("scatter_add", indices, rows);
    if (y.numel() == 0) return;
    const std::int64_t columns = y.numel() / rows;
    dispatch(y.dtype(), [&]<class T>() {
      parallel_ranges(columns, 256, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = 0; r < rows; ++r)
          std::fill(y.as<T>() + r * columns + begin, y.as<T>() + r * columns + end, T{0});
        for (std::int64_t k = 0; k < count; ++k) {
          T* const to = y.as<T>() + static_cast<std::int64_t>(indices.as<I>()[k]) * columns;
          const T* const from = updates.as<T>() + k * columns;
          for (std::int64_t c = begin; c < end; ++c) to[c] = static_cast<T>(to[c] + from[c]);
        }
      });
    });
  });
}

// The first axis moved behind the `count` axes that follow it; or back to the front.
Tensor swapped(const Tensor& x, int count, bool back = false) {
  Axes order;
  for (int i = 0; i < x.rank(); ++i)
    order.push_back(i > count ? i : back ? (i == 0 ? count : i - 1) : (i == count ? 0 : i + 1));
  return permute(x, order);
}

// Every example adds to a table of its own: that of example b begins at row b * rows of one long table. An
// index is read from the list of all first, which refuses one that is out of range before it could reach the
// table of another.
Grads gather_by_example(const Tensor& y, const Tensor& dy, Wanted, std::int64_t examples) {
  const Tensor x = y.input(0), index = y.input(1);
  if (index.rank() == 0) return {};
  const std::int64_t rows = x.dim(0);
  std::vector<std::int64_t> all(static_cast<std::size_t>(rows)), first(static_cast<std::size_t>(examples));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  for (std::size_t b = 0; b < first.size(); ++b) first[b] = static_cast<std::int64_t>(b) * rows;
  const Tensor checked = reshape(gather(tensor(all, {rows}), index), {examples, -1});
  const Tensor place = reshape(checked + tensor(first, {examples, 1}), index.shape());
  return {reshape(scatter_add(place, dy, examples * rows), in_front(examples, x.shape())), Tensor()};
}

}  // namespace

constinit const Op records::gather_op{
    .name = "gather",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::linear,
    .about = "y[i..., :] = x[index[i...], :], rows of x; adjoint: scatter_add",
    .shape = gather_shape,
    .forward = gather_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted) {
          return Grads{scatter_add(y.input(1), dy, y.input(0).shape()[0]), Tensor()};
        },
    .examples =
        [] {
          return Examples{{{sample({4, 3}), integers({2, 3}, 0, 4)},
                           [](std::span<const Tensor> x) { return gather(x[0], x[1]); }},
                          {{sample({5}), integers({7}, 0, 5, DType::i32)},
                           [](std::span<const Tensor> x) { return gather(x[0], x[1]); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"gather: the indices are f32[2] and must be integers", [] { gather(zeros({3}), zeros({2})); }},
              {"gather: x is f32[] and has no rows", [] { gather(zeros({}), zeros({2}, DType::i64)); }},
              {"gather: index 3 at position [1, 0] is outside [0, 3)",
               [] {
                 gather(zeros({3, 2}), tensor<std::int64_t>({{0, 2}, {3, -1}})).values<float>();
               }},
              {"gather: index -1 at position [0] is outside [0, 3)",
               [] { gather(zeros({3}), full({1}, -1, DType::i32)).values<float>(); }},
              {"gather: index 4611686018427387904 at position [] is outside [0, 3)",
               [] { gather(zeros({3}), full({}, 4611686018427387904.0, DType::i64)).values<float>(); }}};
        },
    .per_example = {gather_by_example, [](const Tensor& y, std::span<const Tensor> inputs) {
                      const Tensor rows = gather(swapped(inputs[0], 1), y.input(1));
                      return swapped(rows, y.input(1).rank(), true);
                    }}};

constinit const Op records::scatter_add_op{
    .name = "scatter_add",
    .arity = 2,
    .traits = Traits::dense_inputs | Traits::linear,
    .about = "y[r, :] = the sum of updates[i..., :] where index[i...] = r, in their order; adjoint: gather",
    .shape = scatter_add_shape,
    .forward = scatter_add_kernel,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted) {
          return Grads{Tensor(), gather(dy, y.input(0))};
        },
    .examples =
        [] {
          return Examples{{{integers({2, 3}, 0, 4), sample({2, 3, 2})},
                           [](std::span<const Tensor> x) { return scatter_add(x[0], x[1], 4); }},
                          {{integers({6}, 0, 3, DType::u8), sample({6})},
                           [](std::span<const Tensor> x) { return scatter_add(x[0], x[1], 5); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"scatter_add: the indices are f32[2] and must be integers",
                           [] { scatter_add(zeros({2}), zeros({2}), 3); }},
                          {"scatter_add: updates [3, 2] must begin with the sizes of the indices, [2]",
                           [] {
                             scatter_add(zeros({2}, DType::i64), zeros({3, 2}), 3);
                           }},
                          {"scatter_add: -1 rows were asked for",
                           [] { scatter_add(zeros({2}, DType::i64), zeros({2}), -1); }},
                          {"scatter_add: the shape [4611686018427387904] has more than 2^56",
                           [] { scatter_add(zeros({2}, DType::i64), zeros({2}), 1LL << 62); }},
                          {"scatter_add: the updates are bool[2] and must be numbers",
                           [] { scatter_add(zeros({2}, DType::i64), zeros({2}, DType::bool_), 3); }},
                          {"scatter_add: index 5 at position [1] is outside [0, 5)", [] {
                             scatter_add(tensor<std::int32_t>({0, 5}), zeros({2}), 5).values<float>();
                           }}};
        },
    .attributes = &attribute_info<RowsAttributes>,
    .per_example = {.lift = [](const Tensor& y, std::span<const Tensor> inputs) {
      const Tensor updates = swapped(inputs[1], y.input(0).rank(), false);
      return swapped(scatter_add(y.input(0), updates, y.dim(0)), 1, true);
    }}};

Tensor gather(const Operand& x, const Operand& indices) {
  return make(records::gather_op, {x.tensor("gather").node(), indices.tensor("gather").node()}, x.where());
}

Tensor scatter_add(const Operand& indices, const Operand& updates, std::int64_t rows) {
  return make(records::scatter_add_op,
              {indices.tensor("scatter_add").node(), updates.tensor("scatter_add").node()}, indices.where(),
              RowsAttributes{rows});
}

}  // namespace opgrad
