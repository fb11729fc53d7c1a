// Jacobians by rows, Hessians as Jacobians of gradients, and products with vectors by two sweeps.
#include "derivatives.h"

#include <fmt/format.h>

#include "define.h"

namespace opgrad {

using fmt::format;

namespace {

// The tensor that y is, which must be of floats.
Tensor floats(const char* operation, const Operand& y) {
  Tensor t = y.tensor(operation);
  if (!is_float(t.dtype()))
    refuse(
        operation, y.where(),
        format("y is {} and must be f32 or f64; integers and truth values have no derivative", type_text(t)));
  return t;
}

// grad refuses such a y, too, but speaks of itself and of vjp, which is no way out here.
void need_one(const char* operation, const Operand& y) {
  const Tensor t = floats(operation, y);
  if (t.numel() != 1)
    refuse(
        operation, y.where(),
        format("y must be one float, and is {}; reduce it with sum or mean, or take jacobian(jacobian(y, x), "
               "x), the second derivatives of each of its elements",
               type_text(t)));
}

void need_types(const char* operation, const char* what, Location where, std::span<const Tensor> xs,
                std::span<const Tensor> vs) {
  if (xs.size() != vs.size())
    refuse(operation, where,
           format("{} {}s were given for {} xs; give one for each", vs.size(), what, xs.size()));
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (!xs[i] || !vs[i]) refuse(operation, where, format("{} {} is an empty Tensor", xs[i] ? what : "x", i));
    if (xs[i].dtype() != vs[i].dtype() || xs[i].shape() != vs[i].shape())
      refuse(operation, where,
             format("{} {} is {} and its x is {}; they must have one type", what, i, type_text(vs[i]),
                    type_text(xs[i])));
  }
}

Tensor zeros_of(const Tensor& x, const Shape& shape, Location where) {
  return full(shape, 0, x.dtype(), where.file, where.line);
}

Shape joined(const char* operation, Location where, const Tensor& y, const Tensor& x) {
  if (y.rank() + x.rank() > max_rank)
    refuse(
        operation, where,
        format(
            "the result for y of {} and x of {} has {} + {} axes, more than {}; reshape them to fewer first",
            type_text(y), type_text(x), y.rank(), x.rank(), max_rank));
  std::vector<std::int64_t> dims(y.shape().begin(), y.shape().end());
  dims.insert(dims.end(), x.shape().begin(), x.shape().end());
  return Shape(dims);
}

// Row i of the Jacobians is the gradient of element i of y; an empty Tensor where y does not depend on an x,
// for which `whole`, the gradient with all cotangents 1, has none either.
std::vector<Tensor> by_rows(const char* operation, const Tensor& y, std::span<const Tensor> xs,
                            std::span<const Tensor> whole, Location where) {
  const CallScope scope(where);
  std::vector<Shape> shapes;
  for (const Tensor& x : xs) shapes.push_back(joined(operation, where, y, x));
  std::vector<std::vector<Tensor>> rows(xs.size());
  for (std::int64_t i = 0; i < y.numel(); ++i) {
    const Tensor chosen = one_hot(full({}, static_cast<double>(i), DType::i64), y.numel(), y.dtype());
    std::vector<Tensor> row =
        vjp_where_connected(Operand(y, where.file, where.line), reshape(chosen, y.shape()), xs);
    for (std::size_t j = 0; j < xs.size(); ++j)
      if (whole[j])
        rows[j].push_back(row[j] ? reshape(row[j], {1, xs[j].numel()})
                                 : zeros_of(xs[j], {1, xs[j].numel()}, where));
  }
  std::vector<Tensor> result;
  for (std::size_t j = 0; j < xs.size(); ++j)
    result.push_back(rows[j].empty() ? zeros_of(xs[j], shapes[j], where)
                                     : reshape(concatenate(rows[j], 0, where.file, where.line), shapes[j]));
  return result;
}

}  // namespace

std::vector<Tensor> jacobian(const Operand& operand, std::span<const Tensor> xs) {
  const Tensor y = floats("jacobian", operand);
  const std::vector<Tensor> whole = vjp(operand, ones_like(y), xs);
  return by_rows("jacobian", y, xs, whole, operand.where());
}

Tensor jvp(const Operand& operand, std::span<const Tensor> xs, std::span<const Tensor> tangents) {
  const Tensor y = floats("jvp", operand);
  const Location where = operand.where();
  need_types("jvp", "tangent", where, xs, tangents);
  const CallScope scope(where);
  // The cotangent's value plays no part: vjp is linear in it.
  const Tensor cotangent = variable(zeros_like(y));
  const std::vector<Tensor> gradients = vjp(operand, cotangent, xs);
  Tensor along;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Tensor part = vjp_where_connected(gradients[i], tangents[i], {&cotangent, 1})[0];
    if (part) along = along ? add_any(along, part) : part;
  }
  return along ? along : zeros_of(y, y.shape(), where);
}

std::vector<std::vector<Tensor>> hessian(const Operand& y, std::span<const Tensor> xs) {
  need_one("hessian", y);
  const std::vector<Tensor> gradients = grad(y, xs);
  std::vector<std::vector<Tensor>> rows;
  for (const Tensor& g : gradients) {
    const std::vector<Tensor> whole =
        vjp_where_connected(Operand(g, y.where().file, y.where().line), ones_like(g), xs);
    rows.push_back(by_rows("hessian", g, xs, whole, y.where()));
  }
  return rows;
}

std::vector<Tensor> hvp(const Operand& y, std::span<const Tensor> xs, std::span<const Tensor> vs) {
  need_one("hvp", y);
  need_types("hvp", "v", y.where(), xs, vs);
  const std::vector<Tensor> gradients = grad(y, xs);
  std::vector<Tensor> products(xs.size());
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const std::vector<Tensor> parts =
        vjp_where_connected(Operand(gradients[i], y.where().file, y.where().line), vs[i], xs);
    for (std::size_t j = 0; j < xs.size(); ++j)
      if (parts[j]) products[j] = products[j] ? add_any(products[j], parts[j]) : parts[j];
  }
  for (std::size_t j = 0; j < xs.size(); ++j)
    if (!products[j]) products[j] = zeros_of(xs[j], xs[j].shape(), y.where());
  return products;
}

}  // namespace opgrad
