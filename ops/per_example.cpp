// Gradients by example. The sweep of reverse mode, where a node's cotangent comes in one of two forms:
//
//     own      [node.shape...]: axis 0 holds equal groups of rows, and example b's loss depends on group b
//     alone shared   [examples, node.shape...]: one cotangent for each example
//
// An operation's rule turns an own cotangent into own ones and, for weights, into shared ones; what is shared
// already goes through the operation's backward rule lifted by an axis. An own cotangent can always be
// written as a shared one, which is zero outside its group.
#include "per_example.h"

#include <fmt/format.h>

#include <utility>

#include "../graph/order.h"
#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {

constexpr const char* operation = "per_example_gradients";

// The graph behind the losses in arrays: rules build and number graphs of their own while we sweep.
struct Behind {
  std::vector<Node*> nodes;                  // inputs before users
  std::vector<std::vector<std::size_t>> in;  // places of a node's inputs
  std::vector<std::size_t> targets;          // place of each x
  std::vector<bool> leads;                   // to some x, along differentiable operations
};

Behind collect(Node* root, std::span<const Tensor> xs) {
  Behind b;
  const Numbering numbering({&root, 1}, true);
  b.nodes = numbering.nodes();
  b.leads.resize(b.nodes.size());
  for (const Tensor& x : xs) {
    b.targets.push_back(Numbering::of(x.node()));
    b.leads[b.targets.back()] = true;
  }
  for (std::size_t i = 0; i < b.nodes.size(); ++i) {
    const Node* const n = b.nodes[i];
    std::vector<std::size_t> in;
    for (const Node* input : n->inputs()) {
      in.push_back(Numbering::of(input));
      if (n->op->backward != no_gradient && b.leads[in.back()]) b.leads[i] = true;
    }
    b.in.push_back(std::move(in));
  }
  return b;
}

constexpr std::size_t nobody = ~std::size_t{0};

struct Cotangent {
  Tensor own, shared;
  std::size_t sharer = nobody;  // the place of a user that gave a shared one
};

void add(Tensor& sum, const Tensor& g) { sum = sum ? add_any(sum, g) : g; }

// An own cotangent as a shared one.
Tensor spread(const Tensor& own, std::int64_t examples) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(examples));
  for (std::size_t b = 0; b < numbers.size(); ++b) numbers[b] = static_cast<std::int64_t>(b);
  const Tensor mine = one_hot(tensor(numbers, {examples}), examples, DType::bool_);
  const Tensor rows = reshape(own, {1, examples, own.numel() / examples});
  return reshape(where(expand_dims(mine, 2), rows, 0), in_front(examples, own.shape()));
}

[[noreturn]] void fail(const Tensor& y, const std::string& why) {
  refuse(operation, {}, format("{} {} {}", y.node()->op->name, type_text(y), why));
}

[[noreturn]] void fail_mixed(const Tensor& y, const Tensor& x, std::int64_t examples) {
  fail(y,
       format(
           "of {} mixes the {} examples along axis 0, so that none has a gradient of its own; keep examples "
           "apart (batch normalisation: inference mode), or broadcast to the batch what is made of "
           "parameters alone before it meets the examples",
           type_text(x), examples));
}

bool rows_of(const Tensor& y, const Tensor& x) { return x.rank() > 0 && x.dim(0) == y.dim(0); }

// The first wanted input with other rows than y, to which rows_apart does not apply, if another input has y's
// rows: then it is that one which holds the examples. Otherwise -1.
int shared_input(const Tensor& y, Wanted wanted) {
  int shared = -1;
  bool any = false;
  for (int i = y.node()->arity; i-- > 0;) {
    const bool fits = rows_of(y, y.input(i));
    any = any || fits;
    if (wanted(i) && !fits) shared = i;
  }
  return any ? shared : -1;
}

[[noreturn]] void fail_rows(const Tensor& y, int i, std::int64_t examples) {
  fail(y,
       format("takes input {}, {}, which is shared by the {} examples (its first dimension is not the "
              "examples', {}), and rows_apart has no gradients by example for such inputs; give its record a "
              "per_example rule of its own (as matmul has, in ops/matmul.cpp), or broadcast input {} to the "
              "examples first",
              i, type_text(y.input(i)), examples, y.dim(0), i));
}

// Node h holds the examples, by the use of one of its users, and another takes it as a whole. From that one
// on, the first operation that makes other rows of them is the one to blame.
[[noreturn]] void fail_shared(const Behind& b, std::size_t h, const std::vector<Cotangent>& cotangents,
                              std::int64_t examples) {
  const std::int64_t rows = shape_of(b.nodes[h]->shape)[0];
  std::size_t mixer = cotangents[h].sharer, input = h;
  for (;;) {
    const Shape& shape = shape_of(b.nodes[mixer]->shape);
    if (shape.rank() == 0 || shape[0] != rows || cotangents[mixer].sharer == nobody) break;
    input = std::exchange(mixer, cotangents[mixer].sharer);
  }
  const OriginScope scope(b.nodes[mixer]->origin);
  fail_mixed(Tensor::share(b.nodes[mixer]), Tensor::share(b.nodes[input]), examples);
}

bool is_reduction(const Op& op) {
  return has(op.traits, Traits::reduction) && op.attributes == &attribute_info<ReduceAttributes>;
}

Grads own_gradients(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
  const Op& op = *y.node()->op;
  if (has(op.traits, Traits::pointwise)) return op.backward(y, dy, wanted);
  // A reduction folds axis 0 to size 1, which rows_apart refuses, or leaves it alone.
  const auto rule = is_reduction(op) ? rows_apart : op.per_example.rule;
  if (!rule)
    fail(y,
         "has no per_example rule, so nothing is known of how it treats examples; give its record one "
         "(rows_apart of ops/example_rules.h, if each row of axis 0 goes by itself), or keep it out of the "
         "losses");
  Grads grads = rule(y, dy, wanted, examples);
  if (grads.empty()) {
    const int shared = rule == rows_apart ? shared_input(y, wanted) : -1;
    if (shared >= 0) fail_rows(y, shared, examples);
    fail_mixed(y, y.input(0), examples);
  }
  return grads;
}

Grads shared_gradients(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
  const Op& op = *y.node()->op;
  const auto lift = op.per_example.lift;
  if (!lift && !has(op.traits, Traits::pointwise) && !is_reduction(op))
    fail(y,
         format(
             "makes what all {} examples share, and its record has no per_example.lift; broadcast its inputs "
             "to the batch first, or give its record one",
             examples));
  std::vector<Tensor> inputs;
  for (int i = 0; i < y.node()->arity; ++i) inputs.push_back(repeated(y.input(i), examples));
  if (is_reduction(op)) {
    const Axes axes = after_one(y.attributes<ReduceAttributes>().axes);
    return op.backward(make(op, {inputs[0].node()}, {}, ReduceAttributes{axes}), dy, wanted);
  }
  const Tensor lifted = lift ? lift(y, inputs) : lift_as_is(y, inputs);
  bool bare = lifted.node()->op == &op;
  for (std::size_t i = 0; bare && i < inputs.size(); ++i)
    bare = lifted.node()->inputs()[i] == inputs[i].node();
  if (bare) return op.backward(lifted, dy, wanted);
  // The lift put views around the operation, so the way back has several rules.
  std::vector<Tensor> asked;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (wanted(static_cast<int>(i))) asked.push_back(inputs[i]);
  const std::vector<Tensor> found = vjp_where_connected(lifted, dy, asked);
  Grads grads(inputs.size());
  for (std::size_t i = 0, k = 0; i < grads.size(); ++i)
    if (wanted(static_cast<int>(i))) grads[i] = found[k++];
  return grads;
}

// Each gradient goes where its shape says.
void pass_on(std::size_t from, const Behind& b, const Grads& grads, Wanted wanted, std::int64_t examples,
             std::vector<Cotangent>& cotangents) {
  const Tensor y = Tensor::share(b.nodes[from]);
  const std::vector<std::size_t>& in = b.in[from];
  for (std::size_t k = 0; k < in.size(); ++k) {
    if (!wanted(static_cast<int>(k)) || !grads[k]) continue;
    const Tensor x = y.input(static_cast<int>(k));
    const bool own = grads[k].shape() == x.shape();
    const bool fits =
        own ? x.rank() > 0 && x.dim(0) % examples == 0 : grads[k].shape() == in_front(examples, x.shape());
    if (!fits || grads[k].dtype() != x.dtype())
      fail(y, format("has a per_example rule that gave {} for input {}, which is {}", type_text(grads[k]), k,
                     type_text(x)));
    Cotangent& c = cotangents[in[k]];
    add(own ? c.own : c.shared, grads[k]);
    if (!own) c.sharer = from;
  }
}

std::vector<Tensor> sweep(const Tensor& losses, std::span<const Tensor> xs) {
  const std::int64_t examples = losses.dim(0);
  const Behind b = collect(losses.node(), xs);
  std::vector<Cotangent> cotangents(b.nodes.size());
  cotangents.back().own = ones_like(losses);
  std::vector<bool> is_target(b.nodes.size());
  for (const std::size_t t : b.targets) is_target[t] = true;

  for (std::size_t i = b.nodes.size(); i-- > 0;) {
    Cotangent& c = cotangents[i];
    if (!b.leads[i] || (!c.own && !c.shared)) continue;
    const OriginScope scope(b.nodes[i]->origin);
    if (c.own && c.shared && b.nodes[i]->arity > 0) fail_shared(b, i, cotangents, examples);
    // What is behind an x that is no leaf goes on in the narrow form.
    if (c.own && is_target[i]) add(c.shared, spread(c.own, examples));
    Wanted wanted;
    for (std::size_t k = 0; k < b.in[i].size() && k < 64; ++k)
      if (b.leads[b.in[i][k]]) wanted.bits |= std::uint64_t{1} << k;
    if (!wanted.bits) continue;
    const Tensor y = Tensor::share(b.nodes[i]);
    const Grads grads =
        c.own ? own_gradients(y, c.own, wanted, examples) : shared_gradients(y, c.shared, wanted, examples);
    if (grads.size() != b.in[i].size())
      throw InternalError(format("a rule of {} gave {} gradients for {} inputs", y.node()->op->name,
                                 grads.size(), b.in[i].size()));
    pass_on(i, b, grads, wanted, examples, cotangents);
    if (!is_target[i]) c.own = c.shared = {};
  }
  std::vector<Tensor> result;
  for (std::size_t j = 0; j < xs.size(); ++j) {
    Tensor& g = cotangents[b.targets[j]].shared;
    // Grad has found a way, but a rule on it gave nothing.
    result.push_back(g ? g : zeros(in_front(examples, xs[j].shape()), xs[j].dtype()));
  }
  return result;
}

Tensor checked(const Operand& operand) {
  Tensor losses = operand.tensor(operation);
  if (losses.rank() != 1 || !is_float(losses.dtype()))
    refuse(operation, operand.where(),
           format("losses is {} and must be floats of rank 1, one for each example: cross_entropy(p, labels, "
                  "Reduction::none), or mean over all axes but the first",
                  type_text(losses)));
  return losses;
}

}  // namespace

std::vector<Tensor> per_example_gradients(const Operand& operand, std::span<const Tensor> xs) {
  const Tensor losses = checked(operand);
  // The ordinary gradient refuses, with the reason, what has none.
  std::vector<Tensor> plain = vjp(operand, ones_like(losses), xs);
  const std::int64_t examples = losses.dim(0);
  if (examples > 1) return sweep(losses, xs);
  for (std::size_t j = 0; j < xs.size(); ++j) {
    const Shape shape = in_front(examples, xs[j].shape());
    plain[j] = examples ? reshape_node(plain[j], shape, operand.where()) : zeros(shape, xs[j].dtype());
  }
  return plain;
}

Gradients per_example_gradients(const Operand& operand) {
  const Tensor losses = checked(operand);
  const CallScope scope(operand.where());
  Gradients result = gradients(Operand(sum(losses), operand.where().file, operand.where().line));
  std::vector<Tensor> leaves;
  for (const Parameter& p : result.parameters) leaves.push_back(p.state()->leaf);
  return {losses, std::move(result.parameters), per_example_gradients(operand, leaves)};
}

Gradients per_example_gradients(const Operand& operand, std::span<const Parameter> parameters) {
  std::vector<Tensor> values;
  for (const Parameter& p : parameters) values.push_back(p.value());
  return {checked(operand), {parameters.begin(), parameters.end()}, per_example_gradients(operand, values)};
}

}  // namespace opgrad
