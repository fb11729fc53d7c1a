// The IR, whole: the operation record, the node, the tensor handle, and the factory that makes nodes.
//
// A node is: record, attributes, inputs, result type, origin, value once computed. Its structure never
// changes; two things may happen to it: its value arrives, and, when nothing can ask for its gradient any
// more, it lets go of its inputs. What the factory returns is valid: shape and dtype rules ran, errors were
// raised where the user wrote the mistake.
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../core/buffer.h"
#include "../core/error.h"
#include "../core/kernel.h"
#include "../core/shape.h"
#include "attributes.h"
#include "handle_count.h"
#include "scope.h"

namespace opgrad {

struct Op;
struct Node;
struct ParameterState;
class Parameter;
class Tensor;

// ---------------------------------------------------------------------------------------------- the record

// All that passes and executor may ask of an operation.
enum class Traits : std::uint32_t {
  none = 0,
  pointwise = 1 << 0,     // element i of the result depends on element i of each input only; equal shapes
  movement = 1 << 1,      // the result is a view of the input: see Op::view
  dense_inputs = 1 << 2,  // the kernel wants its inputs row-major without gaps
  commutative = 1 << 3,   // f(a, b) and f(b, a) have the same bits
  nothrow = 1 << 4,       // the kernel cannot throw: it may write over what must not be lost
  reduction = 1 << 5,     // folds axes of the input, which it keeps with size 1
  linear = 1 << 6,        // linear in all float inputs together, f(a + da, b + db) = f(a, b) + f(da, db)
  multilinear = 1 << 7,   // linear in each float input by itself, f(a + da, b) = f(a, b) + f(da, b)
  pieces = 1 << 8,        // the kernel tells KernelArgs::finished of each piece of its result
};
constexpr Traits operator|(Traits a, Traits b) {
  return static_cast<Traits>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
constexpr bool has(Traits set, Traits one) {
  return (static_cast<std::uint32_t>(set) & static_cast<std::uint32_t>(one)) != 0;
}

// The result type as a shape rule returns it.
struct Result {
  DType dtype;
  ShapeId shape;
  Result(DType d, ShapeId s) : dtype(d), shape(s) {}
  Result(DType d, const Shape& s) : dtype(d), shape(intern(s)) {}
};

// What a shape rule sees: the operation, its inputs' types, its attributes.
struct Call {
  const Op& op;
  std::span<Node* const> in;
  const void* attributes_pointer;

  int arity() const { return static_cast<int>(in.size()); }
  DType dtype(int i) const;
  const Shape& shape(int i) const;
  ShapeId shape_id(int i) const;
  template <class A>
  const A& attributes() const {
    return *static_cast<const A*>(attributes_pointer);
  }
  // Throws UserError "<operation>: <message>"; the factory adds the user's line and the module path.
  [[noreturn]] void fail(const std::string& message) const;
};
using ShapeRule = Result (*)(const Call&);

// Where a view starts (in elements) and how it walks.
struct Layout {
  std::int64_t offset = 0;
  std::array<std::int64_t, max_rank> strides{};
};
// Turns the layout of the input into that of the result; false when no strides can say it (the input is then
// made dense first, and the rule is asked again).
using ViewRule = bool (*)(const void* attributes, const Shape& in, const Shape& out, Layout& layout);

// Which inputs a gradient is wanted for.
struct Wanted {
  std::uint64_t bits = 0;
  bool operator()(int i) const { return (bits >> i) & 1; }
};
inline constexpr std::size_t most_inputs = 64;

class Grads;  // grads.h, included below
using Backward = Grads (*)(const Tensor& y, const Tensor& dy, Wanted wanted);
// The word for "this operation has no gradient": its result is an index, a truth value, or piecewise
// constant.
Grads no_gradient(const Tensor& y, const Tensor& dy, Wanted wanted);

// Sample inputs of a call and the domain on which the record is claimed: numbers drawn from [low, high).
struct Sample {
  Shape shape;
  double low = -1, high = 1;
  DType dtype = DType::f64;  // f64 stands for "the float type under test"
};
struct Example {
  std::vector<Sample> inputs;
  Tensor (*call)(std::span<const Tensor>);
};
using Examples = std::vector<Example>;
// What the gradient tests cannot ask of an operation, and why: {"vacuous", "the gradient is 0 everywhere"},
// {"rot180", "all elements of a gradient are equal"}.
struct Exemption {
  const char* check;
  const char* reason;
};
using Exemptions = std::vector<Exemption>;
// A call that must be refused, and a piece of the message it must give.
struct BadCall {
  const char* expect;
  void (*call)();
};
using BadCalls = std::vector<BadCall>;

// Points where the slope jumps, and the gradient that the operation states there (the sum of the result's
// elements is differentiated): the conventions at ties that the gradient tests hold it to.
struct Kink {
  const char* convention;  // "0 at 0", "the first of equal elements gets it all"
  struct Input {
    Shape shape;
    std::vector<double> values, gradient;
  };
  std::vector<Input> inputs;
  Tensor (*call)(std::span<const Tensor>);
};
using Kinks = std::vector<Kink>;

// What the gradient for one input equals, or (holds: false) is easily mistaken for, said in another way. The
// gradient tests compare `claim` with the backward rule; an empty tensor says that it does not apply to y.
struct Identity {
  const char* text;
  int input;
  bool holds;
  Tensor (*claim)(const Tensor& y, const Tensor& dy);
};
using Identities = std::vector<Identity>;

// What gradients by example (ops/per_example.h) ask of an operation that is not pointwise; a pointwise one
// needs neither. Words for the usual cases stand in ops/example_rules.h.
struct PerExample {
  // As backward, where axis 0 of y and dy holds `examples` equal groups, one for each example, and each
  // result depends on nothing of other examples. For an input that holds such groups too: its gradient. For
  // one that the examples share (weights): one gradient for each, with an axis of examples in front. No Grads
  // at all where examples would mix.
  Grads (*rule)(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) = nullptr;
  // y's operation on inputs that have one more axis in front, for each entry of it: the backward rule of the
  // result then serves all entries at once. For weights that pass through operations of their own before use.
  Tensor (*lift)(const Tensor& y, std::span<const Tensor> inputs) = nullptr;
};

// How a result that is folded over axis 0 of all inputs (a sum over a batch, a kernel's gradient) is made
// from blocks of their rows, each folded where it is in cache. `forward` gives the same bits at once.
struct OverRows {
  // Rows go in parts of this many, which does not depend on anything but types and attributes. 0: cannot be.
  std::int64_t (*rows)(const Call&) = nullptr;
  std::size_t (*workspace)(const Call&) = nullptr;  // bytes for the results of all parts
  // Folds rows from KernelArgs::first_row on, some of all_rows, by whole parts, into the workspace. Called
  // from any thread, several at once.
  Kernel::Function part = nullptr;
  // Folds the parts into the result. Inputs have no data any more.
  Kernel::Function meet = nullptr;
};

// A primitive operation. A value that lives for ever, normally `constinit const`.
struct Op {
  const char* name;
  int arity;  // -1: one or more
  Traits traits = Traits::none;
  const char* about;  // one line: the formula, conventions at ties and special values
  ShapeRule shape;    // checks what the user gave; throws
  Kernel forward;     // empty for a movement
  Backward backward;  // written in operations; or the word no_gradient
  Tensor (*simplify)(const Tensor& y) = nullptr;  // an equal, simpler tensor, or y itself
  Examples (*examples)() = nullptr;
  Kinks (*kinks)() = nullptr;
  Identities (*identities)() = nullptr;
  Exemptions (*exemptions)() = nullptr;
  BadCalls (*bad_calls)() = nullptr;
  const AttributeInfo* attributes = nullptr;
  ViewRule view = nullptr;                          // movements
  std::size_t (*workspace)(const Call&) = nullptr;  // bytes of scratch memory that the kernel needs
  // Fills the workspace from inputs that are not cut by rows. Runs once before `forward`, which then only
  // reads the workspace, on all rows or on any number of blocks of them; `forward` must do without one, too.
  Kernel::Function prepare = nullptr;
  // Bit i: input i is cut along axis 0 as the result, of this shape, is. Row r of the result then depends on
  // row r of these inputs and on the whole of the others, and has the same bits however the rows are cut into
  // calls. 0 where that does not hold; pointwise operations need not say it.
  std::uint64_t (*rows)(const void* attributes, const Shape& result) = nullptr;
  OverRows over_rows = {};
  PerExample per_example = {};
  // Whether `forward` may write the result, of this shape, where input 0 lies, of the same type: it reads
  // what it needs of a place, by itself and within its row, before it writes there.
  bool (*in_place)(const void* attributes, const Shape& result) = nullptr;
  // Whether `forward` takes an input that lies so; others are copied before it runs. Without a rule it takes
  // all, or with Traits::dense_inputs those without gaps.
  bool (*reads)(const Shape&, const Layout&) = nullptr;
  // Which of several algorithms `forward` takes for operands of these types and strides, whose data is not
  // looked at, and with or without `finished`: a word for reports.
  const char* (*algorithm)(const KernelArgs&) = nullptr;
};

// ---------------------------------------------------------------------------------------------- the node

// A value at rest: dense, row-major.
struct Value {
  BufferRef buffer;
};

namespace node_flag {
inline constexpr std::uint16_t tracked = 1;   // depends on a parameter: keeps its inputs
inline constexpr std::uint16_t consumed = 2;  // a step has used up the graph behind it
inline constexpr std::uint16_t replaced = 4;  // a parameter's leaf, since replaced by a newer one
inline constexpr std::uint16_t parameter =
    8;                                      // a parameter's leaf: u.parameter is set (or null once replaced)
inline constexpr std::uint16_t extra = 16;  // u.extra is set
inline constexpr std::uint16_t slot = 32;   // a number that is never part of a plan's key
inline constexpr std::uint16_t released = 64;  // computed, and its inputs let go
}  // namespace node_flag

// Attributes, and the inputs of a node that has more than two.
struct Extra {
  Node** inputs;
  void* attributes;
};

struct Node {
  HandleCount refs;
  std::uint8_t arity;
  DType dtype;
  std::uint16_t flags;
  OriginId origin;
  const Op* op;
  Node* in[2];
  union {
    double number;
    Extra* extra;
    ParameterState* parameter;
  } u;
  Value* value;  // null until computed
  ShapeId shape;
  std::uint32_t index;  // scratch of whoever numbers a graph (graph/order.h); 0 at rest

  bool has(std::uint16_t flag) const { return (flags & flag) != 0; }
  std::span<Node* const> inputs() const {
    return {has(node_flag::extra) && arity > 2 ? u.extra->inputs : in, arity};
  }
  const void* attributes() const { return has(node_flag::extra) ? u.extra->attributes : nullptr; }
};
static_assert(sizeof(Node) == 64);

inline DType Call::dtype(int i) const { return in[static_cast<std::size_t>(i)]->dtype; }
inline ShapeId Call::shape_id(int i) const { return in[static_cast<std::size_t>(i)]->shape; }
inline const Shape& Call::shape(int i) const { return shape_of(shape_id(i)); }

void destroy(
    Node* dead) noexcept;  // frees a node whose count is 0 and all that only it held, without recursion

// ---------------------------------------------------------------------------------------------- the handle

// An owning copy-free look at computed values: valid as long as it lives, whatever happens to the tensor.
template <class T>
class Values {
 public:
  Values(BufferRef buffer, std::int64_t size) : buffer_(std::move(buffer)), size_(size) {}
  const T* data() const { return reinterpret_cast<const T*>(buffer_->data); }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  std::size_t size() const { return static_cast<std::size_t>(size_); }
  const T& operator[](std::int64_t i) const { return data()[i]; }

 private:
  BufferRef buffer_;
  std::int64_t size_;
};

// A counted handle to a node: cheap to copy, never changes what it refers to. Default constructed it is
// empty.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Node* owned) : n_(owned) {}
  Tensor(const Tensor& o) : n_(o.n_) {
    if (n_) n_->refs.add();
  }
  Tensor(Tensor&& o) noexcept : n_(std::exchange(o.n_, nullptr)) {}
  Tensor& operator=(Tensor o) noexcept {
    std::swap(n_, o.n_);
    return *this;
  }
  ~Tensor() {
    if (n_ && n_->refs.drop()) destroy(n_);
  }
  static Tensor share(Node* n) {
    n->refs.add();
    return Tensor(n);
  }

  explicit operator bool() const { return n_ != nullptr; }
  Node* node() const { return n_; }
  // UserError on an empty handle.
  const Shape& shape() const;
  DType dtype() const;
  int rank() const { return shape().rank(); }
  std::int64_t numel() const { return shape().numel(); }
  std::int64_t dim(int axis) const { return shape().dim(axis); }

  // Computed already? Reading computes what is needed and nothing else.
  bool evaluated() const { return n_ && n_->value; }
  // The only element, converted to double (integers above 2^53 round). UserError unless numel() == 1.
  double item() const;
  // All elements in row-major order. T must be the C++ type of dtype() (UserError otherwise).
  template <class T>
  Values<T> values() const {
    return {computed(dtype_of<T>), numel()};
  }
  template <class T>
  std::vector<T> to_vector() const {
    const Values<T> v = values<T>();
    return std::vector<T>(v.begin(), v.end());
  }
  // Element i of the first axis, a tensor of one rank less; negative i counts from the end. Defined in ops.
  Tensor operator[](std::int64_t i) const;

  // For backward and simplify rules.
  Tensor input(int i) const { return share(n_->inputs()[static_cast<std::size_t>(i)]); }
  template <class A>
  const A& attributes() const {
    return *static_cast<const A*>(n_->attributes());
  }

 private:
  BufferRef computed(DType asked) const;
  Node* n_ = nullptr;
};

// What public functions take: a tensor, a parameter or a number, and where the call was written. It borrows:
// it must not outlive the call it is passed to.
class Operand {
 public:
  Operand(const Tensor& t, const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : node_(t.node()), where_{file, line} {}
  Operand(const Parameter& p, const char* file = __builtin_FILE(), int line = __builtin_LINE());
  template <class N>
  requires std::is_arithmetic_v<N> Operand(N number, const char* file = __builtin_FILE(),
                                           int line = __builtin_LINE())
      : number_(static_cast<double>(number)), is_number_(true), where_{file, line} {}

  bool is_number() const { return is_number_; }
  double number() const { return number_; }
  Node* node() const { return node_; }
  Location where() const { return where_; }
  // The tensor; a number becomes an f32 tensor of rank 0. UserError naming `operation` for an empty handle.
  Tensor tensor(const char* operation) const;

 private:
  Node* node_ = nullptr;
  double number_ = 0;
  bool is_number_ = false;
  Location where_;
};

// ---------------------------------------------------------------------------------------------- the factory

// The node op(inputs...) with the given attributes, of the type its shape rule gives. UserError, with the
// user's line and the module path, when arity or rule refuse; then nothing has been made.
Tensor make_node(const Op& op, std::span<Node* const> inputs, Location where, const void* attributes);

inline Tensor make(const Op& op, std::initializer_list<Node*> inputs, Location where) {
  return make_node(op, {inputs.begin(), inputs.size()}, where, nullptr);
}
template <class A>
Tensor make(const Op& op, std::initializer_list<Node*> inputs, Location where, const A& attributes) {
  return make_node(op, {inputs.begin(), inputs.size()}, where, &attributes);
}

// A tensor of this type whose every element is `number`: one node, no memory. As a slot its value is not part
// of any plan's key (learning rates, step counts).
Tensor full(const Shape& shape, double number, DType dtype = DType::f32, const char* file = __builtin_FILE(),
            int line = __builtin_LINE());
Tensor slot_number(const Shape& shape, double number, DType dtype = DType::f32);
// full, of the type that x has.
Tensor full_like(const Node& x, double number, Location where);

// A leaf over memory that already holds the (dense) elements.
Tensor leaf(BufferRef buffer, DType dtype, const Shape& shape, Location where);

// A leaf with a copy of the data. UserError when the count of elements is not the shape's.
Tensor tensor_from_bytes(const void* data, std::int64_t count, DType dtype, const Shape& shape,
                         Location where);
template <class T>
Tensor tensor(std::span<const T> data, const Shape& shape, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  return tensor_from_bytes(data.data(), static_cast<std::int64_t>(data.size()), dtype_of<T>, shape,
                           {file, line});
}
template <class T>
requires(!std::same_as<T, bool>) Tensor
    tensor(const std::vector<T>& data, const Shape& shape, const char* file = __builtin_FILE(),
           int line = __builtin_LINE()) {
  return tensor(std::span<const T>(data), shape, file, line);
}
template <class T>
requires std::is_arithmetic_v<T> Tensor tensor(std::initializer_list<T> data,
                                               const char* file = __builtin_FILE(),
                                               int line = __builtin_LINE()) {
  return tensor(std::span<const T>(data.begin(), data.size()), Shape{static_cast<std::int64_t>(data.size())},
                file, line);
}
template <class T>
requires std::is_arithmetic_v<T> Tensor tensor(std::initializer_list<std::initializer_list<T>> rows,
                                               const char* file = __builtin_FILE(),
                                               int line = __builtin_LINE()) {
  std::vector<T> data;
  for (const auto& row : rows) data.insert(data.end(), row.begin(), row.end());
  const auto height = static_cast<std::int64_t>(rows.size());
  const auto width = static_cast<std::int64_t>(rows.size() ? rows.begin()->size() : 0);
  return tensor(std::span<const T>(data), Shape{height, width}, file, line);
}

// x without a past: same values, no gradient flows through.
Tensor detach(const Operand& x);

// "f32[2, 3] {{1, 2, 3}, {4, 5, 6}}", long axes abbreviated; computes the tensor.
std::string to_string(const Tensor&);

// ---------------------------------------------------------------------------------------------- structural
// records

namespace structural {
extern const Op leaf, number, add_any, detach;
}

// The sum of two gradients of equal type, part of the engine so that it depends on no operation.
Tensor add_any(const Tensor& a, const Tensor& b);

}  // namespace opgrad

#include "grads.h"
