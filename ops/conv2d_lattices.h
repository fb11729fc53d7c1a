// Convolutions and their input gradients as one thing: correlations whose outputs may form lattices. With
// stride s the gradient of x at k takes the taps m for which k + top - m*dilation is a multiple of s, which
// are the same for all k of one remainder: s lattices an axis, each a correlation of stride 1 with some of
// the taps.
#pragma once
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "../core/scratch.h"
#include "conv2d_source.h"

namespace opgrad {

// Outputs first, first + distance, ... along one axis; the i-th of them reads inputs i*step + offsets[t],
// offsets rising, with the kernel's taps[t].
struct Lattice {
  std::int64_t first;
  std::pmr::vector<std::int64_t> taps{scratch()}, offsets{scratch()};
};
struct Lattices {
  std::int64_t step = 1, distance = 1;
  std::pmr::vector<Lattice> all{scratch()};
};

Lattices forward_lattices(std::int64_t taps, std::int64_t stride, std::int64_t dilation, std::int64_t pad);
Lattices gradient_lattices(std::int64_t taps, std::int64_t stride, std::int64_t dilation, std::int64_t pad,
                           std::int64_t outputs);

// The points of a lattice that are outputs in [from, to).
Range points(const Lattices& l, const Lattice& one, std::int64_t from, std::int64_t to);

// Points of a lattice that read the inputs [0, size) with the same taps: the border's, and those between.
struct Segment {
  Range points, taps;  // taps as indices of the lattice's lists
};
// Cuts `p` into segments, in order.
std::pmr::vector<Segment> segments(const Lattices& l, const Lattice& one, Range p, std::int64_t size);

}  // namespace opgrad
