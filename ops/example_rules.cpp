// The usual rules by which operations keep examples apart.
#include "example_rules.h"

#include <vector>

#include "define.h"

namespace opgrad {

Grads rows_apart(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t) {
  if (y.rank() == 0) return {};
  for (int i = 0; i < y.node()->arity; ++i) {
    if (!wanted(i)) continue;
    const Tensor x = y.input(i);
    if (x.rank() == 0 || x.dim(0) != y.dim(0)) return {};
  }
  return y.node()->op->backward(y, dy, wanted);
}

Shape in_front(std::int64_t n, const Shape& shape) {
  std::vector<std::int64_t> dims(shape.begin(), shape.end());
  dims.insert(dims.begin(), n);
  return Shape(dims);
}

Tensor repeated(const Tensor& x, std::int64_t n) {
  const Shape shape = in_front(n, x.shape());
  if (const auto number = number_of(x)) return full(shape, *number, x.dtype());
  return broadcast_to(x, shape);
}

Axes after_one(const Axes& axes) {
  Axes moved = axes;
  for (int i = 0; i < moved.size(); ++i) ++moved[i];
  return moved;
}

Axes with_first(std::int64_t first, const Axes& numbers) {
  Axes all{first};
  for (const std::int64_t n : numbers) all.push_back(n);
  return all;
}

Tensor lift_by_rows(const Tensor& y, std::span<const Tensor> inputs) {
  std::vector<Tensor> folded;
  std::vector<Node*> nodes;
  for (const Tensor& x : inputs) {
    std::vector<std::int64_t> dims(x.shape().begin() + 1, x.shape().end());
    dims[0] *= x.dim(0);
    folded.push_back(reshape(x, Shape(dims)));
    nodes.push_back(folded.back().node());
  }
  const Tensor rows = make_node(*y.node()->op, nodes, {}, y.node()->attributes());
  return reshape(rows, in_front(inputs[0].dim(0), y.shape()));
}

Tensor lift_as_is(const Tensor& y, std::span<const Tensor> inputs) {
  std::vector<Node*> nodes;
  for (const Tensor& x : inputs) nodes.push_back(x.node());
  return make_node(*y.node()->op, nodes, {}, y.node()->attributes());
}

}  // namespace opgrad
