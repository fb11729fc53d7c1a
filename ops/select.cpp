// Comparison, choice and conversion, element by element.
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "../core/parallel.h"
#include "../core/strided.h"
#include "define.h"

namespace opgrad {

using fmt::format;

// ------------------------------------------------------------ comparison

namespace {

using Binary = Tensor (*)(const Operand&, const Operand&);

Result numbers_to_bool(const Call& call) { return {DType::bool_, same_number(call).shape}; }

// Everything that the six records share.
template <Binary f>
constexpr Op comparison(const char* name, const char* about, ShapeRule shape, Kernel forward) {
  return {.name = name,
          .arity = 2,
          .traits = Traits::pointwise | Traits::nothrow,
          .about = about,
          .shape = shape,
          .forward = forward,
          .backward = no_gradient,
          .examples =
              [] {
                return Examples{
                    {{sample({2, 3}), sample({3})}, [](std::span<const Tensor> x) { return f(x[0], x[1]); }},
                    {{integers({20}, 0, 3), integers({20}, 0, 3)},
                     [](std::span<const Tensor> x) { return f(x[0], x[1]); }}};
              },
          .bad_calls =
              [] {
                return BadCalls{{"the shapes [2, 3] and [4] do not broadcast",
                                 [] {
                                   f(zeros({2, 3}), zeros({4}));
                                 }},
                                {"f32[2] and i64[2] have element types that do not mix",
                                 [] { f(zeros({2}), zeros({2}, DType::i64)); }},
                                {"the number 256 does not fit the elements of u8[2]",
                                 [] { f(zeros({2}, DType::u8), 256); }},
                                {"an operand is an empty Tensor", [] { f(Tensor(), 1); }}};
              }};
}

}  // namespace

constinit const Op records::equal_op = comparison<equal>(
    "equal", "a == b; false at NaN", same_to_bool, map2<[](auto a, auto b) { return a == b; }, Types::all>);
constinit const Op records::not_equal_op =
    comparison<not_equal>("not_equal", "a != b; true at NaN", same_to_bool,
                          map2<[](auto a, auto b) { return a != b; }, Types::all>);
constinit const Op records::less_op =
    comparison<less>("less", "a < b; false at NaN", numbers_to_bool,
                     map2<[](auto a, auto b) { return a < b; }, Types::numbers>);
constinit const Op records::less_equal_op =
    comparison<less_equal>("less_equal", "a <= b; false at NaN", numbers_to_bool,
                           map2<[](auto a, auto b) { return a <= b; }, Types::numbers>);
constinit const Op records::greater_op =
    comparison<greater>("greater", "a > b; false at NaN", numbers_to_bool,
                        map2<[](auto a, auto b) { return (a > b); }, Types::numbers>);
constinit const Op records::greater_equal_op =
    comparison<greater_equal>("greater_equal", "a >= b; false at NaN", numbers_to_bool,
                              map2<[](auto a, auto b) { return (a >= b); }, Types::numbers>);

Tensor equal(const Operand& a, const Operand& b) { return binary(records::equal_op, a, b); }
Tensor not_equal(const Operand& a, const Operand& b) { return binary(records::not_equal_op, a, b); }
Tensor less(const Operand& a, const Operand& b) { return binary(records::less_op, a, b); }
Tensor less_equal(const Operand& a, const Operand& b) { return binary(records::less_equal_op, a, b); }
Tensor greater(const Operand& a, const Operand& b) { return binary(records::greater_op, a, b); }
Tensor greater_equal(const Operand& a, const Operand& b) { return binary(records::greater_equal_op, a, b); }

// ------------------------------------------------------------ where

namespace {

Result where_shape(const Call& call) {
  if (call.dtype(0) != DType::bool_)
    call.fail(
        format("the condition is {} and must be bool; compare it, as in x > 0, or cast(x, DType::bool_)",
               type_text(call, 0)));
  if (call.dtype(1) != call.dtype(2) || call.shape_id(1) != call.shape_id(2) ||
      call.shape_id(0) != call.shape_id(1))
    call.fail(format(
        "condition and branches have types {}, {} and {}; the shapes must be equal, and the element types "
        "of the branches",
        type_text(call, 0), type_text(call, 1), type_text(call, 2)));
  return {call.dtype(1), call.shape_id(1)};
}

Grads where_backward(const Tensor& y, const Tensor& dy, Wanted wanted) {
  const Tensor condition = y.input(0);
  return {Tensor(), wanted(1) ? where(condition, dy, 0) : Tensor(),
          wanted(2) ? where(condition, 0, dy) : Tensor()};
}

}  // namespace

constinit const Op records::where_op{
    .name = "where",
    .arity = 3,
    .traits = Traits::pointwise | Traits::nothrow,
    .about = "condition ? a : b; the branch not taken gets gradient 0, even where it is NaN",
    .shape = where_shape,
    .forward = map3<[](auto m, auto a, auto b) { return select(m, a, b); }, Types::all | Types::mask_first>,
    .backward = where_backward,
    .examples =
        [] {
          return Examples{{{integers({2, 3}, 0, 2, DType::bool_), sample({2, 3}), sample({3})},
                           [](std::span<const Tensor> x) { return where(x[0], x[1], x[2]); }},
                          {{integers({5, 1}, 0, 2, DType::bool_), sample({4})},
                           [](std::span<const Tensor> x) { return where(x[0], x[1], 0); }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"where: the condition is f32[2] and must be bool", [] { where(zeros({2}), zeros({2}), 0); }},
              {"where: the shapes [3] and [2] do not broadcast",
               [] { where(zeros({3}, DType::bool_), zeros({2}), zeros({2})); }},
              {"where: f32[2] and f64[2] have element types that do not mix",
               [] { where(zeros({2}, DType::bool_), zeros({2}), zeros({2}, DType::f64)); }}};
        }};

Tensor where(const Operand& condition, const Operand& a, const Operand& b) {
  const Location at = condition.where();
  Pair p = align("where", a, b);
  Tensor c = condition.is_number() ? full({}, condition.number() != 0, DType::bool_, at.file, at.line)
                                   : condition.tensor("where");
  if (c.node()->shape != p.a.node()->shape) {
    const Shape shape = [&] {
      try {
        return broadcast_shapes(c.shape(), p.a.shape());
      } catch (const UserError& e) {
        refuse("where", at, e.what());
      }
    }();
    c = broadcast_node(c, shape, at);
    p = {broadcast_node(p.a, shape, at), broadcast_node(p.b, shape, at)};
  }
  return make(records::where_op, {c.node(), p.a.node(), p.b.node()}, at);
}

// ------------------------------------------------------------ cast

namespace {

struct CastAttributes {
  DType dtype = DType::f32;
  static constexpr auto fields() { return std::tuple{field("dtype", &CastAttributes::dtype)}; }
};

template <class To, class From>
To convert(From x) {
  if constexpr (std::is_same_v<To, bool>) {
    return x != From{0};
  } else if constexpr (std::is_floating_point_v<To> || std::is_same_v<From, bool>) {
    return static_cast<To>(x);
  } else if constexpr (std::is_floating_point_v<From>) {
    // The bounds are whole, and 2^k is a float where 2^k - 1 is not: compare with the former.
    constexpr From low = static_cast<From>(std::numeric_limits<To>::min());
    constexpr From beyond = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * 2;
    const From whole = std::trunc(x);
    return whole >= low && whole < beyond ? static_cast<To>(whole) : To{0};
  } else {
    return std::in_range<To>(x) ? static_cast<To>(x) : To{0};
  }
}

void cast_kernel(const KernelArgs& args) {
  const View &x = args.in[0], &y = args.out;
  dispatch(x.dtype(), [&]<class From>() {
    dispatch(y.dtype(), [&]<class To>() {
      constexpr std::int64_t tile = 1024;
      const bool dense = x.dense();
      const StridedCopy gather(x, dense_view(nullptr, x.type));
      parallel_ranges(x.numel(), 16 * tile, [&](std::int64_t begin, std::int64_t end) {
        From gathered[tile];
        for (std::int64_t first = begin; first < end; first += tile) {
          const std::int64_t n = std::min(tile, end - first);
          const From* from = x.as<From>() + first;
          if (!dense) {
            gather.run(first, first + n, x.data, 0, gathered, first);
            from = gathered;
          }
          for (std::int64_t i = 0; i < n; ++i) y.as<To>()[first + i] = convert<To>(from[i]);
        }
      });
    });
  });
}

// From an integer or to one there is no derivative; the engine asks for none.
Grads cast_backward(const Tensor& y, const Tensor& dy, Wanted) {
  const DType from = y.input(0).dtype();
  return {is_float(from) && is_float(y.dtype()) ? cast(dy, from) : Tensor()};
}

}  // namespace

constinit const Op records::cast_op{
    .name = "cast",
    .arity = 1,
    .traits = Traits::pointwise | Traits::nothrow,
    .about =
        "x in another element type: float to integer truncates, NaN and what does not fit become 0; to bool "
        "x != 0",
    .shape =
        [](const Call& call) { return Result(call.attributes<CastAttributes>().dtype, call.shape_id(0)); },
    .forward = cast_kernel,
    .backward = cast_backward,
    .examples =
        [] {
          return Examples{
              {{sample({2, 3})},
               [](std::span<const Tensor> x) { return cast(cast(x[0], DType::f64), x[0].dtype()); }},
              {{integers({2, 3}, -5, 5)}, [](std::span<const Tensor> x) { return cast(x[0], DType::i32); }},
              {{integers({2, 3}, 0, 2, DType::bool_)},
               [](std::span<const Tensor> x) { return cast(x[0], DType::u8); }},
              // Of a single cast, which the public function leaves out where nothing changes.
              {{sample({2, 3})}, [](std::span<const Tensor> x) {
                 return make(records::cast_op, {x[0].node()}, {}, CastAttributes{x[0].dtype()});
               }}};
        },
    .bad_calls =
        [] {
          return BadCalls{{"cast: an operand is an empty Tensor", [] { cast(Tensor(), DType::f32); }}};
        },
    .attributes = &attribute_info<CastAttributes>};

Tensor cast(const Operand& x, DType dtype) {
  const Tensor t = x.tensor("cast");
  if (t.dtype() == dtype) return t;
  return make(records::cast_op, {t.node()}, x.where(), CastAttributes{dtype});
}

}  // namespace opgrad
