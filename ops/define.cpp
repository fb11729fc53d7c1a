// Shape rules, alignment of operands and errors that many operations share.
#include "define.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace opgrad {

using fmt::format;

// ------------------------------------------------------------ shape rules

Result same(const Call& call) {
  for (int i = 1; i < call.arity(); ++i)
    if (call.dtype(i) != call.dtype(0) || call.shape_id(i) != call.shape_id(0))
      call.fail(format(
          "inputs 0 and {} have types {} and {}, which must be equal; cast or broadcast_to one of them", i,
          type_text(call, 0), type_text(call, i)));
  return {call.dtype(0), call.shape_id(0)};
}

Result same_float(const Call& call) {
  const Result r = same(call);
  if (!is_float(r.dtype))
    call.fail(
        format("needs f32 or f64 and was given {}; convert with cast(x, DType::f32)", type_text(call, 0)));
  return r;
}

Result same_number(const Call& call) {
  const Result r = same(call);
  if (r.dtype == DType::bool_)
    call.fail(format("needs numbers and was given {}; convert with cast(x, DType::f32)", type_text(call, 0)));
  return r;
}

Result same_to_bool(const Call& call) { return {DType::bool_, same(call).shape}; }

namespace {

// What an outsider meets who made the node without a maker.
void need_aligned(const Call& call) {
  if (call.arity() < 2)
    call.fail(format("broadcast is the rule of two or more inputs, and there is {}; write same_float",
                     call.arity()));
  for (int i = 1; i < call.arity(); ++i)
    if (call.dtype(i) != call.dtype(0) || call.shape_id(i) != call.shape_id(0))
      call.fail(
          format("inputs 0 and {} arrive as {} and {}, which are not one type: make the node with "
                 "binary, ternary or nary, which broadcast and convert",
                 i, type_text(call, 0), type_text(call, i)));
}

// The engine keeps a node's attributes only if the record names their type.
bool keeps_axes(const Op& op) { return op.attributes && op.attributes->size == sizeof(ReduceAttributes); }
constexpr const char* no_axes =
    "the record of a reduction must say .attributes = &attribute_info<ReduceAttributes>";

Shape reduced(const Call& call) {
  if (!keeps_axes(call.op)) call.fail(no_axes);
  const Axes& axes = call.attributes<ReduceAttributes>().axes;
  need_axes(call, axes);
  return without_axes(call.shape(0), axes, true);
}

}  // namespace

Result broadcast(const Call& call) {
  need_aligned(call);
  return same_float(call);
}

Result broadcast_number(const Call& call) {
  need_aligned(call);
  return same_number(call);
}

Result reduce(const Call& call) { return {same_float(call).dtype, reduced(call)}; }
Result reduce_number(const Call& call) { return {same_number(call).dtype, reduced(call)}; }

std::uint64_t rows_of_reduction(const void* attributes, const Shape&) {
  const Axes& axes = static_cast<const ReduceAttributes*>(attributes)->axes;
  return std::ranges::count(axes, 0) > 0 ? 0 : every_input;
}

Shape without_axes(const Shape& shape, const Axes& axes, bool keepdims) {
  std::array<std::int64_t, max_rank> dims{};
  std::size_t rank = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    const bool folded = std::ranges::count(axes, i) > 0;
    if (folded && !keepdims) continue;
    dims[rank++] = folded ? 1 : shape[i];
  }
  return Shape(std::span(dims.data(), rank));
}

// ------------------------------------------------------------ errors

void need_axes(const Call& call, const Axes& axes) {
  const int rank = call.shape(0).rank();
  for (int i = 0; i < axes.size(); ++i) {
    if (axes[i] < 0 || axes[i] >= rank)
      call.fail(format("axis {} of {} is out of range; for {} it must be at least 0 and less than {}",
                       axes[i], field_text(axes), type_text(call, 0), rank));
    if (i > 0 && axes[i] <= axes[i - 1])
      call.fail(format("axis {} of {} does not come after {}; name each axis once, in rising order", axes[i],
                       field_text(axes), axes[i - 1]));
  }
}

void refuse(const char* operation, Location where, const std::string& message) {
  throw UserError(format("{}: {}\n  at {}", operation, message, to_string(*origin_at(where))));
}

int axis_of(const char* operation, Location where, std::int64_t axis, int rank) {
  if (rank == 0)
    refuse(operation, where, format("axis {} was given, but the tensor has rank 0 and no axes", axis));
  if (axis < -rank || axis >= rank)
    refuse(operation, where,
           format("axis {} is out of range; with rank {} it must lie between {} and {}", axis, rank, -rank,
                  rank - 1));
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Axes axes_of(const char* operation, Location where, const Axes& axes, int rank) {
  std::array<bool, max_rank> chosen{};
  for (const std::int64_t axis : axes) {
    bool& c = chosen[static_cast<std::size_t>(axis_of(operation, where, axis, rank))];
    if (c)
      refuse(operation, where,
             format("axis {} is named twice in {} for rank {}", axis, field_text(axes), rank));
    c = true;
  }
  Axes sorted;
  for (int i = 0; i < rank; ++i)
    if (axes.size() == 0 || chosen[static_cast<std::size_t>(i)]) sorted.push_back(i);
  return sorted;
}

bool fits(double number, DType dtype) {
  constexpr double two_31 = 2147483648.0, two_63 = 9223372036854775808.0;
  if (is_float(dtype)) return true;
  if (std::trunc(number) != number) return false;  // NaN too
  switch (dtype) {
    case DType::i32:
      return number >= -two_31 && number < two_31;
    case DType::i64:
      return number >= -two_63 && number < two_63;
    case DType::u8:
      return number >= 0 && number <= 255;
    default:
      return number == 0 || number == 1;
  }
}

std::string type_text(const Tensor& x) { return to_string(Type{x.dtype(), x.shape()}); }
std::string type_text(const Call& call, int i) { return to_string(Type{call.dtype(i), call.shape(i)}); }

// ------------------------------------------------------------ nodes

Tensor broadcast_node(const Tensor& x, const Shape& shape, Location where) {
  if (x.shape() == shape) return x;
  return broadcast_to(Operand(x, where.file, where.line), shape);
}

Tensor reshape_node(const Tensor& x, const Shape& shape, Location where) {
  return reshape(Operand(x, where.file, where.line), shape);
}

Tensor cast_node(const Tensor& x, DType dtype, Location where) {
  return cast(Operand(x, where.file, where.line), dtype);
}

namespace {
Tensor number_like(const char* operation, double number, Node& x, Location where) {
  if (!fits(number, x.dtype))
    refuse(
        operation, where,
        format("the number {} does not fit the elements of {}; convert the tensor first: cast(x, DType::f32)",
               number, type_text(Tensor::share(&x))));
  return full_like(x, number, where);
}
}  // namespace

Tensor number_like(const char* operation, double number, const Tensor& x, Location where) {
  return number_like(operation, number, *x.node(), where);
}

std::optional<double> number_of(const Tensor& x) {
  const Node* n = x.node();
  if (n->op != &structural::number || n->has(node_flag::slot)) return std::nullopt;
  return n->u.number;
}

bool made_by(const Tensor& x, const Op& op) {
  return x.node()->op == &op && !x.node()->has(node_flag::released);
}

// ------------------------------------------------------------ operands

namespace {
bool one_type(const Node& a, const Node& b) { return a.shape == b.shape && a.dtype == b.dtype; }
}  // namespace

Pair align(const char* operation, const Operand& a, const Operand& b) {
  const Location where = a.where();
  if (a.is_number() && !b.is_number()) {
    Tensor t = b.tensor(operation);
    return {number_like(operation, a.number(), t, where), std::move(t)};
  }
  Tensor x = a.tensor(operation);
  if (b.is_number()) {
    Tensor number = number_like(operation, b.number(), x, where);
    return {std::move(x), std::move(number)};
  }
  Tensor y = b.tensor(operation);
  const std::optional<DType> dtype = promote(x.dtype(), y.dtype());
  if (!dtype)
    refuse(operation, where,
           format("{} and {} have element types that do not mix; convert one of them: cast(x, DType::{})",
                  type_text(x), type_text(y), name_of(is_float(x.dtype()) ? x.dtype() : y.dtype())));
  if (x.node()->shape != y.node()->shape) {
    const Shape shape = [&] {
      try {
        return broadcast_shapes(x.shape(), y.shape());
      } catch (const UserError& e) {
        refuse(operation, where, e.what());
      }
    }();
    x = broadcast_node(cast_node(x, *dtype, where), shape, where);
    y = broadcast_node(cast_node(y, *dtype, where), shape, where);
  } else if (x.dtype() != y.dtype()) {
    x = cast_node(x, *dtype, where);
    y = cast_node(y, *dtype, where);
  }
  return {std::move(x), std::move(y)};
}

std::vector<Tensor> align(const char* operation, std::span<const Operand> operands) {
  internal_check(!operands.empty(), "align: at least one operand");
  const Location where = operands[0].where();
  const bool all_numbers = std::ranges::all_of(operands, &Operand::is_number);
  std::vector<Tensor> tensors(operands.size());
  std::optional<Type> common;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].is_number() && !all_numbers) continue;
    const Tensor& t = tensors[i] = operands[i].tensor(operation);
    if (!common) {
      common = {t.dtype(), t.shape()};
      continue;
    }
    const std::optional<DType> dtype = promote(common->dtype, t.dtype());
    if (!dtype)
      refuse(operation, where,
             format("{} and {} have element types that do not mix; convert one of them: cast(x, DType::{})",
                    to_string(*common), type_text(t),
                    name_of(is_float(common->dtype) ? common->dtype : t.dtype())));
    try {
      common = {*dtype, broadcast_shapes(common->shape, t.shape())};
    } catch (const UserError& e) {
      refuse(operation, where, e.what());
    }
  }
  const Tensor* some = nullptr;
  for (Tensor& t : tensors)
    if (t) {
      t = broadcast_node(cast_node(t, common->dtype, where), common->shape, where);
      some = &t;
    }
  for (std::size_t i = 0; i < operands.size(); ++i)
    if (!tensors[i]) tensors[i] = number_like(operation, operands[i].number(), *some, where);
  return tensors;
}

// The makers are called for every node of a pointwise graph: where nothing has to be aligned they borrow the
// operands' nodes.

Tensor unary(const Op& op, const Operand& x) {
  if (Node* const n = x.node()) return make(op, {n}, x.where());
  return make(op, {x.tensor(op.name).node()}, x.where());
}

Tensor binary(const Op& op, const Operand& a, const Operand& b) {
  Node *const x = a.node(), *const y = b.node();
  if (x && y && one_type(*x, *y)) return make(op, {x, y}, a.where());
  if (x && b.is_number()) {
    const Tensor number = number_like(op.name, b.number(), *x, a.where());
    return make(op, {x, number.node()}, a.where());
  }
  if (y && a.is_number()) {
    const Tensor number = number_like(op.name, a.number(), *y, a.where());
    return make(op, {number.node(), y}, a.where());
  }
  const Pair p = align(op.name, a, b);
  return make(op, {p.a.node(), p.b.node()}, a.where());
}

Tensor ternary(const Op& op, const Operand& a, const Operand& b, const Operand& c) {
  return nary(op, std::array{a, b, c});
}

Tensor nary(const Op& op, std::span<const Operand> operands) {
  std::array<Node*, most_inputs> nodes{};
  const auto of_one_type = [&](const Operand& o) {
    return o.node() && one_type(*o.node(), *operands[0].node());
  };
  if (!operands.empty() && operands.size() <= nodes.size() && std::ranges::all_of(operands, of_one_type)) {
    std::ranges::transform(operands, nodes.begin(), &Operand::node);
    return make_node(op, std::span(nodes).first(operands.size()), operands[0].where(), nullptr);
  }
  const std::vector<Tensor> aligned = align(op.name, operands);
  std::vector<Node*> inputs;
  for (const Tensor& t : aligned) inputs.push_back(t.node());
  return make_node(op, inputs, operands[0].where(), nullptr);
}

Tensor reduction(const Op& op, const Operand& x, const Axes& axes, bool keepdims) {
  if (!keeps_axes(op)) refuse(op.name, x.where(), no_axes);
  const Tensor t = x.tensor(op.name);
  const Axes folded = axes_of(op.name, x.where(), axes, t.rank());
  const Tensor y = make(op, {t.node()}, x.where(), ReduceAttributes{folded});
  return reshape_node(y, without_axes(t.shape(), folded, keepdims), x.where());
}

// ------------------------------------------------------------ examples

Sample sample(const Shape& shape, double low, double high) { return {shape, low, high, DType::f64}; }
Sample integers(const Shape& shape, double low, double high, DType dtype) {
  return {shape, low, high, dtype};
}

}  // namespace opgrad
