// What a file of operations includes: words for the usual shape rules, makers that put broadcasting in and
// count axes, words for examples, and checks whose errors carry the user's line. README.md teaches their use.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../core/loops.h"
#include "../core/pack.h"
#include "../core/vecmath.h"
#include "../graph/ir.h"
#include "../graph/registry.h"
#include "../graph/scope.h"
#include "ops.h"
#include "records.h"

namespace opgrad {

// For shape rules: UserError unless every axis lies in [0, rank of input 0) and they rise, each named once.
void need_axes(const Call& call, const Axes& axes);

// Shape rules: what stands behind `.shape =`. Each throws UserError with the types that do not fit.
//
// All inputs have one type, which is the result's; `same_float` and `same_number` (floats and integers) also
// say which dtypes are admitted; `same_to_bool` gives bool.
Result same(const Call& call);
Result same_float(const Call& call);
Result same_number(const Call& call);
Result same_to_bool(const Call& call);

// Two or more inputs whose shapes broadcast by NumPy's rule: f32 or f64, or any number. Broadcasting itself
// is done by the maker (binary, ternary, nary), as nodes of its own whose adjoints sum the gradients. So
// kernel and backward rule see equal shapes and need not care; inputs that no maker has aligned are refused.
Result broadcast(const Call& call);
Result broadcast_number(const Call& call);

// One input, f32 or f64 (or any number), folded along axes that it keeps with size 1: y and dy broadcast
// against x in the backward rule. The maker is `reduction`; the record says `.attributes =
// &attribute_info<ReduceAttributes>`; the kernel is fold<C> (core/loops.h) or one's own.
struct ReduceAttributes {
  Axes axes;  // counted from 0, rising
  static constexpr auto fields() { return std::tuple{field("axes", &ReduceAttributes::axes)}; }
};
Result reduce(const Call& call);
Result reduce_number(const Call& call);
// `.rows` of a reduction: rows are apart unless axis 0 is folded.
std::uint64_t rows_of_reduction(const void* attributes, const Shape& result);
// `.over_rows` of the reduction whose kernel is fold<C, types>: where axis 0 is folded, and no axis that
// stands behind one which is kept.
template <class C, Types types = Types::numbers>
inline constexpr OverRows over_rows_of = {
    .rows = [](const Call& c) { return detail::fold_part_rows(c.shape(0), shape_of(c.op.shape(c).shape)); },
    .workspace =
        [](const Call& c) {
          return detail::fold_part_bytes(c.shape(0), shape_of(c.op.shape(c).shape), c.dtype(0));
        },
    .part =
        [](const KernelArgs& a) {
          detail::fold_parts(a.in[0], a.out, detail::fold_table<C, types>, a.first_row, a.workspace);
        },
    .meet =
        [](const KernelArgs& a) {
          detail::meet_parts(a.in[0], a.out, detail::fold_table<C, types>, a.workspace);
        }};
// `shape` with size 1 along these axes (counted from 0), or without them.
Shape without_axes(const Shape& shape, const Axes& axes, bool keepdims);

// Two operands brought to one dtype (core/dtype.h's table; a number takes the other's) and, by broadcast
// nodes, to one shape. UserError naming `operation`, both types and the rule that failed.
struct Pair {
  Tensor a, b;
};
Pair align(const char* operation, const Operand& a, const Operand& b);

// As align, for any number of operands, at least one of them.
std::vector<Tensor> align(const char* operation, std::span<const Operand> operands);

// For `.rows`: every input is cut along axis 0 with the result.
inline constexpr std::uint64_t every_input = ~std::uint64_t{0};

// Makers: what a public function calls. A pointwise operation on one, two, three or more operands: align,
// then make. The line in errors is that of the first operand.
Tensor unary(const Op& op, const Operand& x);
Tensor binary(const Op& op, const Operand& a, const Operand& b);
Tensor ternary(const Op& op, const Operand& a, const Operand& b, const Operand& c);
Tensor nary(const Op& op, std::span<const Operand> operands);
// A reduction along `axes`, counted from either end; none given means all. The folded axes are dropped from
// the result unless keepdims. UserError for an axis out of range or named twice, and for a record without
// ReduceAttributes.
Tensor reduction(const Op& op, const Operand& x, const Axes& axes, bool keepdims);

// Single nodes at `where`; x itself where nothing would change.
Tensor broadcast_node(const Tensor& x, const Shape& shape, Location where);
Tensor reshape_node(const Tensor& x, const Shape& shape, Location where);
Tensor cast_node(const Tensor& x, DType dtype, Location where);
// A number in the type of x. UserError naming `operation` when the dtype of x cannot hold it.
Tensor number_like(const char* operation, double number, const Tensor& x, Location where);

// Throws UserError "<operation>: <message>" with the user's line and the module path, as the factory does.
[[noreturn]] void refuse(const char* operation, Location where, const std::string& message);
// An axis counted from 0, given from either end.
int axis_of(const char* operation, Location where, std::int64_t axis, int rank);
// Distinct axes counted from 0 in rising order; all of them when none is given.
Axes axes_of(const char* operation, Location where, const Axes& axes, int rank);
// The value converts to the dtype without loss of its whole part: any to a float, whole ones to an integer
// type that holds them, 0 and 1 to bool.
bool fits(double number, DType dtype);

// take_along, and x with updates added at those places. With `labels` their errors are those of a
// cross-entropy.
Tensor take_along(const Tensor& x, const Tensor& index, bool labels, Location where);
Tensor add_along(const Tensor& x, const Tensor& index, const Tensor& updates, bool labels, Location where);

// Throws cross_entropy's UserError for the first label outside [0, classes).
void check_labels(const View& labels, std::int64_t classes, std::int64_t first_row = 0);

// The number of which every element of x consists, known while the graph is built; nothing for slots.
std::optional<double> number_of(const Tensor& x);
// x is the result of `op` and still has its inputs.
bool made_by(const Tensor& x, const Op& op);

// For messages: "f32[2, 3]".
std::string type_text(const Tensor& x);
std::string type_text(const Call& call, int i);

// For examples: random inputs of these shapes; integers of a dtype, from low to high - 1.
Sample sample(const Shape& shape, double low = -1, double high = 1);
Sample integers(const Shape& shape, double low, double high, DType dtype = DType::i64);

// The examples of a public function by its form alone, numbers drawn from [low, high): one operand; two or
// three, of equal shapes and of shapes that broadcast; an operand, axes and keepdims, as reductions have.
//
//     .examples = examples_of<softsign>
template <Tensor (*f)(const Operand&), int low = -2, int high = 2>
Examples examples_of() {
  const auto call = [](std::span<const Tensor> x) { return f(x[0]); };
  return {{{sample({3, 3}, low, high)}, call}, {{sample({}, low, high)}, call}};
}
template <Tensor (*f)(const Operand&, const Operand&), int low = -2, int high = 2>
Examples examples_of() {
  const auto s = [](const Shape& shape) { return sample(shape, low, high); };
  const auto call = [](std::span<const Tensor> x) { return f(x[0], x[1]); };
  return {{{s({3, 3}), s({3, 3})}, call}, {{s({3, 1}), s({2, 1, 4})}, call}};
}
template <Tensor (*f)(const Operand&, const Operand&, const Operand&), int low = -2, int high = 2>
Examples examples_of() {
  const auto s = [](const Shape& shape) { return sample(shape, low, high); };
  const auto call = [](std::span<const Tensor> x) { return f(x[0], x[1], x[2]); };
  return {{{s({2, 3}), s({2, 3}), s({2, 3})}, call}, {{s({3, 1}), s({2, 1, 4}), s({4})}, call}};
}
template <Tensor (*f)(const Operand&, const Axes&, bool), int low = -2, int high = 2>
Examples examples_of() {
  using X = std::span<const Tensor>;
  const auto s = [](const Shape& shape) { return sample(shape, low, high); };
  return {{{s({2, 3, 4})}, [](X x) { return f(x[0], {}, false); }},
          {{s({2, 3, 4})},
           [](X x) {
             return f(x[0], Axes{0, -1}, false);
           }},
          {{s({3, 5})}, [](X x) { return f(x[0], Axes{1}, true); }}};
}

}  // namespace opgrad
