// Reductions: how what is folded is cut, and where the parts meet.
#include <fmt/format.h>

#include <bit>

#include "error.h"
#include "flat.h"
#include "parallel.h"
#include "scratch.h"
#include "strided.h"

namespace opgrad {
namespace detail {

std::int64_t folded_offset(const View& in, const View& out, std::int64_t index) {
  std::int64_t offset = 0;
  for (std::size_t i = static_cast<std::size_t>(in.shape().rank()); i-- > 0;) {
    const std::int64_t n = in.shape().dims()[i];
    if (out.shape().dims()[i] != 1) offset += index % n * out.strides[i];
    index /= n;
  }
  return offset;
}

namespace {

constexpr std::int64_t block = 16384, block_rows = 256, block_columns = 128, gathered_columns = 1024;

// How `rows` of `n` elements each (or of `n` rows of columns) are cut into blocks, whose results meet in a
// balanced tree: several whole rows to a block, or several blocks to a row. A fold over axis 0 has the rows
// of that axis, so that blocks of them can be folded where they are made; others have rows of one element.
class Blocks {
 public:
  Blocks(std::int64_t rows, std::int64_t n, std::int64_t most, std::int64_t leaf) : rows_(rows), n_(n) {
    if (n > most) {
      const std::int64_t even = n / ((n + most - 1) / most);
      size_ = std::min(most, (even + leaf) / leaf * leaf);
      pieces_ = (n + size_ - 1) / size_;
    } else {
      // Powers of two: several folds then have blocks of rows in common.
      each_ = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(most / n)));
    }
  }
  // Rows that one block or one row's blocks have, and where those of row r begin, which is a multiple of it.
  std::int64_t rows_at_once() const { return each_; }
  std::int64_t of_row(std::int64_t r) const { return r / each_ * pieces_; }
  std::int64_t count() const { return of_row(rows_ + each_ - 1); }
  std::int64_t begin(std::int64_t b) const { return b / pieces_ * each_ * n_ + b % pieces_ * size_; }
  std::int64_t end(std::int64_t b) const {
    const std::int64_t rows_end = std::min((b / pieces_ + 1) * each_, rows_) * n_;
    return size_ ? std::min(begin(b) + size_, rows_end) : rows_end;
  }

 private:
  std::int64_t rows_, n_, each_ = 1, pieces_ = 1, size_ = 0;
};

// Neighbouring axes that are all folded or all kept, as one.
struct Group {
  std::int64_t size;
  bool folded;
};
struct Groups {
  int count = 0;
  Group at[max_rank];
};

Groups groups_of(const Shape& in, const Shape& out) {
  bool fits = in.rank() == out.rank();
  for (int i = 0; fits && i < in.rank(); ++i) fits = out[i] == in[i] || out[i] == 1;
  if (!fits)
    throw InternalError(fmt::format("fold: {} cannot be folded to {}; folded axes must keep size 1",
                                    to_string(in), to_string(out)));
  Groups g;
  for (int i = 0; i < in.rank(); ++i) {
    if (in[i] == 1) continue;
    const bool folded = out[i] != in[i];
    if (g.count > 0 && g.at[g.count - 1].folded == folded)
      g.at[g.count - 1].size *= in[i];
    else
      g.at[g.count++] = {in[i], folded};
  }
  return g;
}

// The elements of a view in row-major order, whatever its strides, or of a value that is made piece by piece.
class Source {
 public:
  Source(const View& v, const Producer* producer)
      : view_(v),
        producer_(producer),
        dense_(!producer && v.dense()),
        bytes_(static_cast<std::int64_t>(size_of(v.dtype()))),
        walk_(v, dense_view(nullptr, v.type)) {}
  bool dense() const { return dense_; }
  std::int64_t numel() const { return view_.numel(); }
  const std::byte* at(std::int64_t i) const { return static_cast<const std::byte*>(view_.data) + i * bytes_; }
  void gather(std::int64_t begin, std::int64_t n, std::byte* to) const {
    if (producer_) return (*producer_)(begin, begin + n, to);
    walk_.run(begin, begin + n, view_.data, 0, to, begin);
  }

 private:
  View view_;
  const Producer* producer_;
  bool dense_;
  std::int64_t bytes_;
  StridedCopy walk_;
};

struct Folder {
  FoldRow row;
  Loop combine;
  std::int64_t bytes;

  Scratch<std::byte> room(std::int64_t elements) const { return Scratch<std::byte>(elements * bytes); }

  // parts[0] = the fold of `count` parts of n elements each, in a balanced tree.
  void tree(std::byte* parts, std::int64_t count, std::int64_t n) const {
    constexpr bool splat[3] = {};
    for (std::int64_t step = 1; step < count; step *= 2)
      for (std::int64_t i = 0; i + step < count; i += 2 * step) {
        std::byte* left = parts + i * n * bytes;
        const std::byte* in[] = {left, parts + (i + step) * n * bytes};
        run_flat(combine, in, splat, left, n);
      }
  }

  // Blocks of each of `outer` stretches of n elements -> [outer, blocks]
  void along(const Source& in, std::int64_t outer, std::int64_t n, const Blocks& blocks,
             std::byte* out) const {
    const auto fold_rows = [&](std::int64_t begin, std::int64_t rows, std::int64_t length, std::byte* to) {
      if (in.dense()) return row.along(in.at(begin), rows, length, length, to);
      const Scratch<std::byte> dense = room(rows * length);
      in.gather(begin, rows * length, dense.data());
      row.along(dense.data(), rows, length, length, to);
    };
    const std::int64_t count = blocks.count();
    if (count == 1)
      return parallel_ranges(outer, std::max<std::int64_t>(1, block / n),
                             [&](std::int64_t begin, std::int64_t end) {
                               fold_rows(begin * n, end - begin, n, out + begin * bytes);
                             });
    parallel_for(outer * count, [&](std::int64_t unit) {
      const std::int64_t b = unit % count, begin = blocks.begin(b);
      fold_rows(unit / count * n + begin, 1, blocks.end(b) - begin, out + unit * bytes);
    });
  }

  // The fold of `width` elements of each row, gathered leaf by leaf, so that they stay in cache; leaves meet
  // as row.down has them meet. `leaf` has room for one and its result.
  void gathered(const Source& in, std::int64_t first, std::int64_t rows, std::int64_t columns,
                std::int64_t width, std::byte* leaf, std::byte* result) const {
    constexpr bool splat[3] = {};
    std::byte* const next = leaf + fold_leaf_rows * width * bytes;
    for (std::int64_t begin = 0; begin < rows; begin += fold_leaf_rows) {
      const std::int64_t count = std::min(fold_leaf_rows, rows - begin);
      if (width == columns)
        in.gather(first + begin * columns, count * width, leaf);
      else
        for (std::int64_t r = 0; r < count; ++r)
          in.gather(first + (begin + r) * columns, width, leaf + r * width * bytes);
      row.down(leaf, count, width, width, count * width, begin == 0 ? result : next);
      const std::byte* both[] = {result, next};
      if (begin > 0) run_flat(combine, both, splat, result, width);
    }
  }

  // Blocks of each of `outer` stretches of n rows of columns -> [outer, blocks, columns]
  void down(const Source& in, std::int64_t outer, std::int64_t n, std::int64_t columns, const Blocks& blocks,
            std::byte* out) const {
    const std::int64_t count = blocks.count();
    const std::int64_t widest = in.dense() ? block_columns : gathered_columns;
    const std::int64_t tiles = (columns + widest - 1) / widest;
    const std::int64_t unit_size = std::min(n, block_rows) * std::min(columns, widest);
    const std::int64_t units = outer * count * tiles;
    parallel_ranges(
        units, std::max<std::int64_t>(1, block / unit_size), [&](std::int64_t begin, std::int64_t end) {
          Scratch<std::byte> leaf;
          if (!in.dense()) leaf = room((fold_leaf_rows + 1) * std::min(columns, widest));
          for (std::int64_t unit = begin; unit < end; ++unit) {
            const std::int64_t c = unit % tiles * widest, b = unit / tiles % count, o = unit / tiles / count;
            const std::int64_t width = std::min(widest, columns - c);
            const std::int64_t top = blocks.begin(b), rows = blocks.end(b) - top;
            const std::int64_t first = (o * n + top) * columns + c;
            std::byte* result = out + ((o * count + b) * columns + c) * bytes;
            if (in.dense())
              row.down(in.at(first), rows, columns, width, in.numel() - first, result);
            else
              gathered(in, first, rows, columns, width, leaf.data(), result);
          }
        });
  }

  // [outer, n, columns] -> [outer, blocks, columns]
  void parts(const Source& in, std::int64_t outer, std::int64_t n, std::int64_t columns, const Blocks& blocks,
             std::byte* out) const {
    if (columns == 1)
      along(in, outer, n, blocks, out);
    else
      down(in, outer, n, columns, blocks, out);
  }

  // [outer, blocks, columns], which is used up, -> [outer, columns]
  void meet(std::byte* parts, std::int64_t outer, std::int64_t count, std::int64_t columns,
            std::byte* out) const {
    for (std::int64_t o = 0; o < outer; ++o) {
      std::byte* own = parts + o * count * columns * bytes;
      tree(own, count, columns);
      std::memcpy(out + o * columns * bytes, own, static_cast<std::size_t>(columns * bytes));
    }
  }

  // [outer, n, columns] -> [outer, columns]
  void all(const Source& in, std::int64_t outer, std::int64_t n, std::int64_t columns, const Blocks& blocks,
           std::byte* out) const {
    const std::int64_t count = blocks.count();
    if (count == 1) return parts(in, outer, n, columns, blocks, out);
    const Scratch<std::byte> partial = room(outer * count * columns);
    parts(in, outer, n, columns, blocks, partial.data());
    meet(partial.data(), outer, count, columns, out);
  }
};

Folder folder_of(const FoldTable& table, DType t) {
  const auto type = static_cast<std::size_t>(t), now = static_cast<std::size_t>(isa());
  const auto bytes = static_cast<std::int64_t>(size_of(t));
  const FoldRow& row = table.rows[type][now];
  if (!row.along) refuse("an input", t);
  return {row,
          {table.combine->rows[type].run[now], 2, vector_bytes(isa()) / bytes, {bytes, bytes, 0}, bytes},
          bytes};
}

// Blocks of `n` elements of a column each, or of columns.
Blocks blocks_of(std::int64_t rows, std::int64_t n, std::int64_t columns) {
  return columns == 1 ? Blocks(rows, n, block, fold_leaf) : Blocks(rows, n, block_rows, fold_leaf_rows);
}

// A fold over axis 0 and those that follow it at once: [rows, n, columns] -> [columns].
struct Leading {
  std::int64_t rows = 0, n = 0, columns = 0;
  explicit Leading(const Shape& in, const Shape& out) {
    const Groups g = groups_of(in, out);
    if (in.rank() == 0 || in.numel() == 0 || in[0] == 1 || out[0] != 1 || g.count > 2) return;
    rows = in[0];
    n = g.at[0].size / rows;
    columns = g.count == 2 ? g.at[1].size : 1;
  }
  Blocks blocks() const { return blocks_of(rows, n, columns); }
};

}  // namespace

void run_fold(const View& in, const View& out, const FoldTable& table, const Producer* producer) {
  Groups g = groups_of(in.shape(), out.shape());
  const DType t = in.dtype();
  const Folder folder = folder_of(table, t);
  if (out.dtype() != t) refuse("a result", out.dtype());
  if (out.numel() == 0) return;
  if (in.numel() > 0 && std::none_of(g.at, g.at + g.count, [](const Group& x) { return x.folded; }))
    return copy(in, out);
  Scratch<std::byte> whole;  // the result, where `out` is not dense
  if (!out.dense()) whole = folder.room(out.numel());
  auto* result = whole.data() ? whole.data() : static_cast<std::byte*>(out.data);
  if (in.numel() == 0) {
    folder.row.fill_empty(result, out.numel());
  } else if (const Leading leading(in.shape(), out.shape()); leading.rows > 0) {
    folder.all(Source(in, producer), 1, leading.rows * leading.n, leading.columns, leading.blocks(), result);
  } else {
    // One folded group at a time, from the inside; all but the last stage write to memory of their own.
    View from = in;
    Scratch<std::byte> kept;
    while (true) {
      int last = g.count - 1;
      while (!g.at[last].folded) --last;
      std::int64_t outer = 1, inner = 1;
      bool final_stage = true;
      for (int i = 0; i < last; ++i) {
        outer *= g.at[i].size;
        final_stage = final_stage && !g.at[i].folded;
      }
      for (int i = last + 1; i < g.count; ++i) inner *= g.at[i].size;
      Scratch<std::byte> stage;
      if (!final_stage) stage = folder.room(outer * inner);
      std::byte* to = final_stage ? result : stage.data();
      folder.all(Source(from, producer), outer, g.at[last].size, inner, blocks_of(g.at[last].size, 1, inner),
                 to);
      if (final_stage) break;
      // Kept groups on both sides of the folded one are now neighbours.
      const bool meet = last + 1 < g.count && last > 0;
      if (meet) g.at[last - 1].size *= g.at[last + 1].size;
      g.count = last;
      producer = nullptr;
      kept = std::move(stage);
      from = dense_view(kept.data(), {t, Shape{outer * inner}});
    }
  }
  if (whole.data()) copy(dense_view(result, out.type), out);
}

std::int64_t fold_part_rows(const Shape& in, const Shape& out) {
  const Leading leading(in, out);
  return leading.rows > 0 ? leading.blocks().rows_at_once() : 0;
}

std::size_t fold_part_bytes(const Shape& in, const Shape& out, DType t) {
  const Leading leading(in, out);
  return leading.rows > 0 ? static_cast<std::size_t>(leading.blocks().count() * leading.columns) * size_of(t)
                          : 0;
}

void fold_parts(const View& in, const View& out, const FoldTable& table, std::int64_t first_row,
                void* parts) {
  const std::int64_t columns = out.numel(), n = in.numel() / in.shape()[0] / columns;
  const Folder folder = folder_of(table, in.dtype());
  const Blocks blocks = blocks_of(in.shape()[0], n, columns);
  folder.parts(Source(in, nullptr), 1, in.shape()[0] * n, columns, blocks,
               static_cast<std::byte*>(parts) + blocks.of_row(first_row) * columns * folder.bytes);
}

void meet_parts(const View& in, const View& out, const FoldTable& table, void* parts) {
  const Leading leading(in.shape(), out.shape());
  folder_of(table, in.dtype())
      .meet(static_cast<std::byte*>(parts), 1, leading.blocks().count(), leading.columns,
            static_cast<std::byte*>(out.data));
}

}  // namespace detail

void reduce_sum(const View& in, const View& out) {
  detail::run_fold(in, out, detail::fold_table<Sum, Types::numbers>);
}
void reduce_max(const View& in, const View& out) {
  detail::run_fold(in, out, detail::fold_table<Max, Types::numbers>);
}

void reduce_argmax(const View& in, int axis, const View& out) {
  const auto at = static_cast<std::size_t>(axis);
  bool fits = axis >= 0 && axis < in.shape().rank() && out.shape().rank() == in.shape().rank();
  for (int i = 0; fits && i < in.shape().rank(); ++i)
    fits = out.shape()[i] == (i == axis ? 1 : in.shape()[i]);
  if (!fits || out.dtype() != DType::i64)
    throw InternalError(fmt::format("argmax: {} along axis {} does not give {}", to_string(in.type), axis,
                                    to_string(out.type)));
  const std::int64_t n = in.shape()[axis], stride = in.strides[at];
  if (out.numel() == 0) return;
  internal_check(n > 0, "argmax: the axis has at least one element");
  View heads = in;  // the first element along the axis
  heads.type.shape = out.shape();
  parallel_ranges(out.numel(), std::max<std::int64_t>(1, detail::parallel_grain / n),
                  [&](std::int64_t begin, std::int64_t end) {
                    dispatch(in.dtype(), [&]<class T>() {
                      for (std::int64_t k = begin; k < end; ++k) {
                        const T* p = in.as<T>() + detail::offset_of(heads, k);
                        std::int64_t best = 0;
                        // A NaN stays the best: nothing is greater than it.
                        for (std::int64_t i = 1; i < n && p[best * stride] == p[best * stride]; ++i)
                          if (!(p[i * stride] <= p[best * stride])) best = i;
                        detail::element<std::int64_t>(out, k) = best;
                      }
                    });
                  });
}

}  // namespace opgrad
