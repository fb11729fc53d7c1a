// Slices and what puts them back: slice is a view, pad copies, and each is the other's adjoint. Indexing by a
// number.
#include <fmt/format.h>

#include <algorithm>

#include "../core/parallel.h"
#include "define.h"
#include "example_rules.h"
#include "movement.h"

namespace opgrad {

using fmt::format;

// With m = ceil((end - begin) / step) elements taken from n, padding `begin` before, n - begin - (m - 1) step
// - 1 after and step - 1 between puts them back where they were.

namespace {

struct SliceAttributes {
  Axes begin, end, step;
  static constexpr auto fields() {
    return std::tuple{field("begin", &SliceAttributes::begin), field("end", &SliceAttributes::end),
                      field("step", &SliceAttributes::step)};
  }
};
struct PadAttributes {
  Axes before, after, interior;
  double value = 0;
  static constexpr auto fields() {
    return std::tuple{field("before", &PadAttributes::before), field("after", &PadAttributes::after),
                      field("interior", &PadAttributes::interior), field("value", &PadAttributes::value)};
  }
};

void need_entries(const Call& call, const char* what, const Axes& list) {
  if (list.size() != call.shape(0).rank())
    call.fail(format("{} = {} has {} entries and {} has {} axes; give one for each axis", what,
                     field_text(list), list.size(), to_string(call.shape(0)), call.shape(0).rank()));
}

Result slice_shape(const Call& call) {
  const auto& a = call.attributes<SliceAttributes>();
  const Shape& in = call.shape(0);
  need_entries(call, "begin", a.begin);
  need_entries(call, "end", a.end);
  need_entries(call, "step", a.step);
  std::array<std::int64_t, max_rank> dims{};
  for (int i = 0; i < in.rank(); ++i) {
    if (a.begin[i] < 0 || a.end[i] > in[i] || a.begin[i] > a.end[i])
      call.fail(format("axis {} of {}: begin {} and end {} must satisfy 0 <= begin <= end <= {}", i,
                       to_string(in), a.begin[i], a.end[i], in[i]));
    if (a.step[i] < 1) call.fail(format("axis {}: the step is {} and must be at least 1", i, a.step[i]));
    if (a.end[i] > a.begin[i]) dims[at(i)] = (a.end[i] - a.begin[i] - 1) / a.step[i] + 1;
  }
  return {call.dtype(0), Shape(std::span(dims.data(), at(in.rank())))};
}

Grads slice_backward(const Tensor& y, const Tensor& dy, Wanted) {
  const auto& a = y.attributes<SliceAttributes>();
  Axes before, after, interior;
  for (int i = 0; i < y.rank(); ++i) {
    const std::int64_t n = y.input(0).shape()[i], m = y.shape()[i];
    const std::int64_t used = m == 0 ? 0 : (m - 1) * a.step[i] + 1;
    before.push_back(a.begin[i]);
    after.push_back(n - a.begin[i] - used);
    interior.push_back(m > 1 ? a.step[i] - 1 : 0);
  }
  return {pad(dy, before, after, interior)};
}

Result pad_shape(const Call& call) {
  const auto& a = call.attributes<PadAttributes>();
  const Shape& in = call.shape(0);
  need_entries(call, "before", a.before);
  need_entries(call, "after", a.after);
  need_entries(call, "interior", a.interior);
  if (!fits(a.value, call.dtype(0)))
    call.fail(format("the value {} does not fit the elements of {}", a.value, type_text(call, 0)));
  std::array<std::int64_t, max_rank> dims{};
  for (int i = 0; i < in.rank(); ++i) {
    if (a.before[i] < 0 || a.after[i] < 0 || a.interior[i] < 0)
      call.fail(format("axis {}: before {}, after {} and interior {} must not be negative; slice cuts off", i,
                       a.before[i], a.after[i], a.interior[i]));
    std::int64_t gaps = 0;
    std::int64_t& n = dims[at(i)];
    if (__builtin_add_overflow(a.before[i], a.after[i], &n) || __builtin_add_overflow(n, in[i], &n) ||
        (in[i] > 1 &&
         (__builtin_mul_overflow(in[i] - 1, a.interior[i], &gaps) || __builtin_add_overflow(n, gaps, &n))))
      call.fail(format("axis {}: before {} + after {} + size {} with interior {} overflows 64 bits", i,
                       a.before[i], a.after[i], in[i], a.interior[i]));
  }
  return {call.dtype(0), Shape(std::span(dims.data(), at(in.rank())))};
}

void pad_kernel(const KernelArgs& args) {
  const auto& a = args.attributes<PadAttributes>();
  const View &x = args.in[0], &y = args.out;
  dispatch(y.dtype(), [&]<class T>() {
    const T value = static_cast<T>(a.value);
    parallel_ranges(y.numel(), 65536, [&](std::int64_t begin, std::int64_t end) {
      std::fill(y.as<T>() + begin, y.as<T>() + end, value);
    });
    if (x.numel() == 0) return;
    View inside{y.data, x.type, y.strides};
    std::int64_t first = 0;
    for (int i = 0; i < x.shape().rank(); ++i) {
      first += a.before[i] * y.strides[at(i)];
      if (x.shape()[i] > 1) inside.strides[at(i)] *= a.interior[i] + 1;
    }
    inside.data = y.as<T>() + first;
    copy(x, inside);
  });
}

Grads pad_backward(const Tensor& y, const Tensor& dy, Wanted) {
  const auto& a = y.attributes<PadAttributes>();
  Axes begin, end, step;
  for (int i = 0; i < y.rank(); ++i) {
    const std::int64_t n = y.input(0).shape()[i];
    begin.push_back(a.before[i]);
    step.push_back(n > 1 ? a.interior[i] + 1 : 1);
    end.push_back(n == 0 ? a.before[i] : a.before[i] + (n - 1) * step[i] + 1);
  }
  return {slice(dy, begin, end, step)};
}

Tensor lift_slice(const Tensor& y, std::span<const Tensor> inputs) {
  const auto& a = y.attributes<SliceAttributes>();
  return slice(inputs[0], with_first(0, a.begin), with_first(inputs[0].dim(0), a.end), with_first(1, a.step));
}
Tensor lift_pad(const Tensor& y, std::span<const Tensor> inputs) {
  const auto& a = y.attributes<PadAttributes>();
  return pad(inputs[0], with_first(0, a.before), with_first(0, a.after), with_first(0, a.interior), a.value);
}

}  // namespace

constinit const Op records::slice_op{
    .name = "slice",
    .arity = 1,
    .traits = Traits::movement | Traits::nothrow | Traits::linear,
    .about = "elements begin, begin + step, ... below end of each axis; adjoint: pad",
    .shape = slice_shape,
    .forward = {},
    .backward = slice_backward,
    .examples =
        [] {
          return Examples{
              {{sample({5, 4})},
               [](std::span<const Tensor> x) {
                 return slice(x[0], {1, 0}, {5, 3}, {2, 1});
               }},
              {{sample({7})}, [](std::span<const Tensor> x) { return slice(x[0], {1}, {6}, {3}); }},
              {{sample({4, 3})}, [](std::span<const Tensor> x) { return x[0][-2]; }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"slice: begin = [0] has 1 entries and [2, 3] has 2 axes",
                           [] {
                             slice(zeros({2, 3}), {0}, {1});
                           }},
                          {"slice: axis 0 of [3]: begin -1 and end 2", [] { slice(zeros({3}), {-1}, {2}); }},
                          {"slice: axis 0 of [3]: begin 0 and end 4 must satisfy 0 <= begin <= end <= 3",
                           [] { slice(zeros({3}), {0}, {4}); }},
                          {"slice: axis 0 of [3]: begin 2 and end 1", [] { slice(zeros({3}), {2}, {1}); }},
                          {"slice: axis 0 of [3]: begin 4611686018427387904",
                           [] { slice(zeros({3}), {1LL << 62}, {3}); }},
                          {"slice: axis 0 of [3]: begin 0 and end 2147483648 must satisfy",
                           [] { slice(zeros({3}), {0}, {1LL << 31}); }},
                          {"slice: end = [3, 3] has 2 entries and [3] has 1 axes",
                           [] {
                             slice(zeros({3}), {0}, {3, 3});
                           }},
                          {"slice: step = [1, 1] has 2 entries and [3] has 1 axes",
                           [] {
                             slice(zeros({3}), {0}, {3}, {1, 1});
                           }},
                          {"slice: axis 0: the step is 0 and must be at least 1",
                           [] { slice(zeros({3}), {0}, {3}, {0}); }},
                          {"slice: axis 0: the step is -1", [] { slice(zeros({3}), {0}, {3}, {-1}); }},
                          {"operator[]: 3 is outside [-3, 3)", [] { zeros({3})[3]; }},
                          {"operator[]: 0 was asked of a tensor of rank 0", [] { zeros({})[0]; }}};
        },
    .attributes = &attribute_info<SliceAttributes>,
    .view =
        [](const void* attributes, const Shape&, const Shape& out, Layout& layout) {
          const auto& a = *static_cast<const SliceAttributes*>(attributes);
          if (out.numel() == 0) return true;
          for (int i = 0; i < out.rank(); ++i) {
            layout.offset += a.begin[i] * layout.strides[at(i)];
            if (out[i] > 1) layout.strides[at(i)] *= a.step[i];
          }
          return true;
        },
    .per_example = {rows_apart, lift_slice}};

constinit const Op records::pad_op{
    .name = "pad",
    .arity = 1,
    .traits = Traits::nothrow,
    .about = "a value before, after and between the elements of each axis, without gradient; adjoint: slice",
    .shape = pad_shape,
    .forward = pad_kernel,
    .backward = pad_backward,
    .examples =
        [] {
          return Examples{
              {{sample({2, 3})},
               [](std::span<const Tensor> x) {
                 return pad(x[0], {1, 0}, {0, 2}, {1, 2});
               }},
              {{sample({3})}, [](std::span<const Tensor> x) { return pad(x[0], {0}, {2}, {}, 1.5); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"pad: before = [1] has 1 entries and [2, 3] has 2 axes",
               [] {
                 pad(zeros({2, 3}), {1}, {1, 1});
               }},
              {"pad: axis 0: before -1, after 0 and interior 0 must not be negative",
               [] { pad(zeros({3}), {-1}, {0}); }},
              {"pad: axis 0: before 0, after -1 and interior 0 must not be negative",
               [] { pad(zeros({3}), {0}, {-1}); }},
              {"pad: axis 0: before 0, after 0 and interior -1 must not be negative",
               [] { pad(zeros({3}), {0}, {0}, {-1}); }},
              {"pad: interior = [1, 1] has 2 entries and [3] has 1 axes",
               [] {
                 pad(zeros({3}), {0}, {0}, {1, 1});
               }},
              {"pad: axis 0: before 4611686018427387904 + after 4611686018427387904 + size 3 with "
               "interior 0 overflows 64 bits",
               [] { pad(zeros({3}), {1LL << 62}, {1LL << 62}); }},
              {"pad: axis 0: before 0 + after 0 + size 3 with interior 4611686018427387904 overflows",
               [] { pad(zeros({3}), {0}, {0}, {1LL << 62}); }},
              {"pad: the shape [4611686018427387907] has more than 2^56",
               [] { pad(zeros({3}), {1LL << 62}, {0}); }},
              {"pad: the value 0.5 does not fit the elements of i32[3]",
               [] { pad(zeros({3}, DType::i32), {1}, {1}, {}, 0.5); }}};
        },
    .attributes = &attribute_info<PadAttributes>,
    .per_example = {rows_apart, lift_pad}};

Tensor slice(const Operand& x, const Axes& begin, const Axes& end, const Axes& step) {
  const Tensor t = x.tensor("slice");
  SliceAttributes a{begin, end, step};
  if (step.size() == 0)
    for (int i = 0; i < t.rank(); ++i) a.step.push_back(1);
  return make(records::slice_op, {t.node()}, x.where(), a);
}

Tensor pad(const Operand& x, const Axes& before, const Axes& after, const Axes& interior, double value) {
  const Tensor t = x.tensor("pad");
  PadAttributes a{before, after, interior, value};
  if (interior.size() == 0)
    for (int i = 0; i < t.rank(); ++i) a.interior.push_back(0);
  return make(records::pad_op, {t.node()}, x.where(), a);
}

Tensor Tensor::operator[](std::int64_t i) const {
  const Shape from = shape();
  if (from.rank() == 0)
    refuse("operator[]", {}, format("{} was asked of a tensor of rank 0; read it with item()", i));
  const std::int64_t n = from[0], k = i < 0 ? i + n : i;
  if (k < 0 || k >= n)
    refuse("operator[]", {}, format("{} is outside [-{}, {}), the rows of {}", i, n, n, type_text(*this)));
  Axes begin, end;
  for (int axis = 0; axis < from.rank(); ++axis) {
    begin.push_back(axis == 0 ? k : 0);
    end.push_back(axis == 0 ? k + 1 : from[axis]);
  }
  return reshape(slice(*this, begin, end), Shape(from.dims().subspan(1)));
}

}  // namespace opgrad
