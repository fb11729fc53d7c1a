// reshape, its own adjoint, and what inserts or removes axes of size 1 by it. A view where strides can say
// it.
#include <fmt/format.h>

#include <algorithm>

#include "define.h"
#include "example_rules.h"
#include "movement.h"

namespace opgrad {

using fmt::format;

//
// Strides can say it where no new axis spans old ones that do not lie one behind the other. So merge the old
// axes that do into runs, and cut the runs into the new axes from the right.

namespace {

bool reshape_view(const void*, const Shape& in, const Shape& out, Layout& layout) {
  if (in.numel() == 0) {
    layout.strides = dense_strides(out);
    return true;
  }
  struct Run {
    std::int64_t size, stride;
  };
  std::array<Run, max_rank + 1> runs{{{1, 1}}};
  std::size_t last = 0;
  for (int i = 0; i < in.rank(); ++i) {
    const std::int64_t n = in[i], stride = layout.strides[at(i)];
    if (n == 1) continue;
    if (runs[last].size != 1 && runs[last].stride == n * stride)
      runs[last] = {runs[last].size * n, stride};
    else
      runs[++last] = {n, stride};
  }
  Strides strides{};
  Run rest = runs[last];
  for (int i = out.rank() - 1; i >= 0; --i) {
    const std::int64_t n = out[i];
    if (n != 1 && rest.size == 1) rest = runs[--last];
    if (rest.size % n != 0) return false;
    strides[at(i)] = rest.stride;
    rest = {rest.size / n, rest.stride * n};
  }
  layout.strides = strides;
  return true;
}

}  // namespace

constinit const Op records::reshape_op{
    .name = "reshape",
    .arity = 1,
    .traits = Traits::movement | Traits::nothrow | Traits::linear,
    .about = "the same elements in row-major order under another shape",
    .shape =
        [](const Call& call) {
          const Shape& to = call.attributes<ShapeAttributes>().shape;
          if (to.numel() != call.shape(0).numel())
            call.fail(format("{} has {} elements and {} has {}; give as many, or one size as -1",
                             to_string(call.shape(0)), call.shape(0).numel(), to_string(to), to.numel()));
          return Result(call.dtype(0), to);
        },
    .forward = {},
    .backward = [](const Tensor& y, const Tensor& dy,
                   Wanted) { return Grads{reshape(dy, y.input(0).shape())}; },
    .simplify =
        [](const Tensor& y) {
          const Tensor x = y.input(0);
          return made_by(x, records::reshape_op) ? reshape(x.input(0), y.shape()) : y;
        },
    .examples =
        [] {
          return Examples{{{sample({2, 3, 4})},
                           [](std::span<const Tensor> x) {
                             return reshape(x[0], {4, -1});
                           }},
                          {{sample({2, 3, 4})},
                           [](std::span<const Tensor> x) {
                             return reshape(permute(x[0], {0, 2, 1}), {8, 3});
                           }},
                          {{sample({1})}, [](std::span<const Tensor> x) { return reshape(x[0], {}); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"reshape: [2, 3] has 6 elements and [4] has 4",
                           [] {
                             reshape(zeros({2, 3}), {4});
                           }},
                          {"reshape: 6 elements of [2, 3] cannot be cut into [4, -1]",
                           [] {
                             reshape(zeros({2, 3}), {4, -1});
                           }},
                          {"reshape: more than one size is -1 in [-1, -1]",
                           [] {
                             reshape(zeros({2, 3}), {-1, -1});
                           }},
                          {"reshape: the sizes [-2, 3] hold -2",
                           [] {
                             reshape(zeros({2, 3}), {-2, 3});
                           }},
                          {"reshape: [2, 3] has 6 elements and [2147483648] has",
                           [] {
                             reshape(zeros({2, 3}), {1LL << 31});
                           }},
                          {"reshape: the shape [4611686018427387904] has more than 2^56",
                           [] {
                             reshape(zeros({2, 3}), {1LL << 62});
                           }},
                          {"reshape: the product of [4611686018427387904, 4] overflows 64 bits",
                           [] {
                             reshape(zeros({2, 3}), {1LL << 62, 4});
                           }},
                          {"reshape: an operand is an empty Tensor", [] { reshape(Tensor(), {4}); }}};
        },
    .attributes = &attribute_info<ShapeAttributes>,
    .view = reshape_view,
    // Elements keep their order, so examples stay whole where both first axes can be cut into them.
    .per_example = {[](const Tensor& y, const Tensor& dy, Wanted, std::int64_t examples) {
                      const Tensor x = y.input(0);
                      const bool whole = x.rank() > 0 && x.dim(0) % examples == 0 && y.dim(0) % examples == 0;
                      return whole ? Grads{reshape(dy, x.shape())} : Grads{};
                    },
                    [](const Tensor& y, std::span<const Tensor> inputs) {
                      return reshape(inputs[0], in_front(inputs[0].dim(0), y.shape()));
                    }}};

Tensor reshape(const Operand& x, const Shape& shape) {
  const Tensor t = x.tensor("reshape");
  if (t.shape() == shape) return t;
  return make(records::reshape_op, {t.node()}, x.where(), ShapeAttributes{shape});
}

Tensor reshape(const Operand& x, std::initializer_list<std::int64_t> sizes) {
  const Tensor t = x.tensor("reshape");
  const std::span<const std::int64_t> given(sizes.begin(), sizes.size());
  const auto text = [&] { return format("[{}]", fmt::join(given, ", ")); };
  if (given.size() > max_rank)
    refuse("reshape", x.where(), format("{} has more than {} axes", text(), max_rank));
  std::array<std::int64_t, max_rank> dims{};
  std::ranges::copy(given, dims.begin());
  std::int64_t known = 1;
  std::int64_t* inferred = nullptr;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (dims[i] == -1) {
      if (inferred) refuse("reshape", x.where(), format("more than one size is -1 in {}", text()));
      inferred = &dims[i];
    } else if (dims[i] < 0) {
      refuse("reshape", x.where(),
             format("the sizes {} hold {}; only -1 (infer it) is not a size", text(), dims[i]));
    } else if (__builtin_mul_overflow(known, dims[i], &known)) {
      refuse("reshape", x.where(), format("the product of {} overflows 64 bits", text()));
    }
  }
  if (inferred) {
    if (known == 0 || t.numel() % known != 0)
      refuse("reshape", x.where(),
             format("{} elements of {} cannot be cut into {}: {} is no multiple of {}", t.numel(),
                    to_string(t.shape()), text(), t.numel(), known));
    *inferred = t.numel() / known;
  }
  try {
    return reshape(x, Shape(std::span(dims.data(), given.size())));
  } catch (const UserError& e) {
    if (std::string_view(e.what()).starts_with("reshape")) throw;
    refuse("reshape", x.where(), e.what());
  }
}

Tensor expand_dims(const Operand& x, std::int64_t axis) {
  const Tensor t = x.tensor("expand_dims");
  if (t.rank() == max_rank) refuse("expand_dims", x.where(), format("{} has 8 axes already", type_text(t)));
  std::vector<std::int64_t> dims(t.shape().begin(), t.shape().end());
  dims.insert(dims.begin() + axis_of("expand_dims", x.where(), axis, t.rank() + 1), 1);
  return reshape_node(t, Shape(dims), x.where());
}

Tensor squeeze(const Operand& x, std::int64_t axis) {
  const Tensor t = x.tensor("squeeze");
  const int i = axis_of("squeeze", x.where(), axis, t.rank());
  if (t.dim(i) != 1)
    refuse("squeeze", x.where(), format("axis {} of {} has size {}, not 1", axis, type_text(t), t.dim(i)));
  std::vector<std::int64_t> dims(t.shape().begin(), t.shape().end());
  dims.erase(dims.begin() + i);
  return reshape_node(t, Shape(dims), x.where());
}

}  // namespace opgrad
