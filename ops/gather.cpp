// Indexing by tensors of integers. Adjoint pairs: gather and scatter_add (whole rows), take_along and
// add_along (one entry of each row).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "../core/parallel.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

void need_integers(const Call& call, int i) {
  if (!is_integer(call.dtype(i)))
    call.fail(format("the indices are {} and must be integers; convert with cast(x, DType::i64)",
                     type_text(call, i)));
}

// Throws for the first index outside [0, limit). `labels`: they are the classes of a cross-entropy.
template <class I>
void check_range(const char* operation, const View& indices, std::int64_t limit, bool labels = false) {
  const I* index = indices.as<I>();
  const std::int64_t n = indices.numel();
  for (std::int64_t k = 0; k < n; ++k) {
    const auto i = static_cast<std::int64_t>(index[k]);
    if (i >= 0 && i < limit) continue;
    std::array<std::int64_t, max_rank> at{};
    std::int64_t rest = k;
    for (int axis = indices.shape().rank() - 1; axis >= 0; rest /= indices.shape()[axis--])
      at[static_cast<std::size_t>(axis)] = rest % indices.shape()[axis];
    const std::string position =
        format("{}", fmt::join(std::span(at.data(), static_cast<std::size_t>(indices.shape().rank())), ", "));
    if (labels)
      throw UserError(
          format("cross_entropy: label {} at position [{}] is outside [0, {}), the {} classes; check the "
                 "labels and the width of the last layer",
                 i, position, limit, limit));
    throw UserError(
        format("{}: index {} at position [{}] is outside [0, {})", operation, i, position, limit));
  }
}

// Calls f.template operator()<I>() with the C++ type of an integer dtype.
template <class F>
void dispatch_integer(DType t, F f) {
  if (t == DType::i32) return f.template operator()<std::int32_t>();
  if (t == DType::u8) return f.template operator()<std::uint8_t>();
  f.template operator()<std::int64_t>();
}

Shape joined(const Shape& head, std::span<const std::int64_t> tail) {
  std::vector<std::int64_t> dims(head.begin(), head.end());
  dims.insert(dims.end(), tail.begin(), tail.end());
  return Shape(dims);
}

}  // namespace

void check_labels(const View& labels, std::int64_t classes) {
  dispatch_integer(labels.dtype(),
                   [&]<class I>() { check_range<I>("cross_entropy", labels, classes, true); });
}

// ------------------------------------------------------------ gather, scatter_add

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
    check_range<I>("gather", indices, rows);
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
    check_range<I>("scatter_add", indices, rows);
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

// ------------------------------------------------------------ take_along, add_along

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
    check_range<I>("take_along", index, n, args.attributes<AlongAttributes>().labels);
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
    std::vector<I> dense(static_cast<std::size_t>(index.numel()));
    copy(index, dense_view(dense.data(), index.type));
    check_range<I>("add_along", dense_view(dense.data(), index.type), n,
                   args.attributes<AlongAttributes>().labels);
    copy(x, y);
    dispatch(x.dtype(), [&]<class T>() {
      for (std::size_t r = 0; r < dense.size(); ++r) {
        const auto row = static_cast<std::int64_t>(r);
        T& to = y.as<T>()[row * n + static_cast<std::int64_t>(dense[r])];
        to = static_cast<T>(to + updates.as<T>()[place(updates, row)]);
      }
    });
  });
}

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
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      return y.rank() < 2 ? Grads{} : rows_apart(y, dy, wanted, examples);
                    },
                    lift_as_is}};

// ------------------------------------------------------------ one_hot

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
    check_range<I>("one_hot", indices, depth);
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
