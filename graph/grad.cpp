// Reverse mode. One walk numbers the graph behind y; a forward sweep marks what leads to an x; a backward
// sweep calls each marked operation's rule once, when all of its result's gradient has come together.
#include "grad.h"

#include <fmt/format.h>

#include "order.h"
#include "override.h"
#include "reused.h"
#include "scope.h"

namespace opgrad {
namespace {

// The graph behind y in arrays, inputs before users, so that rules may build and number graphs of their own
// while we sweep.
struct Place {
  Tensor cotangent;     // what has come together of it so far
  std::uint32_t in[2];  // places of the inputs; of more than two: in[0] is where they begin in Behind::more
};
struct Behind {
  enum : std::uint8_t {
    target = 1,
    leads = 2
  };  // it is an x; it leads to one along differentiable operations
  static constexpr std::uint32_t absent = ~std::uint32_t{0};

  // Not kept for large graphs, which need the memory for their plan next.
  Reused<Place, Behind, std::size_t{64} << 10> places;
  std::vector<Node*> nodes;
  Reused<std::uint8_t, Behind> flags;
  std::vector<std::uint32_t> more;
  std::vector<std::uint32_t> targets;  // place of each x, or absent

  ~Behind() { Numbering::give_back(nodes); }
  bool is(std::size_t i, std::uint8_t flag) const { return ((*flags)[i] & flag) != 0; }
  std::span<const std::uint32_t> inputs(std::size_t i) const {
    const std::size_t n = nodes[i]->arity;
    const Place& p = (*places)[i];
    return {n > 2 ? more.data() + p.in[0] : p.in, n};
  }
};

void collect(Behind& b, Node* y, std::span<const Tensor> xs) {
  Numbering numbering({&y, 1}, true);
  b.places->reserve(numbering.nodes().size());
  for (const Node* n : numbering.nodes()) {
    Place p{};
    const auto inputs = n->inputs();
    if (inputs.size() > 2) {
      p.in[0] = static_cast<std::uint32_t>(b.more.size());
      for (const Node* input : inputs) b.more.push_back(Numbering::of(input));
    } else {
      for (std::size_t k = 0; k < inputs.size(); ++k) p.in[k] = Numbering::of(inputs[k]);
    }
    b.places->push_back(std::move(p));
  }
  b.flags->resize(b.places->size());
  for (const Tensor& x : xs) {
    b.targets.push_back(Numbering::met(x.node()) ? Numbering::of(x.node()) : Behind::absent);
    if (b.targets.back() != Behind::absent) (*b.flags)[b.targets.back()] = Behind::target;
  }
  b.nodes = numbering.finish();
}

// Marks what leads to an x. Returns the last operation without a gradient that stands in the way, if any.
const Node* mark(Behind& b) {
  const Node* cut = nullptr;
  for (std::size_t i = 0; i < b.nodes.size(); ++i) {
    bool any = b.is(i, Behind::target);
    for (const std::uint32_t input : b.inputs(i)) any = any || b.is(input, Behind::leads);
    if (!any) continue;
    if (b.nodes[i]->op->backward == no_gradient && !b.is(i, Behind::target))
      cut = b.nodes[i];
    else
      (*b.flags)[i] |= Behind::leads;
  }
  return cut;
}

std::string describe(const Node* n) {
  return fmt::format("{} {} made at {}", n->op->name, to_string(Type{n->dtype, shape_of(n->shape)}),
                     to_string(*n->origin));
}

[[noreturn]] void fail(const std::string& message, Location where) {
  throw UserError(fmt::format("grad: {}\n  at {}", message, to_string(*origin_at(where))));
}

[[noreturn]] void fail_consumed(const Node* n, Location where) {
  fail(fmt::format(
           "the graph behind {} was consumed by a step; its value stays, its gradient is gone. Ask for "
           "gradients before the step, or build the graph again",
           describe(n)),
       where);
}

// Why y does not lead to x, as far as the graph can tell.
[[noreturn]] void explain_missing(const Behind& b, const Node* y, const Node* x, const Node* cut,
                                  Location where) {
  if (x->has(node_flag::replaced))
    fail(
        "x is the former value of a parameter that a step has replaced since; build the graph anew with the "
        "parameter's present value, and ask its gradient before the next step",
        where);
  for (const Node* n : b.nodes) {
    if (n->has(node_flag::consumed)) fail_consumed(n, where);
    if (n->has(node_flag::replaced))
      fail(
          fmt::format("y was computed from the former value of a parameter (leaf made at {}) that a step has "
                      "replaced since; build the graph again",
                      to_string(*n->origin)),
          where);
  }
  if (cut)
    fail(fmt::format("every path from {} to x passes through {}, which has no gradient ({})", describe(y),
                     describe(cut), cut->op->about),
         where);
  for (const Node* n : b.nodes)
    if (n->has(node_flag::released))
      fail(fmt::format(
               "y does not lead to x: {} was computed and, depending on no parameter, let go of its inputs. "
               "Make x a variable(...) or a Parameter, or ask the gradient before reading values",
               describe(n)),
           where);
  fail(fmt::format("{} does not depend on x ({})", describe(y), describe(x)), where);
}

// Calls the rule of place i, whose cotangent is complete, and adds what it gives to its inputs' cotangents.
void pass_back(Behind& b, std::size_t i, bool any_override) {
  std::vector<Place>& places = *b.places;
  Node* const n = b.nodes[i];
  const std::span<const std::uint32_t> inputs = b.inputs(i);
  Wanted wanted;
  for (std::size_t k = 0; k < inputs.size(); ++k)
    if (b.is(inputs[k], Behind::leads) && k < most_inputs) wanted.bits |= std::uint64_t{1} << k;
  if (!wanted.bits) return;
  Tensor& cotangent = places[i].cotangent;
  const Tensor dn = b.is(i, Behind::target) ? cotangent : std::move(cotangent);
  const BackwardRule* other = any_override ? BackwardOverride::of(*n->op) : nullptr;
  Grads grads =
      other ? (*other)(Tensor::share(n), dn, wanted) : n->op->backward(Tensor::share(n), dn, wanted);
  if (grads.size() != n->arity)
    fail(fmt::format(
             "the backward rule of {} gave {} gradient{} for {} input{}; it must return one for each input, "
             "an empty Tensor() where there is none",
             n->op->name, grads.size(), grads.size() == 1 ? "" : "s", n->arity, n->arity == 1 ? "" : "s"),
         n->origin->where);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    Tensor& g = grads[k];
    if (!b.is(inputs[k], Behind::leads) || !g) continue;
    const Node* in = b.nodes[inputs[k]];
    if (g.node()->shape != in->shape || g.node()->dtype != in->dtype)
      fail(fmt::format(
               "the backward rule of {} gave {} for input {}, which is {}; they must have one type: use "
               "sum_to, reshape or cast, or return an empty Tensor() where there is no gradient",
               n->op->name, to_string(Type{g.dtype(), g.shape()}), k,
               to_string(Type{in->dtype, shape_of(in->shape)})),
           n->origin->where);
    Tensor& sum = places[inputs[k]].cotangent;
    sum = sum ? add_any(sum, g) : std::move(g);
  }
}

enum class Unconnected { fails, stays_empty };

std::vector<Tensor> sweep(const Operand& y_operand, Tensor dy, std::span<const Tensor> xs,
                          Unconnected unconnected = Unconnected::fails) {
  const Location where = y_operand.where();
  Node* const y = y_operand.node();
  for (const Tensor& x : xs)
    if (!x) fail("an x is an empty Tensor", where);
  if (y->has(node_flag::consumed)) fail_consumed(y, where);
  Behind b;
  collect(b, y, xs);
  std::vector<Place>& places = *b.places;
  const Node* const cut = mark(b);
  places.back().cotangent = std::move(dy);
  {
    // What a rule makes has the origin of the node that it is the rule of.
    OriginScope scope(y->origin);
    const bool any_override = BackwardOverride::any();
    for (std::size_t i = places.size(); i-- > 0;) {
      if (!b.is(i, Behind::leads) || !places[i].cotangent) continue;
      scope.move_to(b.nodes[i]->origin);
      pass_back(b, i, any_override);
    }
  }
  std::vector<Tensor> result(xs.size());
  for (std::size_t j = 0; j < xs.size(); ++j) {
    if (b.targets[j] != Behind::absent) result[j] = places[b.targets[j]].cotangent;
    if (!result[j] && unconnected == Unconnected::fails) explain_missing(b, y, xs[j].node(), cut, where);
  }
  return result;
}

Tensor one(const Operand& y) {
  if (!y.node()) fail("y is an empty Tensor or a number", y.where());
  const Node* n = y.node();
  if (!is_float(n->dtype) || shape_of(n->shape).numel() != 1)
    fail(
        fmt::format("y must be one float, and is {}; reduce it with sum or mean, or use vjp with a cotangent",
                    to_string(Type{n->dtype, shape_of(n->shape)})),
        y.where());
  return full(shape_of(n->shape), 1, n->dtype, y.where().file, y.where().line);
}

}  // namespace

std::vector<Tensor> grad(const Operand& y, std::span<const Tensor> xs) { return sweep(y, one(y), xs); }

namespace {

void check_cotangent(const Operand& y, const Tensor& dy) {
  if (!y.node() || !dy) fail("y or its cotangent is an empty Tensor", y.where());
  if (dy.node()->shape != y.node()->shape || dy.node()->dtype != y.node()->dtype)
    fail(fmt::format("the cotangent is {} and y is {}; they must have one type",
                     to_string(Type{dy.dtype(), dy.shape()}),
                     to_string(Type{y.node()->dtype, shape_of(y.node()->shape)})),
         y.where());
}

}  // namespace

std::vector<Tensor> vjp(const Operand& y, const Tensor& dy, std::span<const Tensor> xs) {
  check_cotangent(y, dy);
  return sweep(y, dy, xs);
}

std::vector<Tensor> vjp_where_connected(const Operand& y, const Tensor& dy, std::span<const Tensor> xs) {
  check_cotangent(y, dy);
  return sweep(y, dy, xs, Unconnected::stays_empty);
}

Gradients gradients(const Operand& loss) {
  const Tensor seed = one(loss);
  Node* root = loss.node();
  if (root->has(node_flag::consumed)) fail_consumed(root, loss.where());
  // A parameter takes part when a path of differentiable operations leads to its leaf.
  Gradients result{Tensor::share(root), {}, {}};
  std::vector<Tensor> leaves;
  std::string frozen, stale;
  {
    const Numbering numbering({&root, 1}, true);
    const std::vector<Node*>& nodes = numbering.nodes();
    std::vector<bool> used(nodes.size(), false);
    used.back() = true;
    for (std::size_t i = nodes.size(); i-- > 0;) {
      if (!used[i] || nodes[i]->op->backward == no_gradient) continue;
      for (const Node* input : nodes[i]->inputs()) used[Numbering::of(input)] = true;
    }
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      Node* n = nodes[i];
      if (!used[i]) continue;
      if (n->has(node_flag::replaced) || n->has(node_flag::consumed)) stale = describe(n);
      if (!n->has(node_flag::parameter) || !n->u.parameter) continue;
      if (!n->u.parameter->trainable) {
        frozen = n->u.parameter->name;
        continue;
      }
      result.parameters.emplace_back(n->u.parameter->shared_from_this());
      leaves.push_back(Tensor::share(n));
    }
  }
  if (!stale.empty())
    fail(
        fmt::format("the loss was built on {}, which a step has used up since; build the loss again from the "
                    "parameters' present values",
                    stale),
        loss.where());
  if (leaves.empty())
    fail(fmt::format(
             "the loss ({}) depends on no trainable parameter{}; build it by calling the model, and check "
             "that nothing is detached or frozen on the way",
             describe(root), frozen.empty() ? "" : fmt::format(" (\"{}\" is frozen)", frozen)),
         loss.where());
  result.gradients = sweep(loss, seed, leaves);
  return result;
}

Gradients gradients(const Operand& loss, std::span<const Parameter> parameters) {
  std::vector<Tensor> leaves;
  for (const Parameter& p : parameters) leaves.push_back(p.value());
  Gradients result{loss.tensor("gradients"), {parameters.begin(), parameters.end()}, {}};
  result.gradients = sweep(loss, one(loss), leaves);
  return result;
}

}  // namespace opgrad
