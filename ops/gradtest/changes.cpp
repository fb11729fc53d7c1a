// One small change of a node or of a gradient, by traits, attributes and shapes.
#include "changes.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstring>

#include "../ops.h"

namespace opgrad::gradtests {

using fmt::format;

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

Tensor with_operand(const Tensor& node, int k, const Tensor& operand) {
  if (!operand) return {};
  std::vector<Node*> inputs(node.node()->inputs().begin(), node.node()->inputs().end());
  inputs[at(k)] = operand.node();
  return make_node(*node.node()->op, inputs, {}, node.node()->attributes());
}

// Node with other attributes; nothing where `change` says that there is nothing to do.
Tensor with_attributes(const Tensor& node, const std::function<bool(AttributeRefs&)>& change) {
  const Node* const n = node.node();
  const std::size_t size = n->op->attributes->size;
  std::vector<std::max_align_t> copy(size / sizeof(std::max_align_t) + 1);
  std::memcpy(copy.data(), n->attributes(), size);
  AttributeRefs refs = n->op->attributes->refs(copy.data());
  return change(refs) ? make_node(*n->op, n->inputs(), {}, copy.data()) : Tensor();
}

bool is_number(const Tensor& x) { return x.node()->op == &structural::number; }

Tensor number_in_place_of(const Tensor& x, double number) {
  if (is_number(x) && x.node()->u.number == number) return {};
  return full(x.shape(), number, x.dtype());
}

Tensor negated(const Tensor& x) {
  if (!is_number(x)) return -x;
  return x.node()->u.number == 0 ? Tensor() : full(x.shape(), -x.node()->u.number, x.dtype());
}

Tensor exchanged(const Tensor& x, int a, int b) {
  if (b >= x.rank() || x.dim(a) != x.dim(b) || x.dim(a) == 1) return {};
  Axes order;
  for (int i = 0; i < x.rank(); ++i) order.push_back(i == a ? b : i == b ? a : i);
  return permute(x, order);
}

Tensor turned(const Tensor& x) {
  if (x.rank() < 2 || x.rank() > 4) return {};
  const int first = x.rank() == 3 ? 1 : 0;
  return x.dim(first) > 1 || x.dim(first + 1) > 1 ? rot180(x) : Tensor();
}

// The axes along which x has more than one element.
Axes long_axes(const Tensor& x) {
  Axes axes;
  for (int i = 0; i < x.rank(); ++i)
    if (x.dim(i) > 1) axes.push_back(i);
  return axes;
}

// What a fold without the folding gives: the first element along each folded axis.
Tensor first_of(const Tensor& fold) {
  const Tensor x = fold.input(0);
  Axes begin, end;
  for (int i = 0; i < x.rank(); ++i) {
    begin.push_back(0);
    end.push_back(fold.dim(i));
  }
  return slice(x, begin, end);
}

// What a repetition without the repeating gives: x once, zeros elsewhere.
Tensor once(const Tensor& repeated) {
  const int rank = repeated.rank(), added = rank - repeated.input(0).rank();
  if (added < 0) return {};
  std::vector<std::int64_t> dims(at(rank), 1);
  Axes before, after;
  for (int i = 0; i < rank; ++i) {
    if (i >= added) dims[at(i)] = repeated.input(0).dim(i - added);
    before.push_back(0);
    after.push_back(repeated.dim(i) - dims[at(i)]);
  }
  return pad(reshape(repeated.input(0), Shape(dims)), before, after);
}

// ------------------------------------------------------------------------------------------------ proposals

void propose_operands(const Tensor& node, const AddChange& add) {
  const Op& op = *node.node()->op;
  const int arity = node.node()->arity;
  const bool mixes = arity > 1 && !has(op.traits, Traits::pointwise) && !has(op.traits, Traits::movement);
  for (int k = 0; k < arity; ++k) {
    const Tensor x = node.input(k);
    const auto change = [&](const std::string& what, std::function<Tensor(const Tensor&)> to) {
      add(format("operand {} {}", k, what),
          [k, to = std::move(to)](const Tensor& n) { return with_operand(n, k, to(n.input(k))); });
    };
    if (x.dtype() == DType::bool_) change("inverted", [](const Tensor& b) { return equal(b, 0); });
    if (!is_float(x.dtype())) continue;
    change("negated", negated);
    if (arity > 1)
      for (const double number : {0.0, 1.0})
        change(format("taken as {}", number),
               [number](const Tensor& t) { return number_in_place_of(t, number); });
    if (!mixes) continue;
    change("turned by 180 degrees", turned);
    for (int a = 0; a < x.rank(); ++a)
      for (int b = a + 1; b < x.rank(); ++b)
        change(format("with axes {} and {} exchanged", a, b),
               [a, b](const Tensor& t) { return exchanged(t, a, b); });
  }
  if (has(op.traits, Traits::commutative)) return;
  for (int j = 0; j < arity; ++j)
    for (int k = j + 1; k < arity; ++k)
      add(format("operands {} and {} exchanged", j, k), [j, k](const Tensor& n) {
        return n.input(j).node() == n.input(k).node()
                   ? Tensor()
                   : with_operand(with_operand(n, j, n.input(k)), k, n.input(j));
      });
}

void propose_removal(const Tensor& node, const AddChange& add) {
  const Op& op = *node.node()->op;
  if (is_number(node) && is_float(node.dtype()))
    add(format("{} in place of the number {}", node.node()->u.number + 1, node.node()->u.number),
        [](const Tensor& n) { return full(n.shape(), n.node()->u.number + 1, n.dtype()); });
  if (node.node()->arity != 1) return;
  add("left out", [](const Tensor& n) {
    const Tensor x = n.input(0);
    if (x.dtype() != n.dtype() || x.numel() != n.numel()) return Tensor();
    const Tensor y = reshape(x, n.shape());
    return y.node()->op == n.node()->op ? Tensor() : y;
  });
  if (has(op.traits, Traits::reduction))
    add("the first element in place of the fold",
        [](const Tensor& n) { return n.numel() < n.input(0).numel() ? first_of(n) : Tensor(); });
  if (has(op.traits, Traits::movement))
    add("once in place of repeated",
        [](const Tensor& n) { return n.numel() > n.input(0).numel() ? once(n) : Tensor(); });
}

void propose_attributes(const Tensor& node, const AddChange& add) {
  const AttributeInfo* const info = node.node()->op->attributes;
  if (!info || !info->refs || !node.node()->attributes()) return;
  const auto change = [&](const std::string& what, std::function<bool(AttributeRefs&)> edit) {
    add(what, [edit = std::move(edit)](const Tensor& n) { return with_attributes(n, edit); });
  };
  AttributeRefs seen;
  with_attributes(node, [&](AttributeRefs& refs) {
    seen = refs;
    return false;
  });
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const bool next = i + 1 < seen.size() && std::strcmp(seen[i].field, seen[i + 1].field) == 0;
    const std::string name =
        next || seen[i].index ? format("{}[{}]", seen[i].field, seen[i].index) : seen[i].field;
    if (seen[i].flag)
      change(name + " inverted", [i](AttributeRefs& r) {
        if (i >= r.size() || !r[i].flag) return false;
        *r[i].flag = !*r[i].flag;
        return true;
      });
    if (seen[i].real)
      change(name + " + 1", [i](AttributeRefs& r) {
        if (i >= r.size() || !r[i].real) return false;
        *r[i].real += 1;
        return true;
      });
    if (!seen[i].integer) continue;
    // What is counted is counted from 0: rules need not expect less.
    for (const int step : {1, -1})
      change(format("{} {} 1", name, step > 0 ? '+' : '-'), [i, step](AttributeRefs& r) {
        if (i >= r.size() || !r[i].integer || *r[i].integer + step < 0) return false;
        *r[i].integer += step;
        return true;
      });
    if (next)
      change(format("{} and [{}] exchanged", name, seen[i + 1].index), [i](AttributeRefs& r) {
        if (i + 1 >= r.size() || !r[i].integer || !r[i + 1].integer || *r[i].integer == *r[i + 1].integer)
          return false;
        std::swap(*r[i].integer, *r[i + 1].integer);
        return true;
      });
  }
}

}  // namespace

void propose_changes(const Tensor& node, const AddChange& add) {
  propose_operands(node, add);
  propose_removal(node, add);
  propose_attributes(node, add);
}

std::vector<Change> gradient_changes() {
  std::vector<Change> changes{{"sign", [](const Tensor& g) { return -g; }}};
  for (const double factor : {1.001, 1.0001, 1.00001})
    changes.push_back({format("factor {}", factor), [factor](const Tensor& g) { return g * factor; }});
  changes.push_back({"zero", [](const Tensor& g) { return zeros_like(g); }});
  // In f32 that is rounding.
  changes.push_back(
      {"1e-6 added", [](const Tensor& g) { return g.dtype() == DType::f64 ? g + 1e-6 : Tensor(); }});
  // An element that matters: most of the others may be 0 by themselves, as in the gradient of a maximum.
  changes.push_back({"largest element zeroed", [](const Tensor& g) {
                       return g.numel() ? where(equal(abs(g), max(abs(g))), 0, g) : Tensor();
                     }});
  changes.push_back({"reversed", [](const Tensor& g) {
                       const Axes axes = long_axes(g);
                       return axes.size() ? flip(g, axes) : Tensor();
                     }});
  changes.push_back({"rolled by one", [](const Tensor& g) {
                       const std::int64_t n = g.numel();
                       if (n < 2) return Tensor();
                       const Tensor flat = reshape(g, {n});
                       const Tensor parts[] = {slice(flat, {n - 1}, {n}), slice(flat, {0}, {n - 1})};
                       return reshape(concatenate(parts, 0), g.shape());
                     }});
  changes.push_back({"rot180", [](const Tensor& g) { return g.rank() > 2 ? turned(g) : Tensor(); }});
  for (int a = 0; a < 3; ++a)
    for (int b = a + 1; b < 4; ++b)
      changes.push_back(
          {format("axes {} and {} exchanged", a, b), [a, b](const Tensor& g) { return exchanged(g, a, b); }});
  return changes;
}

}  // namespace opgrad::gradtests
