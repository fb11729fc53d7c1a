// Wishes, donations, and comparing bits.
#include "task.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>

#include "../../graph/grad.h"
#include "../../graph/run.h"
#include "../../ops/ops.h"
#include "../../optim/optimizer.h"

namespace opgrad::fuzz {
namespace {

bool same(const std::byte* a, const std::byte* b, std::size_t bytes, DType dtype) {
  if (bytes == 0 || std::memcmp(a, b, bytes) == 0) return true;
  return dispatch(dtype, [&]<class T>() {
    if constexpr (std::is_floating_point_v<T>) {
      for (std::size_t i = 0; i < bytes; i += sizeof(T)) {
        T x, y;
        std::memcpy(&x, a + i, sizeof x);
        std::memcpy(&y, b + i, sizeof y);
        if (std::memcmp(&x, &y, sizeof x) != 0 && !(std::isnan(x) && std::isnan(y))) return false;
      }
      return true;
    }
    return false;
  });
}

void append(Task::Answer& a, const Tensor& t) {
  const auto* data = t.node()->value->buffer->data;
  a.dtypes.push_back(t.dtype());
  a.values.emplace_back(data, data + static_cast<std::size_t>(t.numel()) * size_of(t.dtype()));
}

// A capture gives away its key when a plan is made of it.
Capture copy_of(const Capture& c) {
  Capture to;
  to.nodes = c.nodes;
  to.leaves = c.leaves;
  to.numbers = c.numbers;
  to.number_is_slot = c.number_is_slot;
  to.outputs = c.outputs;
  to.key = c.key;
  to.hash = c.hash;
  return to;
}

bool special(double x) { return x == 0 || x == 1 || x == -1 || x == 2 || x == 0.5; }

}  // namespace

bool Task::Answer::operator==(const Answer& o) const {
  if (refused != o.refused || dtypes != o.dtypes || values.size() != o.values.size()) return false;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].size() != o.values[i].size() ||
        !same(values[i].data(), o.values[i].data(), values[i].size(), dtypes[i]))
      return false;
  return true;
}

Tensor loss_of(const Graph& g, const Built& b) {
  Tensor loss;
  double weight = 1;
  for (const std::uint32_t o : g.outputs) {
    const Tensor& y = b.values[o];
    if (!is_float(y.dtype())) continue;
    const Tensor part = cast(sum(y * weight), DType::f32);
    loss = loss ? loss + part : part;
    weight = -0.75 * weight;
  }
  return loss;
}

void Task::ask(const Graph& g, Built b) {
  const Tensor loss = g.step || g.gradients ? loss_of(g, b) : Tensor();
  std::vector<Tensor> xs = b.variables;
  for (const Parameter& p : b.parameters) xs.push_back(p.value());
  std::vector<Tensor> gradients(xs.size());
  if (loss) gradients = vjp_where_connected(loss, full({}, 1), xs);
  xs.clear();
  if (!g.step || !loss) {
    for (const std::uint32_t o : g.outputs) want(b.values[o]);
    for (const Tensor& d : gradients)
      if (d) want(d);
    return;
  }
  want(loss);
  const auto update = [&](const Parameter& p, const Tensor& value) {
    want(value);
    wishes_.back().donor = p.value().node();
  };
  for (std::size_t i = 0; i < b.parameters.size(); ++i) {
    const Parameter& p = b.parameters[i];
    const Tensor& d = gradients[i];
    if (!d) continue;
    const auto slot = [&](double x) { return slot_number(p.shape(), x, p.dtype()); };
    if (!g.adam) {
      update(p, p - slot(0.1) * d);
      continue;
    }
    const Parameter m("m", full(p.shape(), 0.125, p.dtype()), false),
        v("v", full(p.shape(), 0.5, p.dtype()), false);
    const Tensor m1 = 0.9 * m + 0.1 * d, v1 = 0.99 * v + 0.01 * square(d);
    update(p, p - slot(0.01) * m1 / (sqrt(v1) + 1e-7));
    update(m, m1);
    update(v, v1);
    states_.push_back(m);
    states_.push_back(v);
  }
  for (const std::uint32_t h : g.held) keep_.push_back(b.values[h]);
  parameters_ = std::move(b.parameters);
}

Task::Task(const Graph& g) {
  ask(g, build(g));
  std::uint64_t missed = 0;
  capture_ = opgrad::capture(wishes_, g.step, missed);
  Random random(g.seed + 1);
  for (std::size_t i = 0; i < capture_.numbers.size(); ++i)
    fixed_.push_back(!capture_.number_is_slot[i] && (special(capture_.numbers[i]) || random.chance(0.7)));
}

Plan Task::plan(PassSet passes) const {
  Capture c = copy_of(capture_);
  for (std::size_t i = 0; i < c.numbers.size(); ++i)
    if (!fixed_[i]) c.numbers[i] = -3.25;
  return make_plan(c, fixed_, passes);
}

Task::Answer Task::run(const Plan& plan) const {
  struct Saved {
    std::byte* at;
    std::vector<std::byte> bytes;
  };
  std::vector<Saved> saved;
  for (const PlanOutput& o : plan.outputs)
    if (o.donor != no_index) {
      const Node* const n = capture_.leaves[o.donor];
      std::byte* const at = n->value->buffer->data;
      saved.push_back(
          {at, {at, at + static_cast<std::size_t>(shape_of(n->shape).numel()) * size_of(n->dtype)}});
    }
  Answer a;
  try {
    const std::vector<BufferRef> buffers = execute(plan, capture_);
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const Node* const n = capture_.nodes[capture_.outputs[i].item];
      const auto* data = buffers[i]->data;
      a.dtypes.push_back(n->dtype);
      a.values.emplace_back(data,
                            data + static_cast<std::size_t>(shape_of(n->shape).numel()) * size_of(n->dtype));
    }
  } catch (const UserError&) {
    a.refused = true;
  }
  for (const Saved& s : saved)
    if (!s.bytes.empty()) std::memcpy(s.at, s.bytes.data(), s.bytes.size());
  return a;
}

Task::Answer run_publicly(const Graph& g) {
  Task::Answer a;
  try {
    Built b = build(g);
    std::unique_ptr<Optimizer> optimizer;
    if (g.adam)
      optimizer = std::make_unique<Adam>(AdamOptions{.learning_rate = 0.01});
    else
      optimizer = std::make_unique<SGD>(SGDOptions{.learning_rate = 0.1, .momentum = 0.5});
    for (int round = 0; round < 2; ++round) {
      // The parameters go on; everything else is built anew.
      Built again;
      std::size_t next = 0;
      for (const Record& r : g.records) {
        if (r.what == What::parameter && g.step)
          again.values.push_back(b.parameters[next++].value());
        else if (r.what == What::parameter)
          again.variables.push_back(again.values.emplace_back(variable(make(r, again.values))));
        else
          again.values.push_back(make(r, again.values));
      }
      b.values.clear();
      const Tensor loss = g.step || g.gradients ? loss_of(g, again) : Tensor();
      if (g.step && loss) {
        std::vector<Tensor> held;
        for (const std::uint32_t h : g.held) held.push_back(again.values[h]);
        again = {};
        append(a, optimizer->step(loss));
        for (const Tensor& t : held) {
          eval(t);
          append(a, t);
        }
        for (const Parameter& p : b.parameters) append(a, p.value());
        continue;
      }
      std::vector<Tensor> wanted;
      for (const std::uint32_t o : g.outputs) wanted.push_back(again.values[o]);
      if (loss)
        for (const Tensor& d : vjp_where_connected(loss, full({}, 1), again.variables))
          if (d) wanted.push_back(d);
      eval(wanted);
      for (const Tensor& t : wanted) append(a, t);
    }
  } catch (const UserError&) {
    a.refused = true;
  }
  return a;
}

}  // namespace opgrad::fuzz
