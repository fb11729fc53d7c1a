// Elementwise loops and reductions: kernels made from a lambda over packs, compiled for every instruction set
// and chosen at run time. Work is cut by shape alone, so bits depend neither on threads nor on instructions
// nor on strides.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "dual.h"
#include "isa.h"
#include "kernel.h"
#include "pack.h"
#include "trace.h"
#include "vecmath.h"

namespace opgrad {

// The element types a lambda is compiled for; with others the kernel throws InternalError, since shape rules
// have refused them. All inputs share one type. mask_first: the first input is bool and comes as a mask of
// the others' lanes.
enum class Types : unsigned { floats = 1, integers = 2, numbers = 3, bools = 4, all = 7, mask_first = 8 };
constexpr Types operator|(Types a, Types b) {
  return static_cast<Types>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool contains(Types set, Types t) {
  return (static_cast<unsigned>(set) & static_cast<unsigned>(t)) == static_cast<unsigned>(t);
}

namespace detail {

// What an inner loop works on: whole packs. An input moves by `step` bytes from pack to pack, 0 for a splat.
struct Strip {
  const std::byte* in[3];
  std::int64_t step[3];
  std::byte* out;
  std::int64_t packs;
};

struct MapRow {
  void (*run[isa_count])(const Strip&) = {};
  DType out = DType::f32;
};
struct MapTable {
  int arity = 0;
  bool mask_first = false;
  std::array<MapRow, dtype_count> rows;  // by dtype
  kernel::Recipe (*recipe)() = nullptr;  // what the lambda does to floats; null if it takes none
};

template <class T, int bytes>
inline constexpr int lanes_of = bytes / static_cast<int>(sizeof(T));

template <class T>
constexpr bool is_pack = false;
template <class T, int N>
constexpr bool is_pack<kernel::Pack<T, N>> = true;
template <class T>
constexpr bool is_mask = false;
template <class I, int N>
constexpr bool is_mask<kernel::Mask<I, N>> = true;

template <class T, int N>
struct ElementOf {
  using type = kernel::Pack<T, N>;
};
template <int N>
struct ElementOf<bool, N> {
  using type = kernel::Mask<std::int8_t, N>;
};

// Input i of a loop over T with N lanes.
template <class T, int N, bool mask_first, std::size_t i>
using InputOf =
    std::conditional_t<mask_first && i == 0, kernel::Mask<kernel::detail::SignedOfSize<sizeof(T)>, N>,
                       typename ElementOf<T, N>::type>;

template <class T, int bytes, bool mask_first, std::size_t arity>
class Cursor {
  static constexpr int lanes = lanes_of<T, bytes>;

 public:
  [[gnu::always_inline]] explicit Cursor(const Strip& s) : out_(s.out), packs_(s.packs) {
    for (std::size_t i = 0; i < arity; ++i) {
      in_[i] = s.in[i];
      step_[i] = s.step[i];
    }
  }
  [[gnu::always_inline]] bool more() const { return packs_ > 0; }
  [[gnu::always_inline]] void next() {
    for (std::size_t i = 0; i < arity; ++i) in_[i] += step_[i];
    --packs_;
  }
  template <std::size_t i>
  [[gnu::always_inline]] auto load() const {
    return InputOf<T, lanes, mask_first, i>::load(in_[i]);
  }
  template <class R>
  [[gnu::always_inline]] void store(const R& result) {
    if constexpr (std::is_arithmetic_v<R>) {
      store(kernel::Pack<T, lanes>(result));
    } else {
      result.store(out_);
      if constexpr (is_mask<R>)
        out_ += lanes;
      else
        out_ += sizeof result;
    }
  }

 private:
  const std::byte* in_[arity];
  std::int64_t step_[arity];
  std::byte* out_;
  std::int64_t packs_;
};

// The three loops differ in their target only. The lambda is called in their bodies, not in a common helper,
// because Clang's flatten inlines just the calls it sees there.
template <auto F, class T, bool mask_first, class Indices>
struct MapLoops;
template <auto F, class T, bool mask_first, std::size_t... i>
struct MapLoops<F, T, mask_first, std::index_sequence<i...>> {
  [[gnu::flatten]] static void baseline(const Strip& s) {
    for (Cursor<T, 16, mask_first, sizeof...(i)> c(s); c.more(); c.next())
      c.store(F(c.template load<i>()...));
  }
  [[gnu::target("avx2"), gnu::flatten]] static void avx2(const Strip& s) {
    for (Cursor<T, 32, mask_first, sizeof...(i)> c(s); c.more(); c.next())
      c.store(F(c.template load<i>()...));
  }
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::flatten]] static void avx512(const Strip& s) {
    for (Cursor<T, 64, mask_first, sizeof...(i)> c(s); c.more(); c.next())
      c.store(F(c.template load<i>()...));
  }
  using Result = decltype(F(std::declval<InputOf<T, lanes_of<T, 16>, mask_first, i>>()...));
  static constexpr MapRow row() {
    MapRow r{{&baseline, &avx2, &avx512}};
    if constexpr (is_mask<Result>)
      r.out = DType::bool_;
    else if constexpr (is_pack<Result>)
      r.out = dtype_of<std::remove_cvref_t<decltype(std::declval<Result>()[0])>>;
    else
      r.out = dtype_of<T>;
    return r;
  }
};

// Calls f.template operator()<T>() for each C++ type in the set.
template <Types types, class F>
constexpr void for_each_type(F f) {
  if constexpr (contains(types, Types::floats)) {
    f.template operator()<float>();
    f.template operator()<double>();
  }
  if constexpr (contains(types, Types::integers)) {
    f.template operator()<std::int32_t>();
    f.template operator()<std::int64_t>();
    f.template operator()<std::uint8_t>();
  }
  if constexpr (contains(types, Types::bools)) f.template operator()<bool>();
}

template <auto F, std::size_t arity, Types types>
inline constexpr MapTable map_table = [] {
  constexpr bool mask_first = contains(types, Types::mask_first);
  MapTable t;
  t.arity = static_cast<int>(arity);
  t.mask_first = mask_first;
  for_each_type<types>([&]<class T>() {
    t.rows[static_cast<std::size_t>(dtype_of<T>)] =
        MapLoops<F, T, mask_first, std::make_index_sequence<arity>>::row();
  });
  if constexpr (contains(types, Types::floats) && !mask_first) t.recipe = kernel::recipe_of<F, arity>;
  return t;
}();

void run_map(const KernelArgs&, const MapTable&);

// Throws InternalError unless there are `arity` inputs and all views have one shape.
void check_equal_shapes(const KernelArgs&, int arity);
// Where element `index` (row-major) of a view lies, in elements.
std::int64_t offset_of(const View&, std::int64_t index);

template <class E>
[[gnu::always_inline]] inline E& element(const View& v, std::int64_t index) {
  return v.as<E>()[offset_of(v, index)];
}

template <auto F, bool mask_first, std::size_t... i>
void run_dual(const KernelArgs& a, std::index_sequence<i...>) {
  check_equal_shapes(a, sizeof...(i));
  for (std::int64_t k = 0; k < a.out.numel(); ++k) {
    const auto r = F(element<std::conditional_t<mask_first && i == 0, bool, kernel::Dual>>(a.in[i], k)...);
    if constexpr (std::is_same_v<std::remove_cv_t<decltype(r)>, bool>)
      element<bool>(a.out, k) = r;
    else
      element<kernel::Dual>(a.out, k) = r;
  }
}

template <auto F, std::size_t arity, Types types>
constexpr Kernel make_map() {
  Kernel::Function dual = nullptr;
  if constexpr (contains(types, Types::floats))
    dual = [](const KernelArgs& a) {
      run_dual<F, contains(types, Types::mask_first)>(a, std::make_index_sequence<arity>{});
    };
  return Kernel([](const KernelArgs& a) { run_map(a, map_table<F, arity, types>); }, dual,
                static_cast<int>(arity), &map_table<F, arity, types>);
}

}  // namespace detail

// Elementwise kernels. map1<[](auto x) { return x * exp(-x); }> computes out[i] = F(in[0][i]); map2 and map3
// take two and three inputs. All views have one shape (InternalError otherwise) and any strides; out may be
// the very memory of a dense input, else it overlaps none. F is called with packs (pack.h, vecmath.h), never
// with plain numbers, for `dual` with dual numbers, and with traces (trace.h), which have the same functions,
// to see whether several operations can become one loop. It returns a pack of its inputs' type, a plain
// number, or a mask for a bool result. Where `types` holds integers or bool, it must compile for those, too.
// In `dual`, float views hold kernel::Dual elements and bool views bool; it is null without floats. GCC 12
// takes a bare `>` in a lambda that is a template argument for the argument's end: write (x > 0).
template <auto F, Types types = Types::floats>
inline constexpr Kernel map1 = detail::make_map<F, 1, types>();
template <auto F, Types types = Types::floats>
inline constexpr Kernel map2 = detail::make_map<F, 2, types>();
template <auto F, Types types = Types::floats>
inline constexpr Kernel map3 = detail::make_map<F, 3, types>();

namespace detail {

inline constexpr std::int64_t fold_leaf = 1024, fold_leaf_rows = 32;  // elements of a row, rows of a column

struct FoldRow {
  // out[r] = the fold of `n` elements at in + r * stride, for each of `rows`; strides in elements.
  void (*along)(const void* in, std::int64_t rows, std::int64_t stride, std::int64_t n, void* out) = nullptr;
  // out[c] = the fold of element c of each row; `readable` elements may be read from `in` on.
  void (*down)(const void* in, std::int64_t rows, std::int64_t stride, std::int64_t columns,
               std::int64_t readable, void* out) = nullptr;
  void (*fill_empty)(void* out, std::int64_t n) = nullptr;
};
struct FoldTable {
  std::array<std::array<FoldRow, isa_count>, dtype_count> rows;
  const MapTable* combine = nullptr;
};

// With a producer `in` is a type alone.
void run_fold(const View& in, const View& out, const FoldTable&, const Producer* producer = nullptr);
// The same in two steps, for a fold over axis 0 and those that follow it at once: parts of so many rows (0:
// the fold is another one), first of rows `in` from `first_row` on, a multiple of it, which are some of all;
// then of all parts together, where `in` is a type alone. `parts` has so many bytes and is used up.
std::int64_t fold_part_rows(const Shape& in, const Shape& out);
std::size_t fold_part_bytes(const Shape& in, const Shape& out, DType t);
void fold_parts(const View& in, const View& out, const FoldTable&, std::int64_t first_row, void* parts);
void meet_parts(const View& in, const View& out, const FoldTable&, void* parts);

// The value of a double in T; infinities are the ends of an integer type's range.
template <class T>
constexpr T saturated(double x) {
  if constexpr (std::is_integral_v<T>) {
    if (x > static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    if (x < static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  }
  return static_cast<T>(x);
}

template <class C, int width, class P>
[[gnu::always_inline]] inline void fold_packs(P* acc) {
  if constexpr (width > 1) {
    for (int k = 0; k < width / 2; ++k) acc[k] = C{}(acc[k], acc[k + width / 2]);
    fold_packs<C, width / 2>(acc);
  }
}
template <class C, int width, class T, int N>
[[gnu::always_inline]] inline kernel::Pack<T, N> fold_lanes(const kernel::Pack<T, N>& a) {
  if constexpr (width == 1)
    return a;
  else
    return fold_lanes<C, width / 2>(kernel::Pack<T, N>(C{}(a, kernel::rotate<width / 2>(a))));
}

// Element i of a leaf goes to lane i mod 32; then lane l meets lane l + 16, l + 8, l + 4, l + 2, l + 1, and
// leaf meets leaf from left to right. So it is for every width of pack. (u8 has 64 lanes; integers forgive
// any order.)
template <class C, class T, int N, int... k>
[[gnu::always_inline]] inline void fold_along(const T* in, std::int64_t rows, std::int64_t stride,
                                              std::int64_t n, T* out, std::integer_sequence<int, k...>) {
  using P = kernel::Pack<T, N>;
  constexpr int packs = sizeof...(k), lanes = packs * N;
  constexpr T identity = saturated<T>(C::identity);
  for (std::int64_t r = 0; r < rows; ++r, in += stride) {
    P total = identity;
    for (std::int64_t begin = 0; begin < n; begin += fold_leaf) {
      const std::int64_t end = std::min(begin + fold_leaf, n);
      P acc[packs] = {((void)k, P(identity))...};
      std::int64_t i = begin;
      for (; i + lanes <= end; i += lanes) ((acc[k] = C{}(acc[k], P::load(in + i + k * N))), ...);
      if (i < end) {
        alignas(64) T padded[lanes];
        (P(identity).store(padded + k * N), ...);
        std::memcpy(padded, in + i, static_cast<std::size_t>(end - i) * sizeof(T));
        ((acc[k] = C{}(acc[k], P::load(padded + k * N))), ...);
      }
      fold_packs<C, packs>(acc);
      total = C{}(total, fold_lanes<C, N>(acc[0]));
    }
    out[r] = total[0];
  }
}

// Columns do not meet, so any number of them may go together: leaves of 32 rows are folded from top to
// bottom, and these results from top to bottom. Where a few packs make a row, several leaves are under way at
// once: one stream from memory, or one chain of operations, is slow. `narrow` columns, fewer than a pack, are
// read in whole packs until less than a pack is left of the array.
template <class C, class T, int N, bool narrow, int... p, int... k>
[[gnu::always_inline]] inline void fold_strip(const T* in, std::int64_t rows, std::int64_t stride,
                                              std::int64_t columns, std::int64_t readable, T* out,
                                              std::integer_sequence<int, p...>,
                                              std::integer_sequence<int, k...>) {
  using P = kernel::Pack<T, N>;
  constexpr int packs = sizeof...(p), leaves = static_cast<int>(sizeof...(k)) / packs;
  const P identity = saturated<T>(C::identity);
  P total[] = {((void)p, identity)...};
  std::int64_t whole = rows;
  if constexpr (narrow) whole = readable < N ? 0 : std::min((readable - N) / stride + 1, rows);
  std::int64_t begin = 0;
  if constexpr (leaves > 1) {
    for (; begin + leaves * fold_leaf_rows <= rows; begin += leaves * fold_leaf_rows) {
      P acc[] = {((void)k, identity)...};
      const T* row = in + begin * stride;
      for (std::int64_t r = 0; r < fold_leaf_rows; ++r, row += stride)
        ((acc[k] = C{}(acc[k], P::load(row + k / packs * fold_leaf_rows * stride + k % packs * N))), ...);
      ((total[k % packs] = C{}(total[k % packs], acc[k])), ...);
    }
  }
  for (; begin < rows; begin += fold_leaf_rows) {
    const std::int64_t end = std::min(begin + fold_leaf_rows, rows);
    P acc[] = {((void)p, identity)...};
    std::int64_t r = begin;
    for (; r < std::min(end, whole); ++r) ((acc[p] = C{}(acc[p], P::load(in + r * stride + p * N))), ...);
    if constexpr (narrow) {
      for (; r < end; ++r) {
        P last = identity;
        std::memcpy(&last.v, in + r * stride, static_cast<std::size_t>(columns) * sizeof(T));
        acc[0] = C{}(acc[0], last);
      }
    }
    ((total[p] = C{}(total[p], acc[p])), ...);
  }
  if constexpr (narrow)
    std::memcpy(out, &total[0].v, static_cast<std::size_t>(columns) * sizeof(T));
  else
    (total[p].store(out + p * N), ...);
}
template <class C, class T, int N>
[[gnu::always_inline]] inline void fold_down(const T* in, std::int64_t rows, std::int64_t stride,
                                             std::int64_t columns, std::int64_t readable, T* out) {
  using One = std::make_integer_sequence<int, 1>;
  using Two = std::make_integer_sequence<int, 2>;
  using Eight = std::make_integer_sequence<int, 8>;
  std::int64_t c = 0;
  for (; c + 8 * N <= columns; c += 8 * N)
    fold_strip<C, T, N, false>(in + c, rows, stride, 8 * N, readable - c, out + c, Eight{}, Eight{});
  for (; c + 2 * N <= columns; c += 2 * N)
    fold_strip<C, T, N, false>(in + c, rows, stride, 2 * N, readable - c, out + c, Two{}, Eight{});
  if (c + N <= columns) {
    fold_strip<C, T, N, false>(in + c, rows, stride, N, readable - c, out + c, One{}, Eight{});
    c += N;
  }
  if (c < columns)
    fold_strip<C, T, N, true>(in + c, rows, stride, columns - c, readable - c, out + c, One{}, One{});
}

template <class C, class T>
struct FoldLoops {
  template <int bytes>
  using Packs = std::make_integer_sequence<int, std::max(1, 32 / lanes_of<T, bytes>)>;
  using Size = std::int64_t;

  [[gnu::flatten]] static void along_baseline(const void* in, Size rows, Size stride, Size n, void* out) {
    fold_along<C, T, lanes_of<T, 16>>(static_cast<const T*>(in), rows, stride, n, static_cast<T*>(out),
                                      Packs<16>{});
  }
  [[gnu::target("avx2"), gnu::flatten]] static void along_avx2(const void* in, Size rows, Size stride, Size n,
                                                               void* out) {
    fold_along<C, T, lanes_of<T, 32>>(static_cast<const T*>(in), rows, stride, n, static_cast<T*>(out),
                                      Packs<32>{});
  }
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::flatten]] static void along_avx512(
      const void* in, Size rows, Size stride, Size n, void* out) {
    fold_along<C, T, lanes_of<T, 64>>(static_cast<const T*>(in), rows, stride, n, static_cast<T*>(out),
                                      Packs<64>{});
  }
  [[gnu::flatten]] static void down_baseline(const void* in, Size rows, Size stride, Size columns,
                                             Size readable, void* out) {
    fold_down<C, T, lanes_of<T, 16>>(static_cast<const T*>(in), rows, stride, columns, readable,
                                     static_cast<T*>(out));
  }
  [[gnu::target("avx2"), gnu::flatten]] static void down_avx2(const void* in, Size rows, Size stride,
                                                              Size columns, Size readable, void* out) {
    fold_down<C, T, lanes_of<T, 32>>(static_cast<const T*>(in), rows, stride, columns, readable,
                                     static_cast<T*>(out));
  }
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::flatten]] static void down_avx512(
      const void* in, Size rows, Size stride, Size columns, Size readable, void* out) {
    fold_down<C, T, lanes_of<T, 64>>(static_cast<const T*>(in), rows, stride, columns, readable,
                                     static_cast<T*>(out));
  }
  static void fill_empty(void* out, Size n) { std::fill_n(static_cast<T*>(out), n, saturated<T>(C::empty)); }

  static constexpr std::array<FoldRow, isa_count> rows() {
    return {FoldRow{&along_baseline, &down_baseline, &fill_empty},
            FoldRow{&along_avx2, &down_avx2, &fill_empty}, FoldRow{&along_avx512, &down_avx512, &fill_empty}};
  }
};

template <class C, Types types>
inline constexpr FoldTable fold_table = [] {
  FoldTable t;
  for_each_type<types>(
      [&]<class T>() { t.rows[static_cast<std::size_t>(dtype_of<T>)] = FoldLoops<C, T>::rows(); });
  t.combine = &map_table<C{}, 2, types>;
  return t;
}();

// Where the element of `out` lies, in elements, that element `index` of `in` is folded into.
std::int64_t folded_offset(const View& in, const View& out, std::int64_t index);

template <class C>
void run_fold_dual(const KernelArgs& a) {
  for (std::int64_t k = 0; k < a.out.numel(); ++k)
    element<kernel::Dual>(a.out, k) = kernel::Dual(a.in[0].numel() == 0 ? C::empty : C::identity);
  for (std::int64_t k = 0; k < a.in[0].numel(); ++k) {
    kernel::Dual& to = a.out.as<kernel::Dual>()[folded_offset(a.in[0], a.out, k)];
    to = C{}(to, element<kernel::Dual>(a.in[0], k));
  }
}

}  // namespace detail

// Reductions: out has the rank of in, and size 1 along the axes that are folded (InternalError otherwise);
// any strides. C is a struct like Sum below: an associative operator() on packs and dual numbers, `identity`
// with C(identity, x) == x for every x, and `empty`, the result where there is nothing to fold. The order is
// fixed by the shape alone: along the innermost axis 32 lanes over leaves of 1024 elements; across it leaves
// of 32 rows, and blocks of at most 16384 elements or 256 rows, which hold some whole rows of axis 0, where
// that is folded, or lie within one, and meet in a balanced tree. So the error of a sum of n floats is at
// most about (64 + log2 n) units of rounding of the sum of magnitudes. Neighbouring folded axes count as one;
// where folded and kept axes alternate, the innermost is folded first.
template <class C, Types types = Types::numbers>
inline constexpr Kernel fold = [] {
  Kernel k(
      [](const KernelArgs& a) { detail::run_fold(a.in[0], a.out, detail::fold_table<C, types>, a.producer); },
      [](const KernelArgs& a) { detail::run_fold_dual<C>(a); }, 1);
  k.consumes_pieces = true;
  return k;
}();

// The identity is -0, since 0 + -0 would lose the sign of a lone -0; the empty sum is 0.
struct Sum {
  static constexpr double identity = -0.0, empty = 0.0;
  template <class X>
  [[gnu::always_inline]] constexpr X operator()(const X& a, const X& b) const {
    return a + b;
  }
};
// NaN if any element is NaN; the empty maximum is -inf, for integers the smallest number.
struct Max {
  static constexpr double identity = -std::numeric_limits<double>::infinity(), empty = identity;
  template <class X>
  [[gnu::always_inline]] constexpr X operator()(const X& a, const X& b) const {
    return max(a, b);
  }
};
void reduce_sum(const View& in, const View& out);
void reduce_max(const View& in, const View& out);

// out (i64, the shape of in with size 1 at `axis`) is the index along `axis` of the greatest element: the
// first of equals; NaN counts as greater than all numbers, so the first NaN wins. InternalError when the axis
// has size 0.
void reduce_argmax(const View& in, int axis, const View& out);

}  // namespace opgrad
