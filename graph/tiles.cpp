// Tiles: the members of a group run one after the other on a tile that stays in L1.
#include "tiles.h"

#include <algorithm>
#include <cstring>

#include "../core/strided.h"

namespace opgrad {
namespace {

// A little more than a tile, so that tiles do not all begin at the same place of their pages.
constexpr std::size_t tile_bytes = tile_elements * 8 + 128;

}  // namespace

View view_of(const Plan& plan, const PlanOperand& o, const Bases& bases, const Rows& rows) {
  const bool tile = o.base == Base::tile, block = o.base == Base::block;  // they have no memory of their own
  View v{tile || block ? nullptr : bases.at(o), {o.dtype, shape_of(o.shape)}, plan.layouts[o.layout]};
  if (block && rows.scratch) v.data = rows.scratch + o.offset;
  if (!o.cut || rows.count < 0) return v;
  std::array<std::int64_t, max_rank> dims{};
  std::ranges::copy(v.shape(), dims.begin());
  if (!block && !tile)
    v.data = v.as<std::byte>() + rows.begin * v.strides[0] * static_cast<std::int64_t>(size_of(o.dtype));
  dims[0] = rows.count;
  v.type.shape =
      Shape(std::span<const std::int64_t>(dims.data(), static_cast<std::size_t>(v.shape().rank())));
  return v;
}

TileRun::TileRun(const Plan& plan, const PlanStep& step, const Bases& bases)
    : plan_(plan),
      bases_(bases),
      consumed_(step.fold == no_index ? nullptr : &plan.operands[plan.calls[step.fold].operands]) {
  const PlanCall& first = plan.calls[step.first];
  numel_ = shape_of(plan.operands[first.operands + first.inputs].shape).numel();
  const Isa now = isa();
  const auto loops_end = plan.code && plan.code_isa == now ? plan.loops.end() : plan.loops.begin();
  auto joined = std::ranges::lower_bound(plan.loops.begin(), loops_end, step.first, {}, &PlanLoop::first);
  std::uint32_t in_loop = 0;  // members of the loop that are still to come
  for (std::uint32_t c = step.first; c < step.first + step.count; ++c) {
    const PlanCall& call = plan.calls[c];
    const PlanOperand* const operands = &plan.operands[call.operands];
    for (std::uint32_t k = 0; k < call.inputs; ++k) {
      if (operands[k].walk == Walk::periodic) repeat(operands[k]);
    }
    if (in_loop > 0) {
      --in_loop;
      continue;
    }
    Unit& unit = units_[count_++] = {nullptr, &call, operands, 1};
    if (const detail::MapTable* map = call.op->forward.map) {
      const PlanOperand& type = operands[map->mask_first ? 1 : 0];
      unit.loop = map->rows[static_cast<std::size_t>(type.dtype)].run[static_cast<int>(now)];
      unit.width = vector_bytes(now) / static_cast<std::int64_t>(type.bytes);
    }
    if (joined == loops_end || joined->first != c) continue;
    unit.code = plan.code->at(joined->code);
    unit.joined = &*joined;
    in_loop = joined->count - 1;
    ++joined;
  }
}

// The run, again and again: a tile that begins anywhere within it finds its elements side by side.
void TileRun::repeat(const PlanOperand& o) const {
  const std::byte* const from = bases_.at(o);
  std::byte* const pattern = bases_.arena + o.pattern;
  const std::int64_t length = std::min(tile_elements, shape_of(o.shape).numel()) + o.period;
  for (std::int64_t at = 0; at < length; at += o.period)
    std::memcpy(pattern + at * o.bytes, from,
                static_cast<std::size_t>(std::min(o.period, length - at) * o.bytes));
}

// n elements, n at most a tile.
void TileRun::run_member(const Unit& m, const Piece* pieces, std::int64_t n) const {
  const std::uint32_t inputs = m.call->inputs;
  const PlanOperand* const lanes = m.operands;
  if (!m.loop) {
    std::array<View, widest_member> in;
    for (std::uint32_t k = 0; k < inputs; ++k) {
      in[k] = dense_view(pieces[k].data, {lanes[k].dtype, Shape{n}});
      if (lanes[k].walk == Walk::splat) in[k].strides[0] = 0;
    }
    m.call->op->forward.run({.in = {in.data(), inputs},
                             .out = dense_view(pieces[inputs].data, {lanes[inputs].dtype, Shape{n}}),
                             .attrs = m.call->attributes});
    return;
  }
  detail::Strip s{};
  bool padded = true;
  for (std::uint32_t k = 0; k < inputs; ++k) {
    s.in[k] = pieces[k].data;
    s.step[k] = lanes[k].walk == Walk::splat ? 0 : lanes[k].bytes * m.width;
    padded = padded && pieces[k].padded;
  }
  s.out = pieces[inputs].data;
  padded = padded && pieces[inputs].padded;
  s.packs = padded ? (n + m.width - 1) / m.width : n / m.width;
  if (s.packs > 0) m.loop(s);
  const std::int64_t done = s.packs * m.width, rest = n - done;
  if (rest <= 0) return;
  // The last, partial pack goes through memory that may be touched as a whole.
  alignas(64) std::byte pack[widest_member + 1][64];
  for (std::uint32_t k = 0; k < inputs; ++k) {
    if (lanes[k].walk == Walk::splat) continue;
    std::memset(pack[k], 0, 64);
    std::memcpy(pack[k], pieces[k].data + done * lanes[k].bytes,
                static_cast<std::size_t>(rest * lanes[k].bytes));
    s.in[k] = pack[k];
  }
  s.out = pack[widest_member];
  s.packs = 1;
  m.loop(s);
  std::memcpy(pieces[inputs].data + done * lanes[inputs].bytes, pack[widest_member],
              static_cast<std::size_t>(rest * lanes[inputs].bytes));
}

// As run_member. The last, partial packs of all streams go through memory of their own.
void TileRun::run_joined(const Unit& u, std::int64_t at, std::int64_t n, const Rows& rows,
                         std::byte* tiles) const {
  std::array<std::byte*, most_streams> data;
  const auto& through = u.joined->streams;
  for (std::size_t s = 0; s < through.size(); ++s)
    data[s] = piece_of(plan_.operands[through[s].operand], at, n, rows, tiles).data;
  const std::int64_t bytes = n * plan_.operands[through[0].operand].bytes;
  const std::int64_t whole = bytes / vector_bytes(plan_.code_isa) * vector_bytes(plan_.code_isa);
  if (whole > 0) u.code(data.data(), whole);
  const auto rest = static_cast<std::size_t>(bytes - whole);
  if (rest == 0) return;
  alignas(64) std::byte packs[most_streams][64] = {};
  std::array<std::byte*, most_streams> last;
  for (std::size_t s = 0; s < through.size(); ++s) {
    last[s] = data[s];
    if (plan_.operands[through[s].operand].walk == Walk::splat) continue;
    last[s] = packs[s];
    std::memcpy(packs[s], data[s] + whole, rest);
  }
  u.code(last.data(), vector_bytes(plan_.code_isa));
  for (std::size_t s = 0; s < through.size(); ++s)
    if (through[s].written) std::memcpy(data[s] + whole, packs[s], rest);
}

TileRun::Piece TileRun::piece_of(const PlanOperand& o, std::int64_t at, std::int64_t n, const Rows& rows,
                                 std::byte* tiles) const {
  std::byte* const tile = tiles + o.tile * tile_bytes;
  std::byte* const data =
      o.base == Base::block ? rows.scratch + o.offset : bases_.at(o) + rows.begin * o.row_bytes;
  switch (o.walk) {
    case Walk::dense:
      return {data + at * o.bytes, false};
    case Walk::splat:
      return {data, true};
    case Walk::periodic:
      return {bases_.arena + o.pattern + at % o.period * o.bytes, false};
    case Walk::gathered: {
      const View from = view_of(plan_, o, bases_, rows);
      const StridedCopy copy(from, dense_view(nullptr, from.type));
      copy.run(at, at + n, from.data, 0, tile, at);
      break;
    }
    case Walk::tile:
      break;
  }
  return {tile, true};
}

void TileRun::run(std::int64_t begin, std::int64_t end, const Rows& rows, std::byte* consumed) const {
  alignas(64) std::byte tiles[(longest_group + widest_member) * tile_bytes];
  for (std::int64_t at = begin; at < end; at += tile_elements) {
    const std::int64_t n = std::min(tile_elements, end - at);
    for (std::uint32_t i = 0; i < count_; ++i) {
      const Unit& unit = units_[i];
      if (unit.joined) {
        run_joined(unit, at, n, rows, tiles);
        continue;
      }
      std::array<Piece, widest_member + 1> pieces;
      for (std::uint32_t k = 0; k <= unit.call->inputs; ++k)
        pieces[k] = piece_of(unit.operands[k], at, n, rows, tiles);
      run_member(unit, pieces.data(), n);
    }
    if (consumed)
      std::memcpy(consumed + (at - begin) * consumed_->bytes, tiles + consumed_->tile * tile_bytes,
                  static_cast<std::size_t>(n * consumed_->bytes));
  }
}

}  // namespace opgrad
