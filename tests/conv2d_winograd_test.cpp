// Winograd's algorithm by itself, with tiles of either size, whichever is chosen.
#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "../core/isa.h"
#include "../ops/conv2d_winograd.h"
#include "convolution_loops.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

// With tiles of `side` x `side` outputs.
Trio<float> by_winograd(const ConvSizes& s, int side, const Inputs<float>& in) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Trio<float> r(in, nan);
  std::vector<float> workspace(winograd_gradient_workspace(s, side) / sizeof(float), nan);
  winograd_forward(s, side, in.x.data(), in.w.data(), r.y.data(), nullptr, nullptr);
  winograd_kernel_gradient(s, side, in.x.data(), in.d.data(), r.w.data(), workspace.data());
  winograd_input_gradient(s, side, in.d.data(), in.w.data(), r.x.data(), nullptr, nullptr);
  return r;
}

}  // namespace

TEST_CASE("Winograd's algorithm stays within the errors that its header states") {
  const Isa before = isa();
  for (const ConvSizes& s :
       {sizes(8, 13, 13, 32, 64, {3, 3}), sizes(2, 16, 16, 128, 128, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}}),
        sizes(4, 32, 32, 16, 16, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}})}) {
    const Inputs<float> inputs(s, Normal());
    const Trio<double> right = loops<double>(s, inputs);
    for (int i = 0; i <= static_cast<int>(best_isa()); ++i)
      for (const int side : {2, 4}) {
        set_isa(static_cast<Isa>(i));
        CAPTURE(text(s));
        CAPTURE(side);
        const Trio<float> got = by_winograd(s, side, inputs);
        const double bound = side == 2 ? 1e-6 : 4e-6;
        CHECK(error_of(got.y, right.y) < bound);
        CHECK(error_of(got.w, right.w) < bound);
        CHECK(error_of(got.x, right.x) < bound);
      }
  }
  set_isa(before);
}

TEST_CASE("Winograd's tiles that are short, or beyond the image, equal the loops") {
  const Isa before = isa();
  for (Size rows = 3; rows <= 8; ++rows)
    for (Size columns = 3; columns <= 8; ++columns)
      for (Size top = 0; top <= 3; ++top)
        for (Size left = 0; left <= 3; ++left) {
          // The pads below and on the right differ from those above and on the left.
          const ConvSizes s = sizes(3, rows, columns, 16, 18, {3, 3, {1, 1}, {1, 1}, {top, 2, left, 1}});
          const Inputs<float> inputs(s, SmallIntegers());
          const Trio<float> right = loops<float>(s, inputs);
          for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
            set_isa(static_cast<Isa>(i));
            CAPTURE(text(s));
            CHECK(by_winograd(s, 2, inputs) == right);
            CHECK(as_integers(by_winograd(s, 4, inputs)) == right);
          }
        }
  set_isa(before);
}

TEST_CASE("Winograd's kernel gradient of lines longer than a box equals the loops") {
  for (const ConvSizes& s : {sizes(2, 5, 900, 16, 16, {3, 3}), sizes(1, 7, 61, 300, 17, {3, 3})}) {
    CAPTURE(text(s));
    const Inputs<float> inputs(s, SmallIntegers());
    const std::vector<float> right = loops<float>(s, inputs).w;
    CHECK(by_winograd(s, 2, inputs).w == right);
    CHECK(as_integers(by_winograd(s, 4, inputs)).w == right);
  }
}
