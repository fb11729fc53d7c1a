// Row groups: what is prepared once for all blocks of rows, and what is moved to where there is less to do.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "../core/parallel.h"
#include "../graph/passes.h"
#include "../graph/plan.h"
#include "../graph/run.h"
#include "../models/opgrad.h"
#include "live_ranges.h"

using namespace opgrad;

namespace {

Tensor numbers(const Shape& shape, int step) {
  std::vector<float> x(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(i * static_cast<std::size_t>(step) % 101) / 32 - 1.5f;
  return tensor(x, shape);
}

Plan plan_of(const std::vector<Tensor>& wanted) {
  std::vector<Wish> wishes;
  for (const Tensor& t : wanted) wishes.push_back({t.node()});
  std::uint64_t missed = 0;
  Capture c = capture(wishes, false, missed);
  return make_plan(c, std::vector<bool>(c.numbers.size(), true), PassSet::all());
}

// A convolution by Winograd's algorithm between two poolings, and its input's gradient: groups of 18 images.
std::vector<Tensor> convolution() {
  const Tensor x = variable(numbers({18, 20, 22, 16}, 29)), w = numbers({3, 3, 16, 32}, 43);
  const Tensor y = max_pool2d(relu(conv2d(max_pool2d(x, {2, 2}, {2, 2}), w)), {2, 2}, {2, 2});
  // The gradient waits for sums over all images.
  return {y, grad(sum(square(y)) * sum(y), x)};
}

// A layer of 37 images and all that its weights' gradients need. Two images of 11 x 11 pixels are a part of
// the bias's gradient; the images have an end of one.
std::vector<Tensor> layer() {
  const Tensor x = numbers({37, 13, 13, 3}, 29), w = variable(numbers({3, 3, 3, 20}, 43));
  const Tensor b = variable(numbers({20}, 31));
  const Tensor y = max_pool2d(relu(conv2d(x, w) + b), {2, 2}, {2, 2});
  return grad(sum(square(y)) * sum(y), {w, b});
}

// The parts of row groups that are folded over rows, by name.
std::vector<const PlanStep*> folded_parts(const Plan& plan, std::string_view name) {
  std::vector<const PlanStep*> found;
  for (const PlanStep& s : plan.steps)
    for (std::uint32_t k = 0; s.rows > 0 && k < s.count; ++k)
      if (const PlanStep& part = plan.parts[s.first + k];
          plan.folds_rows(part) && plan.calls[part.head].op->name == name)
        found.push_back(&part);
  return found;
}

// Whether the gradient of a pooling of `images` images is written where the pooled values were.
bool in_place(std::int64_t images, std::int64_t channels, std::array<std::int64_t, 2> strides,
              bool read_later) {
  const Tensor x = variable(numbers({images, 6, 8, channels}, 29)), v = x * 2.0 + 1.0;
  const Tensor y = max_pool2d(v, {2, 2}, strides), loss = sum(square(y)) * sum(y);
  std::vector<Tensor> wanted{grad(loss, x)};
  if (read_later) wanted.push_back(v);
  const Plan plan = plan_of(wanted);
  for (const PlanCall& c : plan.calls) {
    if (!c.op || std::string_view(c.op->name) != "max_pool2d_gradient") continue;
    const PlanOperand &from = plan.operands[c.operands], &to = plan.operands[c.operands + c.inputs];
    return from.where == to.where && from.offset == to.offset;
  }
  return false;
}

}  // namespace

TEST_CASE("rows: kernels are prepared once for all blocks of a row group") {
  const Plan plan = plan_of(convolution());
  int prepared = 0;
  for (const PlanStep& s : plan.steps)
    for (std::uint32_t k = 0; s.rows > 0 && k < s.count; ++k) {
      const PlanStep& part = plan.parts[s.first + k];
      if (part.head == no_index || !plan.calls[part.head].op->prepare) continue;
      CHECK(s.rows > s.block);
      CHECK(plan.calls[part.head].workspace >= 0);
      ++prepared;
    }
  CHECK(prepared == 2);
}

TEST_CASE("rows: what prepared kernels give in blocks has the bits of the naive executor on any threads") {
  const auto bits = [](const PassSet& passes) {
    set_passes(passes);
    std::vector<std::vector<float>> all;
    for (const Tensor& t : convolution()) all.push_back(t.to_vector<float>());
    set_passes(PassSet::all());
    return all;
  };
  const auto naive = bits(PassSet::none());
  const int before = threads();
  for (const int n : {1, 2, 3}) {
    set_threads(n);
    CHECK(bits(PassSet::all()) == naive);
    CHECK(bits(PassSet::all().without("rows")) == naive);
  }
  set_threads(before);
}

TEST_CASE(
    "rows: gradients of weights are folded where a block's deltas are in cache, which are never stored") {
  const Plan plan = plan_of(layer());
  const auto bias = folded_parts(plan, "sum"), kernel = folded_parts(plan, "conv2d_kernel_gradient");
  REQUIRE(bias.size() == 1);
  REQUIRE(kernel.size() == 1);
  const PlanCall &sum = plan.calls[bias[0]->head], &gradient = plan.calls[kernel[0]->head];
  const PlanOperand &delta = plan.operands[gradient.operands + 1], &summed = plan.operands[sum.operands];
  CHECK(delta.base == Base::block);
  CHECK(summed.base == Base::block);
  CHECK(summed.offset == delta.offset);
}

TEST_CASE("rows: what is folded block by block has the bits of the naive executor on any threads") {
  const auto bits = [](const PassSet& passes) {
    set_passes(passes);
    std::vector<std::vector<float>> all;
    for (const Tensor& t : layer()) all.push_back(t.to_vector<float>());
    set_passes(PassSet::all());
    return all;
  };
  const auto naive = bits(PassSet::none());
  const int before = threads();
  for (const int n : {1, 2, 3, 8}) {
    set_threads(n);
    CHECK(bits(PassSet::all()) == naive);
    CHECK(bits(PassSet::all().without("rows")) == naive);
  }
  set_threads(before);
}

TEST_CASE("rows: the checker of live ranges sees blocks that cut a part, and parts that are written over") {
  const auto damaged = [](auto damage) {
    Plan plan = plan_of(layer());
    damage(plan);
    const auto faults = test::memory_faults(plan);
    return faults.empty() ? "" : faults[0];
  };
  const auto contains = [](const std::string& text, const char* part) {
    CAPTURE(text);
    return text.find(part) != std::string::npos;
  };
  CHECK(damaged([](Plan&) {}) == "");
  CHECK(contains(damaged([](Plan& p) {
                   for (PlanStep& s : p.steps)
                     if (s.rows > 0) s.block = 3;
                 }),
                 "is folded in parts of 2 rows, which blocks of 3 cut"));
  CHECK(contains(damaged([](Plan& p) {
                   p.calls[folded_parts(p, "sum")[0]->head].workspace =
                       p.calls[folded_parts(p, "conv2d_kernel_gradient")[0]->head].workspace;
                 }),
                 "are overwritten by"));
}

TEST_CASE("rows: relu's gate stands before the gradient of a pooling, where elements are fewer") {
  const Tensor x = variable(numbers({2, 8, 8, 3}, 29));
  const Plan plan = plan_of({grad(sum(square(max_pool2d(relu(x), {2, 2}, {2, 2}))), x)});
  int gates = 0;
  for (const PlanCall& c : plan.calls) {
    if (!c.op || std::string_view(c.op->name) != "gate") continue;
    CHECK(shape_of(plan.operands[c.operands + c.inputs].shape) == Shape({2, 4, 4, 3}));
    ++gates;
  }
  CHECK(gates == 1);
}

TEST_CASE("rows: the moved gate changes no bits, whatever wins: zeros, ties, NaN, several windows") {
  const Tensor ordinary = numbers({3, 7, 8, 5}, 29);
  std::vector<float> special = ordinary.to_vector<float>();
  const std::vector<float> values{
      -0.0f, 0, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1, 2, 2};
  for (std::size_t i = 0; i < special.size(); i += 3) special[i] = values[i / 3 % values.size()];
  for (const Tensor& from : {ordinary, tensor(special, ordinary.shape())})
    for (const std::array<std::int64_t, 2> strides : {std::array<std::int64_t, 2>{2, 3}, {1, 2}}) {
      const auto gradient = [&](const PassSet& passes) {
        set_passes(passes);
        const Tensor x = variable(from), y = max_pool2d(relu(x), {2, 3}, strides);
        const Tensor dy = numbers(y.shape(), 17);
        const std::vector<float> g = grad(sum(y * dy), x).to_vector<float>();
        set_passes(PassSet::all());
        return g;
      };
      const std::vector<float> moved = gradient(PassSet::all());
      CHECK(moved == gradient(PassSet::none()));
      CHECK(std::ranges::none_of(moved, [](float g) { return g != g; }));
    }
}

TEST_CASE("rows: a pooling's gradient takes over the pooled values where nothing else reads them") {
  for (const std::int64_t images : {4, 32}) {
    CAPTURE(images);
    CHECK(in_place(images, 16, {2, 2}, false));
    CHECK(in_place(images, 4, {2, 2}, false));
    CHECK(!in_place(images, 16, {2, 2}, true));
    // Windows, or packs of channels, that overlap would read what is written already.
    CHECK(!in_place(images, 16, {1, 2}, false));
    CHECK(!in_place(images, 20, {2, 2}, false));
  }
}
