// The index of operations: one declaration line per public function. Each is defined beside its record.
//
// All take Operands: a Tensor, a Parameter or a number (which takes the other operand's dtype). Shapes
// broadcast by NumPy's rule where two or more operands meet; dtypes by the table in core/dtype.h. Errors are
// UserErrors that name the operation, the shapes and the user's line.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/random.h"
#include "../graph/ir.h"
#include "../graph/parameter.h"
#include "all.h"

namespace opgrad {

// -- arithmetic (ops/arithmetic.cpp). Floats and integers; division and powers: floats only.
Tensor add(const Operand& a, const Operand& b);
Tensor subtract(const Operand& a, const Operand& b);
Tensor multiply(const Operand& a, const Operand& b);
Tensor divide(const Operand& a, const Operand& b);
Tensor negate(const Operand& x);
// a^b for a > 0, or any a and an integral number b.
Tensor pow(const Operand& a, const Operand& b);
Tensor square(const Operand& x);
// The greater and the lesser; NaN if either is NaN; at a tie the gradient goes to a.
Tensor maximum(const Operand& a, const Operand& b);
Tensor minimum(const Operand& a, const Operand& b);
inline Tensor operator+(const Operand& a, const Operand& b) { return add(a, b); }
inline Tensor operator-(const Operand& a, const Operand& b) { return subtract(a, b); }
inline Tensor operator*(const Operand& a, const Operand& b) { return multiply(a, b); }
inline Tensor operator/(const Operand& a, const Operand& b) { return divide(a, b); }
inline Tensor operator-(const Operand& x) { return negate(x); }

// -- functions of one float (ops/unary.cpp). Gradient at kinks: relu'(0) = 0, abs'(0) = 0.
Tensor exp(const Operand& x);
Tensor expm1(const Operand& x);  // e^x - 1
Tensor log(const Operand& x);
Tensor log1p(const Operand& x);  // log(1 + x)
Tensor sqrt(const Operand& x);
Tensor sin(const Operand& x);
Tensor cos(const Operand& x);
Tensor tanh(const Operand& x);
Tensor sigmoid(const Operand& x);
Tensor erf(const Operand& x);
Tensor relu(const Operand& x);
Tensor abs(const Operand& x);

// -- comparison, choice, conversion (ops/select.cpp). Results of comparisons are bool and have no gradient.
Tensor equal(const Operand& a, const Operand& b);
Tensor not_equal(const Operand& a, const Operand& b);
Tensor less(const Operand& a, const Operand& b);
Tensor less_equal(const Operand& a, const Operand& b);
Tensor greater(const Operand& a, const Operand& b);
Tensor greater_equal(const Operand& a, const Operand& b);
inline Tensor operator<(const Operand& a, const Operand& b) { return less(a, b); }
inline Tensor operator<=(const Operand& a, const Operand& b) { return less_equal(a, b); }
inline Tensor operator>(const Operand& a, const Operand& b) { return greater(a, b); }
inline Tensor operator>=(const Operand& a, const Operand& b) { return greater_equal(a, b); }
// condition ? a : b, elementwise; condition is bool. The branch not taken gets gradient 0, even where it is
// NaN.
Tensor where(const Operand& condition, const Operand& a, const Operand& b);
// Other element type; float to integer truncates toward zero, NaN and what does not fit become 0; to bool: x
// != 0.
Tensor cast(const Operand& x, DType dtype);

// -- reductions (ops/reduce.cpp). axes: counted from the end when negative; empty means all.
// The sum of no element is 0; max and argmax of no element are errors. At ties max's gradient goes to the
// first. Integers and bool are summed as i64; mean takes floats only.
Tensor sum(const Operand& x, const Axes& axes = {}, bool keepdims = false);
Tensor mean(const Operand& x, const Axes& axes = {}, bool keepdims = false);
Tensor max(const Operand& x, const Axes& axes = {}, bool keepdims = false);
// The i64 index of the greatest along one axis; the first at ties; no gradient.
Tensor argmax(const Operand& x, std::int64_t axis = -1, bool keepdims = false);

// -- softmax (ops/softmax.cpp), along one axis; stable for any finite input.
Tensor softmax(const Operand& x, std::int64_t axis = -1);
Tensor log_softmax(const Operand& x, std::int64_t axis = -1);
// The mean over the batch of -log p[label], or with Reduction::none one loss for each example, [batch]:
// `probabilities` [batch, classes] with integer `labels` [batch].
// Given the result of softmax it computes from that node's logits, so logits of +-1e4 are fine; given
// anything else it clips the probabilities to [1e-7, 1] (as Keras does). Given logits, call
// cross_entropy_from_logits. UserError when shapes do not fit or, when run, a label is outside [0, classes).
enum class Reduction : std::uint8_t { mean, none };
Tensor cross_entropy(const Operand& probabilities, const Operand& labels,
                     Reduction reduction = Reduction::mean);
Tensor cross_entropy_from_logits(const Operand& logits, const Operand& labels,
                                 Reduction reduction = Reduction::mean);

// -- matrices (ops/matmul.cpp): a [m, k] times b [k, n]; or [batch, m, k] times [batch, k, n].
Tensor matmul(const Operand& a, const Operand& b);

// -- movement: views, no copies (ops/reshape.cpp, broadcast_to.cpp, permute.cpp, slice.cpp), but for pad and
// concatenate (ops/concatenate.cpp). One size may be -1 and is inferred.
Tensor reshape(const Operand& x, std::initializer_list<std::int64_t> shape);
Tensor reshape(const Operand& x, const Shape& shape);
Tensor permute(const Operand& x, const Axes& order);
Tensor transpose(const Operand& x);  // swaps the last two axes
Tensor broadcast_to(const Operand& x, const Shape& shape);
// The sum over what broadcasting `shape` to x's shape repeats: the adjoint of broadcast_to.
Tensor sum_to(const Operand& x, const Shape& shape);
// Elements begin, begin+step, ... below end of each axis; step > 0; as many entries as x has axes.
Tensor slice(const Operand& x, const Axes& begin, const Axes& end, const Axes& step = {});
// Zeros (or `value`, with no gradient) around and, with interior > 0, between the elements: the adjoint of
// slice.
Tensor pad(const Operand& x, const Axes& before, const Axes& after, const Axes& interior = {},
           double value = 0);
Tensor flip(const Operand& x, const Axes& axes);
Tensor expand_dims(const Operand& x, std::int64_t axis);
Tensor squeeze(const Operand& x, std::int64_t axis);
Tensor concatenate(std::span<const Tensor> parts, std::int64_t axis, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE());

// -- indexing (ops/gather.cpp, along.cpp, one_hot.cpp). Indices are integers, checked when run: UserError
// naming the first one out of range. gather: x [n, ...] and indices [i...] give [i..., ...]: rows of x.
// scatter_add is its adjoint: rows of `updates` added to zeros of n rows. take_along: x [.., n] and index
// [..] give x[.., index[..]]. one_hot: [i...] gives [i..., depth].
Tensor gather(const Operand& x, const Operand& indices);
Tensor scatter_add(const Operand& indices, const Operand& updates, std::int64_t rows);
Tensor take_along(const Operand& x, const Operand& index);
Tensor one_hot(const Operand& indices, std::int64_t depth, DType dtype = DType::f32);

// -- convolution (ops/conv2d.cpp). Channels last: input [batch, rows, columns, in], kernel [kh, kw, in, out].
enum class Padding : std::uint8_t {
  valid,
  same
};  // same: ceil(size/stride) outputs, the odd pixel at the end
struct Window {
  std::array<std::int64_t, 2> strides{1, 1};
  std::array<std::int64_t, 2> dilations{1, 1};
  Padding padding = Padding::valid;
  std::array<std::int64_t, 4> pads{0, 0, 0, 0};  // top, bottom, left, right: added to what `padding` gives
};
// y[b, i, j, o] = sum over m, n, c of x[b, i*s + m*d - top, j*s + n*d - left, c] w[m, n, c, o]:
// cross-correlation.
Tensor conv2d(const Operand& input, const Operand& kernel, const Window& window = {});
// The derivatives of conv2d: each of the three is the derivative of the others. input_shape and kernel_shape
// name what is sought; the window has to be the forward one.
Tensor conv2d_kernel_gradient(const Operand& input, const Operand& delta, const Shape& kernel_shape,
                              const Window& window = {});
Tensor conv2d_input_gradient(const Operand& delta, const Operand& kernel, const Shape& input_shape,
                             const Window& window = {});
// Whether f32 convolutions with 3x3 kernels, stride 1 and 16 channels or more may use Winograd's algorithm
// where it is the faster one (Winograd, 1980; Lavin and Gray, arXiv 1509.09308): at first yes, unless the
// environment variable OPGRAD_WINOGRAD is 0 (UserError when it is neither 0 nor 1). Its roundings are up to
// six times those of the plain sum (table in conv2d_winograd.h). For all threads; not while a convolution
// runs.
void set_winograd(bool on);
bool winograd();
// Each channel by itself, with kernels [kh, kw, in, multiplier] (ops/depthwise.cpp): y[b, i, j, c*multiplier
// + q] = sum over m, n of x[b, i*s + m*d - top, j*s + n*d - left, c] w[m, n, c, q], channels in the order of
// Keras and TensorFlow. Its derivatives, as those of conv2d.
Tensor depthwise_conv2d(const Operand& input, const Operand& kernel, const Window& window = {});
Tensor depthwise_conv2d_kernel_gradient(const Operand& input, const Operand& delta, const Shape& kernel_shape,
                                        const Window& window = {});
Tensor depthwise_conv2d_input_gradient(const Operand& delta, const Operand& kernel, const Shape& input_shape,
                                       const Window& window = {});
// The lecture's operators on one-channel images [rows, columns], "valid": correlate2d slides the kernel,
// convolve2d the kernel turned by 180 degrees. full = true pads by the kernel's size less one.
Tensor correlate2d(const Operand& image, const Operand& kernel, bool full = false);
Tensor convolve2d(const Operand& image, const Operand& kernel, bool full = false);
// Both spatial axes reversed: the first two of [h, w] and [h, w, in, out] (axes 1 and 2 of rank 3, batches of
// images).
Tensor rot180(const Operand& kernel);

// -- pooling (ops/pool2d.cpp): the greatest of each window, channels last; incomplete windows at the end are
// dropped. NaN wins; at ties the gradient goes to the first in row-major order.
Tensor max_pool2d(const Operand& x, std::array<std::int64_t, 2> size, std::array<std::int64_t, 2> strides);

// -- random (ops/random.cpp). The key is data, not structure: a plan serves every step. No gradient.
Tensor random_key(Key key);
// [low, high), and mean and deviation; f32 or f64.
Tensor random_uniform(const Operand& key, const Shape& shape, double low = 0, double high = 1,
                      DType dtype = DType::f32);
Tensor random_normal(const Operand& key, const Shape& shape, double mean = 0, double deviation = 1,
                     DType dtype = DType::f32);

// -- creation
inline Tensor zeros(const Shape& shape, DType dtype = DType::f32) { return full(shape, 0, dtype); }
inline Tensor ones(const Shape& shape, DType dtype = DType::f32) { return full(shape, 1, dtype); }
inline Tensor zeros_like(const Tensor& x) { return full(x.shape(), 0, x.dtype()); }
inline Tensor ones_like(const Tensor& x) { return full(x.shape(), 1, x.dtype()); }

}  // namespace opgrad
