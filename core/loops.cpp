// Elementwise loops: everything that does not depend on the lambda.
#include "loops.h"

#include <fmt/format.h>

#include <new>
#include <optional>

#include "error.h"
#include "flat.h"
#include "parallel.h"
#include "scratch.h"
#include "strided.h"

namespace opgrad {
namespace detail {

void refuse(const char* what, DType t) {
  throw InternalError(fmt::format(
      "{} of dtype {}: this kernel was not made for it; the shape rule must refuse it", what, name_of(t)));
}

void run_flat(const Loop& loop, const std::byte* const* in, const bool* splat, std::byte* out,
              std::int64_t n) {
  alignas(64) std::byte padded[4][64];
  Strip s;
  for (int k = 0; k < loop.arity; ++k) {
    const std::int64_t bytes = loop.bytes[k];
    s.in[k] = in[k];
    s.step[k] = bytes * loop.lanes;
    if (splat[k]) {
      for (std::int64_t i = 0; i < loop.lanes; ++i)
        std::memcpy(padded[k] + i * bytes, in[k], static_cast<std::size_t>(bytes));
      s.in[k] = padded[k];
      s.step[k] = 0;
    }
  }
  s.out = out;
  s.packs = n / loop.lanes;
  if (s.packs > 0) loop.run(s);
  const std::int64_t done = s.packs * loop.lanes, rest = n - done;
  if (rest == 0) return;
  for (int k = 0; k < loop.arity; ++k) {
    if (splat[k]) continue;
    std::memset(padded[k], 0, 64);
    std::memcpy(padded[k], in[k] + done * loop.bytes[k], static_cast<std::size_t>(rest * loop.bytes[k]));
    s.in[k] = padded[k];
  }
  s.out = padded[3];
  s.packs = 1;
  loop.run(s);
  std::memcpy(out + done * loop.out_bytes, padded[3], static_cast<std::size_t>(rest * loop.out_bytes));
}

namespace {

constexpr std::int64_t parallel_from = 32768, small_tile = 256;

// Any strides: inputs that are neither dense nor splats are gathered tile by tile, so that the same loop
// runs. Tiles are small to stay in L1, except where a transpose needs many rows at once.
void run_strided(const Loop& loop, const KernelArgs& a, std::int64_t n) {
  const auto arity = static_cast<std::size_t>(loop.arity);
  const auto dense_like = [](const View& v) { return dense_view(nullptr, v.type); };
  const bool dense_out = a.out.dense();
  const StridedCopy scatter(dense_like(a.out), a.out);
  std::optional<StridedCopy> gather[3];
  bool splat[3]{}, crosswise = !dense_out && scatter.crosswise();
  for (std::size_t k = 0; k < arity; ++k) {
    splat[k] = a.in[k].splat();
    if (splat[k] || a.in[k].dense()) continue;
    gather[k].emplace(a.in[k], dense_like(a.in[k]));
    crosswise = crosswise || gather[k]->crosswise();
  }
  parallel_ranges(n, n < parallel_from ? n : parallel_grain, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) std::byte small[4][small_tile * 8];
    std::byte* tiles[4] = {small[0], small[1], small[2], small[3]};
    std::int64_t tile = small_tile;
    Scratch<std::byte> large;
    if (crosswise) {
      const std::int64_t wanted = std::min(parallel_grain, end - begin);
      try {
        large = Scratch<std::byte>(4 * 8 * wanted);
        tile = wanted;
        for (int k = 0; k < 4; ++k) tiles[k] = large.data() + k * 8 * tile;
      } catch (const std::bad_alloc&) {  // small tiles take longer, and nothing else
      }
    }
    for (std::int64_t i = begin; i < end; i += tile) {
      const std::int64_t count = std::min(tile, end - i);
      const std::byte* in[3];
      for (std::size_t k = 0; k < arity; ++k) {
        in[k] = static_cast<const std::byte*>(a.in[k].data);
        if (gather[k]) {
          gather[k]->run(i, i + count, in[k], 0, tiles[k], i);
          in[k] = tiles[k];
        } else if (!splat[k]) {
          in[k] += i * loop.bytes[k];
        }
      }
      std::byte* out = dense_out ? static_cast<std::byte*>(a.out.data) + i * loop.out_bytes : tiles[3];
      run_flat(loop, in, splat, out, count);
      if (!dense_out) scatter.run(i, i + count, out, i, a.out.data, 0);
    }
  });
}

}  // namespace

void check_equal_shapes(const KernelArgs& a, int arity) {
  internal_check(a.in.size() == static_cast<std::size_t>(arity),
                 "map: as many inputs as the lambda has parameters");
  for (const View& v : a.in)
    if (v.shape() != a.out.shape())
      throw InternalError(fmt::format("map: an input of shape {} meets a result of shape {}",
                                      to_string(v.shape()), to_string(a.out.shape())));
}

std::int64_t offset_of(const View& v, std::int64_t index) {
  std::int64_t offset = 0;
  for (std::size_t i = static_cast<std::size_t>(v.shape().rank()); i-- > 0;) {
    const std::int64_t n = v.shape().dims()[i];
    offset += index % n * v.strides[i];
    index /= n;
  }
  return offset;
}

void run_map(const KernelArgs& a, const MapTable& table) {
  check_equal_shapes(a, table.arity);
  const auto first = static_cast<std::size_t>(table.mask_first);
  const DType t = a.in[first].dtype();
  const MapRow& row = table.rows[static_cast<std::size_t>(t)];
  if (!row.run[0]) refuse("an input", t);
  if (a.out.dtype() != row.out) refuse("a result", a.out.dtype());
  const Isa now = isa();
  Loop loop{row.run[static_cast<int>(now)],
            table.arity,
            vector_bytes(now) / static_cast<std::int64_t>(size_of(t)),
            {},
            static_cast<std::int64_t>(size_of(row.out))};
  const std::byte* in[3];
  bool splat[3], flat = a.out.dense();
  for (std::size_t k = 0; k < a.in.size(); ++k) {
    const View& v = a.in[k];
    if (v.dtype() != (k < first ? DType::bool_ : t)) refuse("an input", v.dtype());
    loop.bytes[k] = static_cast<std::int64_t>(size_of(v.dtype()));
    in[k] = static_cast<const std::byte*>(v.data);
    splat[k] = !v.dense() && v.splat();
    flat = flat && (splat[k] || v.dense());
  }
  const std::int64_t n = a.out.numel();
  if (n == 0) return;
  if (!flat) return run_strided(loop, a, n);
  auto* out = static_cast<std::byte*>(a.out.data);
  if (n < parallel_from) return run_flat(loop, in, splat, out, n);
  parallel_ranges(n, parallel_grain, [&](std::int64_t begin, std::int64_t end) {
    const std::byte* part[3];
    for (int k = 0; k < loop.arity; ++k) part[k] = splat[k] ? in[k] : in[k] + begin * loop.bytes[k];
    run_flat(loop, part, splat, out + begin * loop.out_bytes, end - begin);
  });
}

}  // namespace detail
}  // namespace opgrad
