// Concatenation: many inputs copied one behind the other; its adjoint is a slice for each.
#include <fmt/format.h>

#include <algorithm>

#include "define.h"
#include "example_rules.h"

namespace opgrad {

using fmt::format;

namespace {
auto at(int i) { return static_cast<std::size_t>(i); }
}  // namespace

namespace {

struct AxisAttributes {
  std::int64_t axis = 0;
  static constexpr auto fields() { return std::tuple{field("axis", &AxisAttributes::axis)}; }
};

Result concatenate_shape(const Call& call) {
  const Shape& first = call.shape(0);
  const std::int64_t axis = call.attributes<AxisAttributes>().axis;
  if (axis < 0 || axis >= first.rank())
    call.fail(format("axis {} is out of range; with rank {} it must lie below {}", axis, first.rank(),
                     first.rank()));
  std::array<std::int64_t, max_rank> dims{};
  std::ranges::copy(first, dims.begin());
  for (int k = 1; k < call.arity(); ++k) {
    const Shape& s = call.shape(k);
    bool ok = s.rank() == first.rank() && call.dtype(k) == call.dtype(0);
    for (int i = 0; ok && i < s.rank(); ++i) ok = i == axis || s[i] == first[i];
    if (!ok)
      call.fail(
          format("parts 0 and {} are {} and {}; element types must be equal, and sizes except along axis {}",
                 k, type_text(call, 0), type_text(call, k), axis));
    dims[static_cast<std::size_t>(axis)] += s[static_cast<int>(axis)];
  }
  return {call.dtype(0), Shape(std::span(dims.data(), at(first.rank())))};
}

void concatenate_kernel(const KernelArgs& args) {
  const std::size_t axis = at(static_cast<int>(args.attributes<AxisAttributes>().axis));
  const std::size_t bytes = size_of(args.out.dtype());
  std::int64_t first = 0;
  for (const View& part : args.in) {
    std::byte* place =
        args.out.as<std::byte>() + first * args.out.strides[axis] * static_cast<std::int64_t>(bytes);
    copy(part, View{place, part.type, args.out.strides});
    first += part.shape().dims()[axis];
  }
}

Grads concatenate_backward(const Tensor& y, const Tensor& dy, Wanted wanted) {
  const auto axis = static_cast<int>(y.attributes<AxisAttributes>().axis);
  Axes begin, end;
  for (const std::int64_t n : y.shape()) {
    begin.push_back(0);
    end.push_back(n);
  }
  Grads grads;
  for (int k = 0; k < y.node()->arity; ++k) {
    end[axis] = begin[axis] + y.input(k).shape()[axis];
    grads.push_back(wanted(k) ? slice(dy, begin, end) : Tensor());
    begin[axis] = end[axis];
  }
  return grads;
}

// As many parts as one node takes: Wanted has a bit for each.
constexpr std::size_t most_parts = 64;

}  // namespace

constinit const Op records::concatenate_op{
    .name = "concatenate",
    .arity = -1,
    .traits = Traits::nothrow | Traits::linear,
    .about = "the parts one behind the other along an axis; adjoint: a slice for each",
    .shape = concatenate_shape,
    .forward = concatenate_kernel,
    .backward = concatenate_backward,
    .examples =
        [] {
          return Examples{{{sample({2, 3}), sample({2, 1}), sample({2, 2})},
                           [](std::span<const Tensor> x) { return concatenate(x, 1); }},
                          {{sample({2, 2}), sample({1, 2})},
                           [](std::span<const Tensor> x) { return concatenate(x, 0); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"concatenate: no parts were given", [] { concatenate({}, 0); }},
                          {"concatenate: axis 2147483648 is out of range",
                           [] { concatenate(std::vector{zeros({2})}, 1LL << 31); }},
                          {"concatenate: axis 4611686018427387904 is out of range",
                           [] { concatenate(std::vector{zeros({2})}, 1LL << 62); }},
                          {"concatenate: axis -1 was given, but the tensor has rank 0",
                           [] { concatenate(std::vector{zeros({})}, -1); }},
                          {"concatenate: axis 4294967296 is out of range; with rank 1 it must lie below 1",
                           [] {
                             const Tensor x = zeros({2});
                             make(records::concatenate_op, {x.node()}, {}, AxisAttributes{1LL << 32});
                           }},
                          {"concatenate: takes 1 to 64 inputs and was given 65",
                           [] {
                             const Tensor x = zeros({2});
                             const AxisAttributes a;
                             make_node(records::concatenate_op, std::vector<Node*>(65, x.node()), {}, &a);
                           }},
                          {"concatenate: axis 2 is out of range",
                           [] {
                             concatenate(std::vector{zeros({2, 3})}, 2);
                           }},
                          {"concatenate: parts 0 and 1 are f32[2, 3] and f32[3, 2]",
                           [] {
                             concatenate(std::vector{zeros({2, 3}), zeros({3, 2})}, 0);
                           }},
                          {"concatenate: parts 0 and 1 are f32[2] and f64[2]",
                           [] {
                             concatenate(std::vector{zeros({2}), zeros({2}, DType::f64)}, 0);
                           }},
                          {"concatenate: part 1 is an empty Tensor", [] {
                             concatenate(std::vector{zeros({2}), Tensor()}, 0);
                           }}};
        },
    .attributes = &attribute_info<AxisAttributes>,
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
                      const bool rows = y.attributes<AxisAttributes>().axis == 0;
                      return rows ? Grads{} : rows_apart(y, dy, wanted, examples);
                    },
                    [](const Tensor& y, std::span<const Tensor> inputs) {
                      return concatenate(inputs, y.attributes<AxisAttributes>().axis + 1);
                    }}};

Tensor concatenate(std::span<const Tensor> parts, std::int64_t axis, const char* file, int line) {
  const Location where{file, line};
  if (parts.empty()) refuse("concatenate", where, "no parts were given");
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!parts[i]) refuse("concatenate", where, format("part {} is an empty Tensor", i));
  const AxisAttributes a{axis_of("concatenate", where, axis, parts[0].rank())};
  std::vector<Tensor> level(parts.begin(), parts.end());
  while (level.size() > 1) {
    std::vector<Tensor> next;
    for (std::size_t begin = 0; begin < level.size(); begin += most_parts) {
      std::vector<Node*> nodes;
      for (std::size_t i = begin; i < std::min(level.size(), begin + most_parts); ++i)
        nodes.push_back(level[i].node());
      next.push_back(make_node(records::concatenate_op, nodes, where, &a));
    }
    level = std::move(next);
  }
  return level[0];
}

}  // namespace opgrad
