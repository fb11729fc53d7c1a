// The four records that the engine itself needs: leaf, number, the sum of two gradients, detach.
#include "../core/loops.h"
#include "ir.h"

namespace opgrad {
namespace structural {
namespace {

Result not_callable(const Call& call) { call.fail("is made by the engine alone"); }
void not_runnable(const KernelArgs&) { throw InternalError("a leaf or a number was run"); }

Result same_types(const Call& call) {
  if (call.dtype(0) != call.dtype(1) || call.shape_id(0) != call.shape_id(1))
    call.fail("two gradients of one tensor differ in type: " + to_string(Type{call.dtype(0), call.shape(0)}) +
              " and " + to_string(Type{call.dtype(1), call.shape(1)}) +
              "; check the backward rules of its users");
  if (!is_float(call.dtype(0)))
    call.fail("gradients are f32 or f64, but these are " + to_string(Type{call.dtype(0), call.shape(0)}) +
              "; check the backward rules of its users");
  return {call.dtype(0), call.shape_id(0)};
}

bool unchanged(const void*, const Shape&, const Shape&, Layout&) { return true; }

}  // namespace

constinit const Op leaf{.name = "leaf",
                        .arity = 0,
                        .about = "a value given from outside",
                        .shape = not_callable,
                        .forward = not_runnable,
                        .backward = no_gradient};

constinit const Op number{.name = "number",
                          .arity = 0,
                          .about = "every element is one number",
                          .shape = not_callable,
                          .forward = not_runnable,
                          .backward = no_gradient};

constinit const Op add_any{
    .name = "add_any",
    .arity = 2,
    .traits = Traits::pointwise | Traits::commutative | Traits::nothrow | Traits::linear,
    .about = "a + b, the sum of two gradients",
    .shape = same_types,
    .forward = map2<[](auto a, auto b) { return a + b; }>,
    .backward = [](const Tensor&, const Tensor& dy, Wanted) {
      return Grads{dy, dy};
    }};

constinit const Op detach{.name = "detach",
                          .arity = 1,
                          .traits = Traits::movement,
                          .about = "x without a past: no gradient flows through",
                          .shape =
                              [](const Call& call) {
                                return Result{call.dtype(0), call.shape_id(0)};
                              },
                          .forward = {},
                          .backward = no_gradient,
                          .view = unchanged};

}  // namespace structural

Tensor add_any(const Tensor& a, const Tensor& b) {
  return make(structural::add_any, {a.node(), b.node()}, {});
}

Tensor detach(const Operand& x) { return make(structural::detach, {x.tensor("detach").node()}, x.where()); }

}  // namespace opgrad
