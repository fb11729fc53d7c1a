// Every record of the registry is held to what it claims: examples, refusals, types, element types, strides,
// gradients of first and second order, dual numbers. A record without examples is red, and what a test leaves
// out is counted.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "../core/dual.h"
#include "../core/random.h"
#include "../graph/grad.h"
#include "../graph/registry.h"
#include "../graph/run.h"
#include "../ops/ops.h"

using namespace opgrad;
using kernel::Dual;

namespace {

// ------------------------------------------------------------------------------------------------ the
// registry

bool structural_op(const Op& op) {
  return &op == &structural::leaf || &op == &structural::number || &op == &structural::add_any ||
         &op == &structural::detach;
}

// The built-in records but the engine's own; names with a dot belong to other libraries.
std::vector<const Op*> ops() {
  std::vector<const Op*> list;
  for (const Op* op : all_ops())
    if (!structural_op(*op) && !std::strchr(op->name, '.')) list.push_back(op);
  return list;
}

// Calls f(op, example, label) for every example of every record.
void for_examples(const std::function<void(const Op&, const Example&, const std::string&)>& f) {
  for (const Op* op : ops()) {
    if (!op->examples) continue;
    const Examples examples = op->examples();
    for (std::size_t i = 0; i < examples.size(); ++i) {
      const std::string label = std::string(op->name) + ", example " + std::to_string(i);
      CAPTURE(label);
      f(*op, examples[i], label);
    }
  }
}

// ------------------------------------------------------------------------------------------------ numbers

std::vector<double> uniform(std::uint64_t seed, std::int64_t n, double low, double high) {
  std::vector<double> out(static_cast<std::size_t>(n));
  fill_uniform(Key{fold_in(seed, "every_op"), 0}, 0, n, out.data());
  for (double& x : out) x = low + (high - low) * x;
  return out;
}

// Signed numbers, none of them near 0: a direction or a cotangent that sees every element.
std::vector<double> signed_numbers(std::uint64_t seed, std::int64_t n) {
  std::vector<double> out = uniform(seed, n, -1, 1);
  for (double& x : out) x += std::copysign(0.25, x);
  return out;
}

template <class T>
Tensor typed(const std::vector<double>& numbers, const Shape& shape) {
  std::vector<char> bytes(numbers.size() * sizeof(T));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const T x = static_cast<T>(numbers[i]);
    std::memcpy(bytes.data() + i * sizeof(T), &x, sizeof(T));
  }
  return tensor_from_bytes(bytes.data(), static_cast<std::int64_t>(numbers.size()), dtype_of<T>, shape, {});
}
Tensor of(const std::vector<double>& numbers, const Shape& shape, DType dtype = DType::f64) {
  return dispatch(dtype, [&]<class T>() { return typed<T>(numbers, shape); });
}

std::vector<double> numbers(const Tensor& x) {
  return dispatch(x.dtype(), [&]<class T>() {
    const Values<T> v = x.values<T>();
    return std::vector<double>(v.begin(), v.end());
  });
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double s = 0;
  for (std::size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

// One number from each of n equal parts of [low, high), in random order: no two are close, and none is close
// to the middle (0 for most samples), so that no kink lies within a difference step. `input` shifts them
// against other inputs' numbers.
std::vector<double> spread(std::uint64_t seed, std::int64_t n, double low, double high, std::size_t input) {
  const std::vector<double> keys = uniform(fold_in(seed, 1), n, 0, 1),
                            jitter = uniform(fold_in(seed, 2), n, 0, 0.15);
  std::vector<std::size_t> order(keys.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return keys[i]; });
  std::vector<double> out(keys.size());
  const double width = (high - low) / static_cast<double>(n);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = low + width * (static_cast<double>(order[i]) + (input % 2 ? 0.8 : 0.6) + jitter[i]);
  return out;
}

// Floats that f32 holds exactly, so that both float types get the same ones.
std::vector<std::vector<double>> draw(const Example& e, std::uint64_t seed) {
  std::vector<std::vector<double>> all;
  for (const Sample& s : e.inputs) {
    const std::size_t i = all.size();
    std::vector<double> x = is_float(s.dtype) ? spread(fold_in(seed, i), s.shape.numel(), s.low, s.high, i)
                                              : uniform(fold_in(seed, i), s.shape.numel(), s.low, s.high);
    for (double& v : x) v = is_float(s.dtype) ? static_cast<float>(v) : std::floor(v);
    all.push_back(std::move(x));
  }
  return all;
}

DType dtype_for(const Sample& s, DType under_test) { return s.dtype == DType::f64 ? under_test : s.dtype; }

std::vector<Tensor> inputs_of(const Example& e, const std::vector<std::vector<double>>& values, DType dtype) {
  std::vector<Tensor> xs;
  for (std::size_t i = 0; i < e.inputs.size(); ++i)
    xs.push_back(of(values[i], e.inputs[i].shape, dtype_for(e.inputs[i], dtype)));
  return xs;
}

// The same values through negative strides and gaps.
Tensor strided(const Tensor& x) {
  if (x.rank() == 0) return x;
  Axes none, one, all, end;
  for (int i = 0; i < x.rank(); ++i) {
    none.push_back(0);
    one.push_back(1);
    all.push_back(i);
    end.push_back(std::max<std::int64_t>(0, 2 * x.shape()[i] - 1));
  }
  Tensor apart = flip(pad(x, none, none, one, 1), all);
  eval(apart);
  Axes two;
  for (int i = 0; i < x.rank(); ++i) two.push_back(2);
  return slice(flip(apart, all), none, end, two);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = numbers(a), y = numbers(b);
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape())) return false;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!(std::isnan(x[i]) && std::isnan(y[i])) && (x[i] != y[i] || std::signbit(x[i]) != std::signbit(y[i])))
      return false;
  return true;
}

// Held, since computing a node may let go of its inputs.
std::vector<Tensor> nodes_behind(const Tensor& y) {
  std::vector<Tensor> found{y};
  std::set<Node*> met{y.node()};
  for (std::size_t next = 0; next < found.size(); ++next)
    for (int i = 0; i < found[next].node()->arity; ++i)
      if (Tensor x = found[next].input(i); met.insert(x.node()).second) found.push_back(std::move(x));
  return found;
}

// ------------------------------------------------------------------------------------------------ gradients

// The gradient, or nothing where y is constant in x as far as the graph can tell.
Tensor gradient_or_nothing(const Tensor& y, const Tensor& dy, const Tensor& x) {
  try {
    return vjp(y, dy, {&x, 1})[0];
  } catch (const UserError&) {
    return {};
  }
}

struct Slopes {
  double measured = 0, claimed = 0, error = 0;
  bool zero = false;  // both are: nothing was seen
};

// The slope at 0 of `value` by central differences, extrapolated twice; the error from the last extrapolation
// and from rounding.
Slopes measure(const std::function<double(double)>& value) {
  constexpr double h = 1e-3;
  double d[3];
  double size = 0;
  for (int k = 0; k < 3; ++k) {
    const double step = h / std::pow(2, k), up = value(step), down = value(-step);
    d[k] = (up - down) / (2 * step);
    size = std::max({size, std::abs(up), std::abs(down)});
  }
  const double first = (4 * d[1] - d[0]) / 3, second = (4 * d[2] - d[1]) / 3;
  const double best = (16 * second - first) / 15;
  return {best, 0, std::abs(best - second) + 100 * 1.2e-16 * (size + 1) / (h / 4)};
}

// What a check differentiates: numbers for every input and a function of the tensors made from them.
struct Problem {
  std::vector<std::vector<double>> values;
  std::vector<Shape> shapes;
  std::vector<DType> dtypes;
  std::function<Tensor(std::span<const Tensor>)> f;
  bool variable_at(std::size_t i) const { return dtypes[i] == DType::f64; }
};

std::vector<Tensor> tensors(const Problem& p, double t, const std::vector<std::vector<double>>& direction) {
  std::vector<Tensor> xs;
  for (std::size_t i = 0; i < p.values.size(); ++i) {
    std::vector<double> x = p.values[i];
    if (p.variable_at(i))
      for (std::size_t k = 0; k < x.size(); ++k) x[k] += t * direction[i][k];
    const Tensor leaf = of(x, p.shapes[i], p.dtypes[i]);
    xs.push_back(p.variable_at(i) ? variable(leaf) : leaf);
  }
  return xs;
}

// The derivative of cotangent . f along a random direction: measured, and by the backward rules.
Slopes check(const Problem& p, std::uint64_t seed) {
  std::vector<std::vector<double>> direction;
  for (std::size_t i = 0; i < p.values.size(); ++i)
    direction.push_back(
        signed_numbers(fold_in(seed, 100 + i), static_cast<std::int64_t>(p.values[i].size())));
  const std::vector<Tensor> xs = tensors(p, 0, direction);
  const Tensor y = p.f(xs);
  if (!y) return {.zero = true};
  const std::vector<double> c = signed_numbers(fold_in(seed, 99), y.numel());
  Slopes s = measure([&](double t) { return dot(c, numbers(p.f(tensors(p, t, direction)))); });
  const Tensor dy = of(c, y.shape());
  bool any = false;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (!p.variable_at(i)) continue;
    const Tensor g = gradient_or_nothing(y, dy, xs[i]);
    if (!g) continue;
    s.claimed += dot(numbers(g), direction[i]);
    any = true;
  }
  s.zero = !any && std::abs(s.measured) <= s.error;
  return s;
}

Problem first_order(const Example& e, std::uint64_t seed) {
  Problem p{draw(e, seed), {}, {}, e.call};
  for (const Sample& s : e.inputs) {
    p.shapes.push_back(s.shape);
    p.dtypes.push_back(s.dtype);
  }
  return p;
}

// The gradients as a function of the inputs and of the cotangent, joined into one vector.
Problem second_order(const Example& e, std::uint64_t seed) {
  Problem p = first_order(e, seed);
  const std::vector<Tensor> xs = tensors(p, 0, p.values);
  const Tensor y = e.call(xs);
  p.values.push_back(signed_numbers(fold_in(seed, 77), y.numel()));
  p.shapes.push_back(y.shape());
  p.dtypes.push_back(DType::f64);
  const std::size_t n = xs.size();
  p.f = [call = e.call, n, dtypes = p.dtypes](std::span<const Tensor> all) -> Tensor {
    const Tensor out = call(all.first(n));
    std::vector<Tensor> flat;
    for (std::size_t i = 0; i < n; ++i) {
      if (dtypes[i] != DType::f64) continue;
      if (const Tensor g = gradient_or_nothing(out, all[n], all[i])) flat.push_back(reshape(g, {-1}));
    }
    return flat.empty() ? Tensor() : concatenate(flat, 0);
  };
  return p;
}

bool differentiable(const Op& op, const Example& e) {
  if (op.backward == no_gradient) return false;
  for (const Sample& s : e.inputs)
    if (s.dtype == DType::f64) return true;
  return false;
}

bool agree(const Slopes& s) {
  return std::abs(s.measured - s.claimed) <= 1e-7 * (std::abs(s.measured) + std::abs(s.claimed)) + s.error;
}

}  // namespace

TEST_CASE("the registry holds every operation of the public header") {
  std::set<std::string> names;
  for (const Op* op : ops()) names.insert(op->name);
  CHECK(names.size() == 54);
  CHECK(ops().size() == names.size());
  for (const char* name : {"add", "tanh", "where", "sum", "softmax", "matmul", "slice", "gather", "conv2d",
                           "max_pool2d", "random_normal"})
    CHECK_MESSAGE(names.contains(name), std::string(name));
}

TEST_CASE("every record is complete") {
  for (const Op* op : ops()) {
    const std::string name = op->name;
    CAPTURE(name);
    CHECK(op->about != nullptr);
    CHECK(std::strlen(op->about) > 3);
    CHECK(bool(op->examples));
    CHECK(bool(op->bad_calls));
    CHECK((op->forward.run != nullptr) != has(op->traits, Traits::movement));
    CHECK((op->view != nullptr) == has(op->traits, Traits::movement));
    if (op->examples) CHECK(!op->examples().empty());
    if (op->bad_calls) CHECK(!op->bad_calls().empty());
  }
}

TEST_CASE("every bad call is refused with the message its record states") {
  int calls = 0;
  for (const Op* op : ops()) {
    if (!op->bad_calls) continue;
    for (const BadCall& bad : op->bad_calls()) {
      const std::string name = op->name, expected = bad.expect;
      CAPTURE(name);
      CAPTURE(expected);
      std::string said = "nothing";
      try {
        bad.call();
      } catch (const UserError& e) {
        said = e.what();
      }
      CHECK_MESSAGE(said.find(expected) != said.npos, said);
      ++calls;
    }
  }
  CHECK(calls > 200);
}

TEST_CASE("every example contains its record, and every node has the type that its shape rule gives") {
  for_examples([](const Op& op, const Example& e, const std::string&) {
    const Tensor y = e.call(inputs_of(e, draw(e, 1), DType::f32));
    bool found = false;
    for (const Tensor& node : nodes_behind(y)) {
      const Node* const n = node.node();
      found |= n->op == &op;
      if (n->inputs().empty()) continue;
      const Result r = n->op->shape(Call{*n->op, n->inputs(), n->attributes()});
      CHECK(r.dtype == n->dtype);
      CHECK(r.shape == n->shape);
    }
    CHECK(found);
    CHECK(static_cast<std::int64_t>(numbers(y).size()) == y.numel());
  });
}

TEST_CASE("f32 agrees with f64") {
  for_examples([](const Op&, const Example& e, const std::string&) {
    const auto values = draw(e, 2);
    const Tensor narrow = e.call(inputs_of(e, values, DType::f32)),
                 wide = e.call(inputs_of(e, values, DType::f64));
    const std::vector<double> a = numbers(narrow), b = numbers(wide);
    CHECK(narrow.shape() == wide.shape());
    double size = 1;
    for (const double x : b) size = std::max(size, std::abs(x));
    const double bound = is_float(narrow.dtype()) ? 4e-6 * size : 0;
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= bound);
  });
}

TEST_CASE("strided and repeated inputs give the same bits as dense ones") {
  for_examples([](const Op&, const Example& e, const std::string&) {
    const std::vector<Tensor> xs = inputs_of(e, draw(e, 3), DType::f32);
    std::vector<Tensor> apart, repeated, filled;
    for (std::size_t i = 0; i < xs.size(); ++i) {
      apart.push_back(strided(xs[i]));
      const double number = is_float(xs[i].dtype()) ? 0.75 : 1;
      repeated.push_back(broadcast_to(of({number}, {}, xs[i].dtype()), xs[i].shape()));
      filled.push_back(full(xs[i].shape(), number, xs[i].dtype()));
    }
    CHECK(same_bits(e.call(xs), e.call(apart)));
    std::vector<Tensor> dense;
    for (const Tensor& x : repeated) dense.push_back(of(numbers(x), x.shape(), x.dtype()));
    CHECK(same_bits(e.call(dense), e.call(repeated)));
    CHECK(same_bits(e.call(dense), e.call(filled)));
  });
}

TEST_CASE("passes change no bit of an example or of its gradients") {
  for_examples([](const Op& op, const Example& e, const std::string&) {
    const auto compute = [&] {
      std::vector<Tensor> results;
      Problem p = differentiable(op, e) ? second_order(e, 4) : first_order(e, 4);
      const std::vector<Tensor> xs = tensors(p, 0, p.values);
      results.push_back(p.f(xs));
      if (results[0]) eval(results[0]);
      return results[0];
    };
    const Tensor on = compute();
    set_passes(false);
    const Tensor off = compute();
    set_passes(true);
    CHECK(bool(on) == bool(off));
    if (on && off) CHECK(same_bits(on, off));
  });
}

TEST_CASE("gradients are the measured slopes") {
  int checked = 0, without = 0;
  for_examples([&](const Op& op, const Example& e, const std::string&) {
    if (!differentiable(op, e)) {
      ++without;
      return;
    }
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const Slopes s = check(first_order(e, seed), seed);
      CAPTURE(s.measured);
      CAPTURE(s.claimed);
      CAPTURE(s.error);
      CHECK(!s.zero);
      CHECK(s.error < 1e-6 * (1 + std::abs(s.measured)));
      CHECK(agree(s));
      ++checked;
    }
  });
  CHECK(checked > 200);
  // Comparisons, argmax, first_max, one_hot and the random numbers have no gradient; two casts start from
  // integers.
  CHECK(without == 12 + 2 + 2 + 2 + 4 + 2);
}

TEST_CASE("gradients of gradients are the measured slopes") {
  int checked = 0, constant = 0;
  for_examples([&](const Op& op, const Example& e, const std::string&) {
    if (!differentiable(op, e)) return;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const Slopes s = check(second_order(e, seed), seed);
      CAPTURE(s.measured);
      CAPTURE(s.claimed);
      CAPTURE(s.error);
      CHECK(s.error < 1e-5 * (1 + std::abs(s.measured)));
      CHECK(agree(s));
      s.zero ? ++constant : ++checked;
    }
  });
  CHECK(checked > 200);
  CHECK(constant == 0);  // at least the cotangent enters every gradient
}

TEST_CASE("dual numbers through the kernels agree with the backward rules") {
  std::set<std::string> checked;
  for_examples([&](const Op& op, const Example& e, const std::string&) {
    if (!op.forward.dual || op.backward == no_gradient) return;
    const Tensor example = e.call(inputs_of(e, draw(e, 5), DType::f64));
    for (const Tensor& node : nodes_behind(example)) {
      const Node* const n = node.node();
      if (n->op != &op || n->dtype != DType::f64) continue;
      std::vector<Tensor> xs;
      std::vector<Node*> nodes;
      std::vector<std::vector<Dual>> duals(n->inputs().size());
      std::vector<std::vector<double>> directions(n->inputs().size());
      std::vector<View> in;
      for (std::size_t i = 0; i < n->inputs().size(); ++i) {
        const Tensor x = Tensor::share(n->inputs()[i]);
        const std::vector<double> v = numbers(x);
        directions[i] = signed_numbers(50 + i, x.numel());
        // A number stays one: pow(x, 3) is defined for negative x as long as the 3 does not move.
        if (x.node()->op == &structural::number) directions[i].assign(directions[i].size(), 0);
        xs.push_back(x.dtype() == DType::f64 ? variable(of(v, x.shape())) : of(v, x.shape(), x.dtype()));
        nodes.push_back(xs[i].node());
        for (std::size_t k = 0; k < v.size(); ++k) duals[i].emplace_back(v[k], directions[i][k]);
        void* const data = x.dtype() == DType::f64 ? static_cast<void*>(duals[i].data())
                                                   : const_cast<bool*>(xs[i].values<bool>().data());
        in.push_back(dense_view(data, {x.dtype(), x.shape()}));
      }
      const Tensor y = make_node(op, nodes, {}, n->attributes());
      std::vector<Dual> out(static_cast<std::size_t>(y.numel()));
      op.forward.dual(
          {.in = in, .out = dense_view(out.data(), {y.dtype(), y.shape()}), .attrs = n->attributes()});
      const std::vector<double> c = signed_numbers(49, y.numel()), computed = numbers(y);
      double forward = 0, backward = 0;
      for (std::size_t k = 0; k < out.size(); ++k) {
        CHECK(out[k].v == doctest::Approx(computed[k]).epsilon(1e-14));
        forward += c[k] * out[k].d;
      }
      for (std::size_t i = 0; i < xs.size(); ++i)
        if (xs[i].dtype() == DType::f64)
          if (const Tensor g = gradient_or_nothing(y, of(c, y.shape()), xs[i]))
            backward += dot(numbers(g), directions[i]);
      CHECK(forward == doctest::Approx(backward).epsilon(1e-12));
      checked.insert(op.name);
    }
  });
  for (const char* name :
       {"add", "divide", "pow", "maximum", "tanh", "sigmoid", "relu", "gate", "abs", "where", "sum", "max"})
    CHECK_MESSAGE(checked.contains(name), std::string(name));
}

// ------------------------------------------------------------------------------------------------ negative
// controls

namespace {

Result type_of_input(const Call& call) { return {call.dtype(0), call.shape_id(0)}; }

constexpr Op wrong_cube(const char* name, Backward backward) {
  return {.name = name,
          .arity = 1,
          .about = "x^3 with a wrong gradient",
          .shape = type_of_input,
          .forward =
              [](const KernelArgs& a) {
                for (std::int64_t i = 0; i < a.out.numel(); ++i) {
                  const double x = a.in[0].as<double>()[i];
                  a.out.as<double>()[i] = x * x * x;
                }
              },
          .backward = backward};
}
constinit const Op right_op = wrong_cube("test.right", [](const Tensor& y, const Tensor& dy, Wanted) {
  return Grads{dy * 3 * square(y.input(0))};
});
constinit const Op scaled_op = wrong_cube("test.scaled", [](const Tensor& y, const Tensor& dy, Wanted) {
  return Grads{dy * 3.00001 * square(y.input(0))};
});
constinit const Op frozen_op = wrong_cube("test.frozen", [](const Tensor& y, const Tensor& dy, Wanted) {
  return Grads{dy * 3 * square(detach(y.input(0)))};
});

template <const Op& op>
Example cube() {
  return {{{{2, 3}, -1, 1}}, [](std::span<const Tensor> x) { return make(op, {x[0].node()}, {}); }};
}

}  // namespace

TEST_CASE("a gradient that is wrong by 3e-6 is rejected") {
  CHECK(agree(check(first_order(cube<right_op>(), 1), 1)));
  CHECK(!agree(check(first_order(cube<scaled_op>(), 1), 1)));
}

TEST_CASE("a rule that is right in the first order and wrong in the second is rejected") {
  CHECK(agree(check(second_order(cube<right_op>(), 1), 1)));
  CHECK(agree(check(first_order(cube<frozen_op>(), 1), 1)));
  CHECK(!agree(check(second_order(cube<frozen_op>(), 1), 1)));
}
