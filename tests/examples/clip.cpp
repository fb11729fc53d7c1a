#include "opgrad.h"
#include "ops/define.h"
using namespace opgrad;

// x, but at least low and at most high. dx = dy from low to high, both included, and 0 beyond.
extern const Op clip_op;

struct ClipAttributes {
  double low, high;
  static constexpr auto fields() {
    return std::tuple{field("low", &ClipAttributes::low), field("high", &ClipAttributes::high)};
  }
};

Tensor clip(const Operand& x, double low, double high) {
  return make(clip_op, {x.tensor("mine.clip").node()}, x.where(), ClipAttributes{low, high});
}

namespace {

Result clip_shape(const Call& call) {
  const auto& a = call.attributes<ClipAttributes>();
  if (!is_float(call.dtype(0))) call.fail("needs f32 or f64 and was given " + type_text(call, 0));
  if (!(a.low <= a.high))
    call.fail("low = " + field_text(a.low) + " must be at most high = " + field_text(a.high) + "; swap them");
  return {call.dtype(0), call.shape(0)};
}

void clip_kernel(const KernelArgs& k) {
  const auto& a = k.attributes<ClipAttributes>();
  dispatch_float(k.out.dtype(), [&]<class T>() {
    const T low = static_cast<T>(a.low), high = static_cast<T>(a.high);
    const T* const x = k.in[0].as<T>();
    T* const y = k.out.as<T>();
    for (std::int64_t i = 0; i < k.out.numel(); ++i) y[i] = x[i] < low ? low : x[i] > high ? high : x[i];
  });
}

Grads clip_backward(const Tensor& y, const Tensor& dy, Wanted) {
  const auto& a = y.attributes<ClipAttributes>();
  return {where(y.input(0) < a.low, 0, where(y.input(0) > a.high, 0, dy))};
}

Tensor clip_call(std::span<const Tensor> x) { return clip(x[0], -1, 0.5); }

}  // namespace

constinit const Op clip_op{
    .name = "mine.clip",
    .arity = 1,
    .traits = Traits::pointwise | Traits::dense_inputs,
    .about = "x, but at least low and at most high; NaN at NaN; at low and high the gradient is dy",
    .shape = clip_shape,
    .forward = clip_kernel,
    .backward = clip_backward,
    .examples =
        [] {
          return Examples{{{sample({3, 4}, -2, 2)}, clip_call}, {{sample({}, -1, 0.5)}, clip_call}};
        },
    .kinks =
        [] {
          return Kinks{{"dy at low and at high", {{{4}, {-2, -1, 0.5, 2}, {0, 1, 1, 0}}}, clip_call}};
        },
    .attributes = &attribute_info<ClipAttributes>};

OPGRAD_REGISTER(clip_op)
