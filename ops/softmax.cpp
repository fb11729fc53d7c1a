// Softmax, its logarithm and the cross-entropy, along the last axis. All subtract the greatest entry of a row
// first, so that no exponential overflows.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "../core/parallel.h"
#include "../core/scratch.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

// ------------------------------------------------------------ rows

namespace {

// Some rows of a dense matrix, walked by the kernels of core: each row's result depends on that row alone.
template <class T>
struct Rows {
  std::int64_t rows, columns;

  View matrix(const T* data) const {
    return dense_view(const_cast<T*>(data), {dtype_of<T>, {rows, columns}});
  }
  View column(T* data) const { return dense_view(data, {dtype_of<T>, {rows, 1}}); }
  // One number for each row, repeated along it.
  View spread(T* data) const {
    View v = column(data);
    v.type.shape = {rows, columns};
    v.strides[1] = 0;
    return v;
  }
  // e = exp(x - greatest) and its sum, row by row.
  void exponentials(const T* x, T* e, T* greatest, T* sum) const {
    reduce_max(matrix(x), column(greatest));
    const View in[] = {matrix(x), spread(greatest)};
    map2<[](auto a, auto m) { return exp(a - m); }>.run({.in = in, .out = matrix(e)});
    reduce_sum(matrix(e), column(sum));
  }
};

constexpr std::int64_t chunk_elements = 8192, chunk_rows = 256, long_row = 64;

// Calls body(first row, Rows) for chunks of rows that fit the cache, cut by shape alone. Long rows go one by
// one, so that what is spread along them is a single number.
template <class T, class F>
void for_rows(const View& x, F body) {
  const std::int64_t columns = x.shape().dims().back();
  if (x.numel() == 0) return;
  const std::int64_t rows = x.numel() / columns;
  parallel_ranges(rows, std::clamp<std::int64_t>(chunk_elements / columns, 1, chunk_rows),
                  [&](std::int64_t begin, std::int64_t end) {
                    const std::int64_t step = columns < long_row ? end - begin : 1;
                    for (std::int64_t r = begin; r < end; r += step) body(r, Rows<T>{step, columns});
                  });
}

Result rows_of_floats(const Call& call) {
  const Result r = same_float(call);
  if (call.shape(0).rank() == 0) call.fail(format("{} has no axis to normalise along", type_text(call, 0)));
  return r;
}

void softmax_kernel(const KernelArgs& args) {
  dispatch_float(args.out.dtype(), [&]<class T>() {
    for_rows<T>(args.in[0], [&](std::int64_t row, const Rows<T>& rows) {
      T greatest[chunk_rows], sum[chunk_rows];
      T* const y = args.out.as<T>() + row * rows.columns;
      rows.exponentials(args.in[0].as<T>() + row * rows.columns, y, greatest, sum);
      const View in[] = {rows.matrix(y), rows.spread(sum)};
      map2<[](auto e, auto s) { return e / s; }>.run({.in = in, .out = rows.matrix(y)});
    });
  });
}

void log_softmax_kernel(const KernelArgs& args) {
  dispatch_float(args.out.dtype(), [&]<class T>() {
    for_rows<T>(args.in[0], [&](std::int64_t row, const Rows<T>& rows) {
      T greatest[chunk_rows], sum[chunk_rows];
      const T* const x = args.in[0].as<T>() + row * rows.columns;
      T* const y = args.out.as<T>() + row * rows.columns;
      rows.exponentials(x, y, greatest, sum);
      const View total[] = {rows.column(sum)};
      map1<[](auto s) { return log(s); }>.run({.in = total, .out = rows.column(sum)});
      const View in[] = {rows.matrix(x), rows.spread(greatest), rows.spread(sum)};
      map3<[](auto a, auto m, auto l) { return (a - m) - l; }>.run({.in = in, .out = rows.matrix(y)});
    });
  });
}

using Normal = Tensor (*)(const Operand&, std::int64_t);

template <Normal f>
Examples normals() {
  return {{{sample({3, 5}, -2, 2)}, [](std::span<const Tensor> x) { return f(x[0], -1); }},
          {{sample({4, 2, 3}, -2, 2)}, [](std::span<const Tensor> x) { return f(x[0], 0); }}};
}

template <Normal f>
BadCalls bad_normals() {
  return {{"axis 2 is out of range; with rank 2 it must lie between -2 and 1",
           [] {
             f(zeros({2, 3}), 2);
           }},
          {"axis 4611686018427387904 is out of range",
           [] {
             f(zeros({2, 3}), 1LL << 62);
           }},
          {"axis -1 was given, but the tensor has rank 0", [] { f(zeros({}), -1); }},
          {"needs f32 or f64 and was given i32[2]", [] { f(zeros({2}, DType::i32), -1); }},
          {"an operand is an empty Tensor", [] { f(Tensor(), -1); }}};
}

// Examples in the last axis itself would mix.
Grads along_rows(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
  return y.rank() < 2 ? Grads{} : rows_apart(y, dy, wanted, examples);
}

// Rows of axis 0 are apart unless that is the last axis itself.
std::uint64_t rows_along_last(const void*, const Shape& result) {
  return result.rank() > 1 ? every_input : 0;
}

// The record works along the last axis; other axes go there and back.
Tensor along(const Op& op, const Operand& x, std::int64_t axis) {
  const CallScope scope(x.where());
  const Tensor t = x.tensor(op.name);
  const int i = axis_of(op.name, x.where(), axis, t.rank()), last = t.rank() - 1;
  Axes swapped;
  for (int k = 0; k <= last; ++k) swapped.push_back(k == i ? last : k == last ? i : k);
  return permute(make(op, {permute(t, swapped).node()}, x.where()), swapped);
}

}  // namespace

// ------------------------------------------------------------ softmax

// dy_i/dx_j = y_i (delta_ij - y_j), so dx = y (dy - sum(dy y)).
constinit const Op records::softmax_op{
    .name = "softmax",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "e^x / sum(e^x) along the last axis; NaN in a row that holds NaN or +inf, or only -inf",
    .shape = rows_of_floats,
    .forward = softmax_kernel,
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{(dy - sum(dy * y, {-1}, true)) * y}; },
    .examples = normals<softmax>,
    .bad_calls = bad_normals<softmax>,
    .rows = rows_along_last,
    .per_example = {along_rows, lift_as_is}};
Tensor softmax(const Operand& x, std::int64_t axis) { return along(records::softmax_op, x, axis); }

// dy_i/dx_j = delta_ij - e^(y_j), so dx = dy - e^y sum(dy).
constinit const Op records::log_softmax_op{
    .name = "log_softmax",
    .arity = 1,
    .traits = Traits::dense_inputs,
    .about = "x - log(sum(e^x)) along the last axis; NaN in a row that holds NaN or +inf, or only -inf",
    .shape = rows_of_floats,
    .forward = log_softmax_kernel,
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{dy - exp(y) * sum(dy, {-1}, true)}; },
    .examples = normals<log_softmax>,
    .bad_calls = bad_normals<log_softmax>,
    .rows = rows_along_last,
    .per_example = {along_rows, lift_as_is}};
Tensor log_softmax(const Operand& x, std::int64_t axis) { return along(records::log_softmax_op, x, axis); }

// ------------------------------------------------------------ cross-entropy
//
// y = log(sum(e^x)) - x[label], row by row: dy/dx = softmax(x) - 1[label]. Where the user has the softmax
// already, its node is a third input: the value does not depend on it, the gradient reads it instead of
// computing it again, and who holds it finds it computed by the step.

namespace {

// [batch, classes] and [batch]: what both functions take.
void check_types(const Call& call, const char* what) {
  const Shape &x = call.shape(0), &labels = call.shape(1);
  if (!is_float(call.dtype(0)))
    call.fail(format("the {} are {} and must be f32 or f64", what, type_text(call, 0)));
  if (!is_integer(call.dtype(1)))
    call.fail(format(
        "the labels are {} and must be integers, one class number for each row; convert with cast(labels, "
        "DType::i64), or with argmax if they are one-hot",
        type_text(call, 1)));
  if (x.rank() != 2 || labels.rank() != 1 || x[0] != labels[0])
    call.fail(format("the {} are {} and the labels {}; they must be [batch, classes] and [batch]", what,
                     type_text(call, 0), type_text(call, 1)));
}

template <class I>
void cross_entropy_rows(const KernelArgs& args) {
  const I* const labels = args.in[1].as<I>();
  dispatch_float(args.out.dtype(), [&]<class T>() {
    for_rows<T>(args.in[0], [&](std::int64_t row, const Rows<T>& rows) {
      T greatest[chunk_rows], sum[chunk_rows];
      const Scratch<T> exponentials(rows.rows * rows.columns);
      const T* const x = args.in[0].as<T>() + row * rows.columns;
      T* const y = args.out.as<T>() + row;
      rows.exponentials(x, exponentials.data(), greatest, sum);
      const View total[] = {rows.column(sum)};
      map1<[](auto s) { return log(s); }>.run({.in = total, .out = rows.column(y)});
      for (std::int64_t r = 0; r < rows.rows; ++r)
        y[r] -= x[r * rows.columns + static_cast<std::int64_t>(labels[row + r])] - greatest[r];
    });
  });
}

void cross_entropy_kernel(const KernelArgs& args) {
  check_labels(args.in[1], args.in[0].shape()[1], args.first_row);
  switch (args.in[1].dtype()) {
    case DType::i32:
      return cross_entropy_rows<std::int32_t>(args);
    case DType::u8:
      return cross_entropy_rows<std::uint8_t>(args);
    default:
      return cross_entropy_rows<std::int64_t>(args);
  }
}

Grads cross_entropy_backward(const Tensor& y, const Tensor& dy, Wanted) {
  Grads grads(y.node()->arity);
  const Tensor p = grads.size() == 3 ? y.input(2) : softmax(y.input(0));
  grads[0] = add_along(p * expand_dims(dy, 1), y.input(1), -dy, true, {});
  return grads;
}

Tensor losses(const Tensor& logits, const Tensor& labels, const Tensor& probabilities, Location where) {
  Node* const inputs[] = {logits.node(), labels.node(), probabilities.node()};
  return make_node(records::cross_entropy_op, {inputs, probabilities ? 3u : 2u}, where, nullptr);
}

Tensor folded(const Tensor& losses, Reduction reduction) {
  return reduction == Reduction::mean ? mean(losses) : losses;
}

}  // namespace

constinit const Op records::cross_entropy_op{
    .name = "cross_entropy",
    .arity = -1,
    .traits = Traits::dense_inputs,
    .about =
        "log(sum(e^x)) - x[label] for each row of logits x; dx = dy (softmax(x) - 1[label]); a third input, "
        "if "
        "any, is softmax(x), which the gradient reads",
    .shape =
        [](const Call& call) {
          if (call.arity() < 2 || call.arity() > 3)
            call.fail(format("takes logits, labels and, if known, their softmax, and was given {} inputs",
                             call.arity()));
          check_types(call, "logits");
          if (call.arity() == 3 && (call.shape_id(2) != call.shape_id(0) || call.dtype(2) != call.dtype(0)))
            call.fail(format("the softmax is {} and the logits {}", type_text(call, 2), type_text(call, 0)));
          return Result(call.dtype(0), call.shape_id(1));
        },
    .forward = cross_entropy_kernel,
    .backward = cross_entropy_backward,
    .examples =
        [] {
          return Examples{{{sample({4, 3}, -2, 2), integers({4}, 0, 3)},
                           [](std::span<const Tensor> x) { return cross_entropy_from_logits(x[0], x[1]); }},
                          {{sample({4, 3}, -2, 2), integers({4}, 0, 3, DType::u8)},
                           [](std::span<const Tensor> x) { return cross_entropy(softmax(x[0]), x[1]); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"cross_entropy: the probabilities are f32[4] and the labels i64[4]; they must be "
                           "[batch, classes]",
                           [] { cross_entropy(zeros({4}), zeros({4}, DType::i64)); }},
                          {"cross_entropy: the probabilities are f32[4, 3] and the labels i64[3]",
                           [] {
                             cross_entropy(zeros({4, 3}), zeros({3}, DType::i64));
                           }},
                          {"cross_entropy: the labels are f32[4, 3] and must be integers",
                           [] {
                             cross_entropy(zeros({4, 3}), zeros({4, 3}));
                           }},
                          {"cross_entropy: the logits are i32[4, 3] and must be f32 or f64",
                           [] {
                             cross_entropy_from_logits(zeros({4, 3}, DType::i32), zeros({4}, DType::i64));
                           }},
                          {"cross_entropy: label 10 at position [1] is outside [0, 10), the 10 classes",
                           [] {
                             cross_entropy(softmax(zeros({2, 10})), tensor<std::int64_t>({9, 10})).item();
                           }},
                          {"cross_entropy: label -1 at position [0] is outside [0, 10), the 10 classes",
                           [] {
                             cross_entropy(zeros({2, 10}), tensor<std::int32_t>({-1, 0})).item();
                           }},
                          {"cross_entropy: an operand is an empty Tensor", [] {
                             cross_entropy(zeros({2, 3}), Tensor());
                           }}};
        },
    .rows = [](const void*, const Shape&) { return every_input; },
    .per_example = {rows_apart, lift_by_rows}};

Tensor cross_entropy_from_logits(const Operand& logits, const Operand& labels, Reduction reduction) {
  const CallScope scope(logits.where());
  return folded(losses(logits.tensor("cross_entropy"), labels.tensor("cross_entropy"), {}, logits.where()),
                reduction);
}

// An entry of `probabilities` that is 0 has no logarithm; but where they come from a softmax node, its logits
// say how small the entry was. Otherwise the entry of the label is clipped to [1e-7, 1], and clipped it has
// gradient 0.
Tensor cross_entropy(const Operand& probabilities, const Operand& labels, Reduction reduction) {
  const CallScope scope(probabilities.where());
  const Tensor p = probabilities.tensor("cross_entropy"), t = labels.tensor("cross_entropy");
  if (made_by(p, records::softmax_op))
    return folded(losses(p.input(0), t, p, probabilities.where()), reduction);
  const std::array nodes{p.node(), t.node()};
  try {
    check_types({records::cross_entropy_op, nodes, nullptr}, "probabilities");
  } catch (const UserError& e) {
    throw UserError(format("{}\n  at {}", e.what(), to_string(*origin_at(probabilities.where()))));
  }
  const Tensor entry = take_along(p, t, true, probabilities.where());
  return -folded(log(minimum(maximum(entry, 1e-7), 1)), reduction);
}

}  // namespace opgrad
