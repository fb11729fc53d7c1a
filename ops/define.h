// What a file of operations includes: words for the usual shape rules, helpers that put broadcasting in, and
// checks whose errors carry the user's line.
#pragma once
#include <optional>
#include <string>

#include "../core/loops.h"
#include "../core/pack.h"
#include "../core/vecmath.h"
#include "../graph/ir.h"
#include "../graph/scope.h"
#include "ops.h"
#include "records.h"

namespace opgrad {

// Shape rules. All inputs have one type, which is the result's; `same_float` and `same_number` (floats and
// integers) also say which dtypes are admitted; `same_to_bool` gives bool.
Result same(const Call& call);
Result same_float(const Call& call);
Result same_number(const Call& call);
Result same_to_bool(const Call& call);

// Two operands brought to one dtype (core/dtype.h's table; a number takes the other's) and, by broadcast
// nodes, to one shape. UserError naming `operation`, both types and the rule that failed.
struct Pair {
  Tensor a, b;
};
Pair align(const char* operation, const Operand& a, const Operand& b);

// A pointwise operation on one or two operands: align, then make.
Tensor unary(const Op& op, const Operand& x);
Tensor binary(const Op& op, const Operand& a, const Operand& b);

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
void check_labels(const View& labels, std::int64_t classes);

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

}  // namespace opgrad
