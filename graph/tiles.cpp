// Tiles: the members of a group run one after the other on a tile that stays in L1.
#include "tiles.h"

#include <algorithm>
#include <cstring>

#include "../core/strided.h"

namespace opgrad {
namespace {

// A little more than a tile, so that tiles do not all begin at the same place of their pages.
constexpr std::uint32_t fewest_to_fetch = 8;  // members
constexpr std::size_t tile_bytes = tile_elements * 8 + 128;

}  // namespace

std::byte* Bases::at(const PlanOperand& o) const {
  switch (o.base) {
    case Base::arena:
      return arena + o.offset;
    case Base::slot:
      return slots[o.index] + o.offset;
    case Base::output:
      return outputs[o.index] + o.offset;
    case Base::number:
      return cells + std::size_t{o.index} * 64;
    case Base::constant:
      return constants[o.index]->data + o.offset;
    default:
      return nullptr;
  }
}

View view_of(const Plan& plan, const PlanOperand& o, const Bases& bases, const Rows& rows) {
  View v{bases.at(o), {o.dtype, shape_of(o.shape)}, plan.layouts[o.layout]};
  if (o.base == Base::block) v.data = rows.scratch + o.offset;
  if (!o.cut || rows.count < 0) return v;
  std::array<std::int64_t, max_rank> dims{};
  std::ranges::copy(v.shape(), dims.begin());
  if (o.base != Base::block)
    v.data = v.as<std::byte>() + rows.begin * v.strides[0] * static_cast<std::int64_t>(size_of(o.dtype));
  dims[0] = rows.count;
  v.type.shape =
      Shape(std::span<const std::int64_t>(dims.data(), static_cast<std::size_t>(v.shape().rank())));
  return v;
}

TileRun::TileRun(const Plan& plan, const PlanStep& step, const Bases& bases)
    : plan_(plan), bases_(bases), count_(step.count), numel_(0) {
  numel_ =
      shape_of(plan.operands[plan.calls[step.first].operands + plan.calls[step.first].inputs].shape).numel();
  const bool long_enough = count_ >= fewest_to_fetch && numel_ > 4 * tile_elements;
  const Isa now = isa();
  std::uint32_t lane = 0;
  for (std::uint32_t m = 0; m < count_; ++m) {
    const PlanCall& call = plan.calls[step.first + m];
    const PlanOperand* const operands = &plan.operands[call.operands];
    members_[m] = {nullptr, &call, lane, 1};
    if (const detail::MapTable* map = call.op->forward.map) {
      const DType type = operands[map->mask_first].dtype;
      members_[m].loop = map->rows[static_cast<std::size_t>(type)].run[static_cast<int>(now)];
      members_[m].width = vector_bytes(now) / static_cast<std::int64_t>(size_of(type));
    }
    for (std::uint32_t k = 0; k <= call.inputs; ++k, ++lane) {
      const PlanOperand& o = operands[k];
      Lane& l = lanes_[lane];
      l = {
          bases.at(o),          static_cast<std::int64_t>(size_of(o.dtype)), 0, 0, &o, step.tiles + k, o.walk,
          o.base == Base::block};
      if (long_enough && o.walk == Walk::dense && k < call.inputs) streams(l);
      if (o.walk == Walk::tile) l.tile = o.index;
      if (l.in_block) l.data = nullptr;
      if (o.cut && o.walk == Walk::dense) l.row_bytes = plan.layouts[o.layout][0] * l.bytes;
      if (o.walk != Walk::periodic) continue;
      const View v = view_of(plan, o, bases, {});
      const std::int64_t elements = v.numel();
      int axis = v.shape().rank();
      l.period = 1;
      while (axis > 0 &&
             (v.shape()[axis - 1] == 1 || v.strides[static_cast<std::size_t>(axis - 1)] == l.period))
        l.period *= v.shape()[--axis];
      // The run, again and again: a tile that begins anywhere within it finds its elements side by side.
      std::byte* const pattern = bases.arena + o.pattern;
      const std::int64_t length = std::min(tile_elements, elements) + l.period;
      for (std::int64_t at = 0; at < length; at += l.period)
        std::memcpy(pattern + at * l.bytes, v.data,
                    static_cast<std::size_t>(std::min(l.period, length - at) * l.bytes));
      l.data = pattern;
    }
  }
  if (stream_count_ < 3) stream_count_ = 0;
}

void TileRun::streams(const Lane& l) {
  const bool known = std::any_of(streams_.begin(), streams_.begin() + stream_count_,
                                 [&](const Lane* before) { return before->data == l.data; });
  if (!l.in_block && !known && stream_count_ < most_streams) streams_[stream_count_++] = &l;
}

// n elements, n at most a tile.
void TileRun::run_member(const Member& m, const Piece* pieces, std::int64_t n) const {
  const std::uint32_t inputs = m.call->inputs;
  const Lane* const lanes = &lanes_[m.lane];
  if (!m.loop) {
    std::array<View, widest_member> in;
    for (std::uint32_t k = 0; k < inputs; ++k) {
      in[k] = dense_view(pieces[k].data, {lanes[k].operand->dtype, Shape{n}});
      if (lanes[k].walk == Walk::splat) in[k].strides[0] = 0;
    }
    m.call->op->forward.run({.in = {in.data(), inputs},
                             .out = dense_view(pieces[inputs].data, {lanes[inputs].operand->dtype, Shape{n}}),
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

// Asks for the next tile's elements, each member for its share of them: a tile is a page of each of several
// arrays, and the processor, which finds out by itself what is read next, begins anew with every page.
// (Adam's group takes 0.7 of the time; groups of few arrays or members, where the processor keeps up, take
// longer.)
void TileRun::fetch(std::int64_t at, std::int64_t end, std::uint32_t member, const Rows& rows) const {
  for (std::uint32_t i = 0; i < stream_count_; ++i) {
    const Lane& l = *streams_[i];
    const std::byte* const data = l.data + rows.begin * l.row_bytes + at * l.bytes;
    const std::int64_t bytes = std::min(tile_elements, end - at) * l.bytes;
    const std::int64_t share = (tile_elements * l.bytes / count_ + 63) / 64 * 64;
    for (std::int64_t byte = member * share; byte < std::min(bytes, (member + 1) * share); byte += 64)
      __builtin_prefetch(data + byte);
  }
}

void TileRun::run(std::int64_t begin, std::int64_t end, const Rows& rows) const {
  alignas(64) std::byte tiles[(longest_group + widest_member) * tile_bytes];
  for (std::int64_t at = begin; at < end; at += tile_elements) {
    const std::int64_t n = std::min(tile_elements, end - at);
    for (std::uint32_t m = 0; m < count_; ++m) {
      const Member& member = members_[m];
      std::array<Piece, widest_member + 1> pieces;
      for (std::uint32_t k = 0; k <= member.call->inputs; ++k) {
        const Lane& l = lanes_[member.lane + k];
        std::byte* const tile = tiles + l.tile * tile_bytes;
        std::byte* const data =
            l.in_block ? rows.scratch + l.operand->offset : l.data + rows.begin * l.row_bytes;
        switch (l.walk) {
          case Walk::dense:
            pieces[k] = {data + at * l.bytes, false};
            break;
          case Walk::splat:
            pieces[k] = {l.data, true};
            break;
          case Walk::periodic:
            pieces[k] = {l.data + at % l.period * l.bytes, false};
            break;
          case Walk::tile:
            pieces[k] = {tile, true};
            break;
          case Walk::gathered: {
            const View from = view_of(plan_, *l.operand, bases_, rows);
            const StridedCopy copy(from, dense_view(nullptr, from.type));
            copy.run(at, at + n, from.data, 0, tile, at);
            pieces[k] = {tile, true};
          }
        }
      }
      if (stream_count_ > 0 && at + n < end) fetch(at + tile_elements, end, m, rows);
      run_member(member, pieces.data(), n);
    }
  }
}

}  // namespace opgrad
