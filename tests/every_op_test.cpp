// Every record of the registry is held to what it claims: examples, refusals, types, element types, strides.
// A record without examples is red. Its gradients are the business of gradtest_test.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "../graph/passes.h"
#include "../graph/registry.h"
#include "../graph/run.h"
#include "../ops/gradtest/checks.h"
#include "../ops/ops.h"
#include "nodes_behind.h"

using namespace opgrad;
using namespace opgrad::gradtests;
using test::nodes_behind;

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

// The inputs of an example, floats in the type under test; leaves without a past.
std::vector<Tensor> inputs_of(const Example& e, std::uint64_t seed, DType dtype) {
  std::vector<Tensor> xs;
  for (const Input& in : draw(e.inputs, seed))
    xs.push_back(leaf_of(in.values, in.shape, in.active() ? dtype : in.dtype));
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
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         gradtests::same_bits(numbers_of(a), numbers_of(b));
}

}  // namespace

TEST_CASE("the registry holds every operation of the public header") {
  std::set<std::string> names;
  for (const Op* op : ops()) names.insert(op->name);
  CHECK(names.size() == 62);
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
    const Tensor y = e.call(inputs_of(e, 1, DType::f32));
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
    CHECK(static_cast<std::int64_t>(numbers_of(y).size()) == y.numel());
  });
}

TEST_CASE("f32 agrees with f64") {
  for_examples([](const Op&, const Example& e, const std::string&) {
    const Tensor narrow = e.call(inputs_of(e, 2, DType::f32)), wide = e.call(inputs_of(e, 2, DType::f64));
    const Numbers a = numbers_of(narrow), b = numbers_of(wide);
    CHECK(narrow.shape() == wide.shape());
    double size = 1;
    for (const double x : b) size = std::max(size, std::abs(x));
    const double bound = is_float(narrow.dtype()) ? 4e-6 * size : 0;
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= bound);
  });
}

TEST_CASE("strided and repeated inputs give the same bits as dense ones") {
  for_examples([](const Op&, const Example& e, const std::string&) {
    const std::vector<Tensor> xs = inputs_of(e, 3, DType::f32);
    std::vector<Tensor> apart, repeated, filled;
    for (std::size_t i = 0; i < xs.size(); ++i) {
      apart.push_back(strided(xs[i]));
      const double number = is_float(xs[i].dtype()) ? 0.75 : 1;
      repeated.push_back(broadcast_to(leaf_of({number}, {}, xs[i].dtype()), xs[i].shape()));
      filled.push_back(full(xs[i].shape(), number, xs[i].dtype()));
    }
    CHECK(same_bits(e.call(xs), e.call(apart)));
    std::vector<Tensor> dense;
    for (const Tensor& x : repeated) dense.push_back(leaf_of(numbers_of(x), x.shape(), x.dtype()));
    CHECK(same_bits(e.call(dense), e.call(repeated)));
    CHECK(same_bits(e.call(dense), e.call(filled)));
  });
}

TEST_CASE("passes change no bit of an example or of its gradients") {
  for_examples([](const Op& op, const Example& e, const std::string&) {
    const auto compute = [&] {
      Problem p{e.call, draw(e.inputs, 4)};
      if (op.backward != no_gradient)
        if (auto second = derived(p, 4)) p = std::move(*second);
      const Tensor y = p.f(leaves(p.inputs));
      eval(y);
      return y;
    };
    const Tensor on = compute();
    set_passes(PassSet::none());
    const Tensor off = compute();
    set_passes(PassSet::all());
    CHECK(same_bits(on, off));
  });
}
