// Words for the field per_example of a record: how an operation treats examples that lie one behind the other
// along axis 0, and how it is applied to many tensors at once.
#pragma once
#include <span>

#include "../graph/ir.h"

namespace opgrad {

// The rule of operations that treat each row (entry of axis 0) by itself, such as layers of pooling: y and
// all inputs with a gradient have as many rows, row i of the result depends on rows i alone. It is the
// ordinary backward rule; no Grads where an input has another number of rows than y.
Grads rows_apart(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples);

// Lifts [n, rows, ...] to n * rows rows and back: for the same operations.
Tensor lift_by_rows(const Tensor& y, std::span<const Tensor> inputs);
// For operations to which an axis more in front means nothing, whatever the attributes: those along the last
// axis.
Tensor lift_as_is(const Tensor& y, std::span<const Tensor> inputs);

// x.shape with n in front; UserError when it has 8 axes already.
Shape in_front(std::int64_t n, const Shape& shape);
// n equal copies of x along a new first axis; what is one number known while the graph is built stays one.
Tensor repeated(const Tensor& x, std::int64_t n);
// Axes counted in a tensor that has one more in front; per-axis numbers with `first` for that one.
Axes after_one(const Axes& axes);
Axes with_first(std::int64_t first, const Axes& numbers);

}  // namespace opgrad
