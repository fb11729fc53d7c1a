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

// ------------------------------------------------------------ errors

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
    if (c) refuse(operation, where, format("axis {} is named twice in {}", axis, field_text(axes)));
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

Tensor number_like(const char* operation, double number, const Tensor& x, Location where) {
  if (!fits(number, x.dtype()))
    refuse(
        operation, where,
        format("the number {} does not fit the elements of {}; convert the tensor first: cast(x, DType::f32)",
               number, type_text(x)));
  return full(x.shape(), number, x.dtype(), where.file, where.line);
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

Tensor unary(const Op& op, const Operand& x) { return make(op, {x.tensor(op.name).node()}, x.where()); }

Tensor binary(const Op& op, const Operand& a, const Operand& b) {
  const Pair p = align(op.name, a, b);
  return make(op, {p.a.node(), p.b.node()}, a.where());
}

// ------------------------------------------------------------ examples

Sample sample(const Shape& shape, double low, double high) { return {shape, low, high, DType::f64}; }
Sample integers(const Shape& shape, double low, double high, DType dtype) {
  return {shape, low, high, dtype};
}

}  // namespace opgrad
