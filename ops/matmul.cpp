// Matrix products, plain and batched.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "../core/gemm.h"
#include "../core/parallel.h"
#include "define.h"
#include "example_rules.h"
#include "outer_product.h"

namespace opgrad {

using fmt::format;

namespace {

auto at(int i) { return static_cast<std::size_t>(i); }

Result matmul_shape(const Call& call) {
  for (const int i : {0, 1})
    if (!is_float(call.dtype(i)))
      call.fail(format("{} is {}, but products need f32 or f64; convert with cast(x, DType::f32)",
                       i ? "the right operand" : "the left operand", type_text(call, i)));
  if (call.dtype(0) != call.dtype(1))
    call.fail(format("{} and {} must both be f32 or both f64; convert one: cast(x, DType::{})",
                     type_text(call, 0), type_text(call, 1), name_of(call.dtype(0))));
  const Shape &a = call.shape(0), &b = call.shape(1);
  const int rank = a.rank();
  if (rank != b.rank() || rank < 2 || rank > 3) {
    const char* way_out = "use reshape or broadcast_to";
    if (rank == 1 || b.rank() == 1)
      way_out = "make a vector a matrix: expand_dims(v, 0) is a row, expand_dims(v, 1) a column";
    else if (rank == 3 && b.rank() == 2)
      way_out = "reshape the left one to two axes, multiply, and reshape back";
    call.fail(
        format("{} of rank {} times {} of rank {}: needs [m, k] times [k, n] or [batch, m, k] times [batch, "
               "k, n]; {}",
               type_text(call, 0), rank, type_text(call, 1), b.rank(), way_out));
  }
  const std::int64_t m = a[rank - 2], k = a[rank - 1], n = b[rank - 1];
  if (k != b[rank - 2]) {
    const bool flipped = k == n;
    call.fail(format("{} has {} columns, but {} has {} rows; they must be equal{}", type_text(call, 0), k,
                     type_text(call, 1), b[rank - 2],
                     flipped                      ? ": transpose(b) would fit"
                     : a[rank - 2] == b[rank - 2] ? ": transpose(a) would fit"
                                                  : ""));
  }
  // Refused here, since the kernel must not throw.
  for (const std::int64_t size : {m, k, n})
    if (call.dtype(0) == DType::f64 && size > std::numeric_limits<std::int32_t>::max())
      call.fail(
          format("{} times {}: OpenBLAS, which multiplies f64, counts with 32 bits, and {} is above {}; "
                 "compute the product in pieces",
                 type_text(call, 0), type_text(call, 1), size, std::numeric_limits<std::int32_t>::max()));
  if (rank == 2) return {call.dtype(0), Shape{m, n}};
  if (a[0] != b[0])
    call.fail(format("{} holds {} matrices and {} holds {}; they must be as many: broadcast_to(b, shape)",
                     type_text(call, 0), a[0], type_text(call, 1), b[0]));
  return {call.dtype(0), Shape{a[0], m, n}};
}

// Where gemm finds the matrices of a view: one of its axes has stride 1, and the matrix is transposed if that
// is the first. The stride of an axis of one element means nothing; a distance must span its row.
struct Lie {
  bool fits = false, transposed = false;
  std::int64_t ld = 1, batch_stride = 0;

  template <class Strides>
  Lie(const Shape& shape, const Strides& strides) {
    const int row = shape.rank() - 2, column = row + 1;
    const std::int64_t m = shape[row], n = shape[column];
    batch_stride = shape.rank() == 3 ? strides[0] : 0;
    const std::int64_t down = m > 1 ? strides[at(row)] : std::max<std::int64_t>(1, n);
    const std::int64_t across = n > 1 ? strides[at(column)] : std::max<std::int64_t>(1, m);
    if ((n <= 1 || across == 1) && down >= std::max<std::int64_t>(1, n)) {
      fits = true;
      ld = down;
    } else if ((m <= 1 || down == 1) && across >= std::max<std::int64_t>(1, m)) {
      fits = transposed = true;
      ld = across;
    }
    fits = fits || shape.numel() == 0;
  }
};

template <class T>
struct Matrices {
  Matrix<T> first;
  std::int64_t batch_stride;

  explicit Matrices(const View& v) {
    const Lie lie(v.shape(), v.strides);
    internal_check(lie.fits, "matmul: what gemm cannot take is copied first");
    first = {v.as<T>(), lie.ld, lie.transposed};
    batch_stride = lie.batch_stride;
  }
  Matrix<T> operator[](std::int64_t b) const {
    return {first.data + b * batch_stride, first.ld, first.transposed};
  }
};

template <class T>
void matmul_of(const KernelArgs& k) {
  const Shape& out = k.out.shape();
  const int rank = out.rank();
  const std::int64_t m = out[rank - 2], n = out[rank - 1], depth = k.in[0].shape()[rank - 1];
  if (out.numel() == 0) return;
  const Matrices<T> a(k.in[0]), b(k.in[1]);
  const std::int64_t batch = rank == 3 ? out[0] : 1;
  const auto c = [&](std::int64_t i) { return k.out.as<T>() + i * m * n; };
  if (depth == 1 && !b[0].transposed)
    return outer_products<T>({.count = batch,
                              .rows = m,
                              .columns = n,
                              .a = a.first.data,
                              .a_stride = a.batch_stride,
                              .a_step = a.first.transposed ? 1 : a.first.ld,
                              .b = b.first.data,
                              .b_stride = b.batch_stride},
                             k.out.as<T>(), k.finished);
  // Many products: one a thread; few: each on all threads.
  if (batch < 8) {
    for (std::int64_t i = 0; i < batch; ++i) {
      const auto tell = [&](std::int64_t begin, std::int64_t end) {
        (*k.finished)(i * m * n + begin, i * m * n + end);
      };
      const Finished finished = tell;
      gemm<T>(m, n, depth, a[i], b[i], c(i), n, false, k.finished ? &finished : nullptr);
    }
    return;
  }
  // A chunk is worth its start: some 2^18 multiplications.
  const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(depth) + 1;
  const auto grain = std::max<std::int64_t>(1, static_cast<std::int64_t>(262144 / work));
  parallel_ranges(batch, grain, [&](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) {
      gemm_tile<T>(m, n, depth, a[i], b[i], c(i), n, false);
      if (k.finished) (*k.finished)(i * m * n, (i + 1) * m * n);
    }
  });
}

const char* matmul_algorithm(const KernelArgs& k) {
  const Shape& out = k.out.shape();
  const std::int64_t m = out[out.rank() - 2], n = out[out.rank() - 1],
                     depth = k.in[0].shape()[out.rank() - 1];
  const auto transposed = [](const View& v) { return Lie(v.shape(), v.strides).transposed; };
  if (depth == 1 && !transposed(k.in[1])) return "outer product";
  const bool reports = k.finished && !(out.rank() == 3 && out[0] >= 8);
  return gemm_choice(m, n, depth, transposed(k.in[0]), transposed(k.in[1]), k.out.dtype(), reports);
}

// [examples * g, ...] as [examples, g, ...].
Tensor cut(const Tensor& x, std::int64_t examples) {
  return reshape(x, {examples, x.dim(0) / examples, x.dim(1)});
}

// The rows of a are the examples, which share b; matrices of a batch belong to one example each.
Grads matmul_by_example(const Tensor& y, const Tensor& dy, Wanted wanted, std::int64_t examples) {
  if (y.rank() == 3) return rows_apart(y, dy, wanted, examples);
  const Tensor a = y.input(0), b = y.input(1);
  return {wanted(0) ? matmul(dy, transpose(b)) : Tensor(),
          wanted(1) ? matmul(transpose(cut(a, examples)), cut(dy, examples)) : Tensor()};
}

Tensor lift_matmul(const Tensor& y, std::span<const Tensor> inputs) {
  return y.rank() == 3 ? lift_by_rows(y, inputs) : matmul(inputs[0], inputs[1]);
}

}  // namespace

constinit const Op records::matmul_op{
    .name = "matmul",
    .arity = 2,
    .traits = Traits::multilinear | Traits::pieces | Traits::nothrow,
    .about = "y[i,j] = sum over k of a[i,k] b[k,j], for each matrix of a batch; 0 where there is no k",
    .shape = matmul_shape,
    .forward =
        [](const KernelArgs& k) { dispatch_float(k.out.dtype(), [&]<class T>() { matmul_of<T>(k); }); },
    // d sum(dy * (a b)) = sum((dy b^T) * da) + sum((a^T dy) * db).
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted wanted) {
          return Grads{wanted(0) ? matmul(dy, transpose(y.input(1))) : Tensor(),
                       wanted(1) ? matmul(transpose(y.input(0)), dy) : Tensor()};
        },
    .examples =
        [] {
          const auto call = [](std::span<const Tensor> in) { return matmul(in[0], in[1]); };
          return Examples{{{sample({3, 4}), sample({4, 5})}, call},
                          {{sample({4, 4}), sample({4, 4})}, call},
                          {{sample({1, 6}), sample({6, 1})}, call},
                          {{sample({2, 3, 4}), sample({2, 4, 2})}, call},
                          {{sample({5, 3}), sample({4, 5})}, [](std::span<const Tensor> in) {
                             return matmul(transpose(in[0]), transpose(in[1]));
                           }}};
        },
    .bad_calls =
        [] {
          return BadCalls{
              {"f32[2, 3] has 3 columns, but f32[4, 5] has 4 rows; they must be equal",
               [] {
                 matmul(zeros({2, 3}), zeros({4, 5}));
               }},
              {"f32[2, 3] has 3 columns, but f32[4, 3] has 4 rows; they must be equal: transpose(b) would "
               "fit",
               [] {
                 matmul(zeros({2, 3}), zeros({4, 3}));
               }},
              {"f32[4, 3] has 3 columns, but f32[4, 5] has 4 rows; they must be equal: transpose(a) would "
               "fit",
               [] {
                 matmul(zeros({4, 3}), zeros({4, 5}));
               }},
              {"f32[3] of rank 1 times f32[3, 5] of rank 2: needs [m, k] times [k, n] or [batch, m, k] times "
               "[batch, k, n]; "
               "make a vector a matrix: expand_dims(v, 0) is a row, expand_dims(v, 1) a column",
               [] {
                 matmul(zeros({3}), zeros({3, 5}));
               }},
              {"f32[2, 4, 3] of rank 3 times f32[3, 5] of rank 2: needs [m, k] times [k, n] or [batch, m, k] "
               "times [batch, k, n]; reshape the left one to two axes, multiply, and reshape back",
               [] {
                 matmul(zeros({2, 4, 3}), zeros({3, 5}));
               }},
              {"f32[2, 4, 3] holds 2 matrices and f32[6, 3, 5] holds 6; they must be as many: "
               "broadcast_to(b, shape)",
               [] {
                 matmul(zeros({2, 4, 3}), zeros({6, 3, 5}));
               }},
              {"the left operand is bool[2, 3], but products need f32 or f64",
               [] {
                 matmul(zeros({2, 3}, DType::bool_), zeros({3, 2}));
               }},
              {"matmul: the shape [2147483648, 2147483648] has more than 2^56",
               [] {
                 matmul(zeros({1LL << 31, 1}), zeros({1, 1LL << 31}));
               }},
              {"the right operand is i32[3, 2], but products need f32 or f64; convert with cast(x, "
               "DType::f32)",
               [] {
                 matmul(zeros({2, 3}), zeros({3, 2}, DType::i32));
               }},
              {"f32[2, 3] and f64[3, 2] must both be f32 or both f64; convert one: cast(x, DType::f32)", [] {
                 matmul(zeros({2, 3}), zeros({3, 2}, DType::f64));
               }}};
        },
    .per_example = {matmul_by_example, lift_matmul},
    .reads = [](const Shape& shape, const Layout& layout) { return Lie(shape, layout.strides).fits; },
    .algorithm = matmul_algorithm};

Tensor matmul(const Operand& a, const Operand& b) {
  const Tensor left = a.tensor("matmul"), right = b.tensor("matmul");
  return make(records::matmul_op, {left.node(), right.node()}, a.where());
}

}  // namespace opgrad
