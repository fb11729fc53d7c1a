// The kernels of convolution by themselves, and the choice of algorithms.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../ops/ops.h"
#include "convolution_promises.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

// Shapes of which each kind of path has several.
std::vector<ConvSizes> some_shapes() {
  return {sizes(5, 13, 13, 32, 64, {3, 3}),
          sizes(3, 9, 17, 19, 37, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}}),
          sizes(5, 12, 14, 1, 32, {3, 3}),
          sizes(3, 12, 14, 3, 16, {5, 5, {2, 2}, {1, 1}, {2, 2, 2, 2}}),
          sizes(4, 9, 10, 20, 24, {3, 3, {2, 1}, {1, 2}, {1, 1, 2, 2}}),
          sizes(6, 7, 7, 24, 40, {1, 1}),
          sizes(1, 40, 70, 16, 16, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}}),
          sizes(40, 4, 4, 64, 64, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}}),
          sizes(128, 7, 7, 16, 16, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}}),
          sizes(2, 4, 4, 150, 3, {2, 2, {2, 2}})};
}

template <class T>
void check_random_shapes(unsigned seed) {
  std::mt19937 g(seed);
  const auto pick = [&](Size low, Size high) { return low + static_cast<Size>(g()) % (high - low + 1); };
  for (int done = 0; done < 120;) {
    const bool square = pick(0, 3) == 0;  // of Winograd's kind
    const Size channels = square ? 70 : pick(0, 1) ? 40 : 5;
    const Size in = pick(square ? 16 : 1, channels), out = pick(square ? 32 : 1, 70);
    Taps t{square ? 3 : pick(1, 4), square ? 3 : pick(1, 4)};
    if (!square) t.strides = {pick(1, 3), pick(1, 3)}, t.dilations = {pick(1, 3), pick(1, 3)};
    for (Size& p : t.pads) p = pick(0, 3);
    const ConvSizes s = sizes(pick(1, 3), pick(1, 12), pick(1, 30), in, out, t);
    if (s.pixels() == 0) continue;
    ++done;
    check_against_loops<T>(s);
  }
}

}  // namespace

TEST_CASE("convolution of random shapes equals the loops on small integers in f32") {
  check_random_shapes<float>(1);
}
TEST_CASE("convolution of random shapes equals the loops on small integers in f64") {
  check_random_shapes<double>(2);
}

TEST_CASE("dilations and pads far beyond the image need no memory for what lies between") {
  const Size far = Size{1} << 40;
  const ConvSizes s = sizes(2, 5, 6, 3, 4, {2, 3, {1, 1}, {far, far}, {far, 0, far, far}});
  REQUIRE(s.out_rows == 5);
  REQUIRE(s.out_columns == 6);
  check_against_loops<float>(s);
}

TEST_CASE("an image's convolution and gradient have the same bits whatever images stand beside it") {
  check_images_apart(some_shapes());
}
TEST_CASE("each element is told of once, when it has its final value") { check_pieces(some_shapes()); }
TEST_CASE("the trio has the same bits on one, two, three, four and eight threads") {
  check_threads(some_shapes());
}
TEST_CASE("the trio has the same bits with AVX2 and AVX-512, and nearly those without fused sums") {
  check_instructions(some_shapes());
}

TEST_CASE("the choice of algorithm is one of an image's sizes, the dtype and the switch") {
  const auto same = [](Size size, Size channels) {
    return sizes(128, size, size, channels, channels, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}});
  };
  struct Case {
    ConvSizes s;
    const char *gradient, *others;  // the kernel's gradient, and the other two
  };
  const bool before = winograd();
  for (const Case& c :
       {Case{sizes(128, 13, 13, 32, 64, {3, 3}), "winograd 4x4", "winograd 4x4"},
        Case{same(32, 16), "winograd 4x4", "winograd 4x4"},
        Case{same(6, 64), "winograd 2x2", "winograd 2x2"},    // too much of the tiles is left over
        Case{same(14, 512), "winograd 2x2", "winograd 2x2"},  // large kernels
        Case{same(4, 64), "winograd 4x4", "direct"}, Case{same(32, 15), "direct", "direct"}}) {
    CAPTURE(text(c.s));
    ConvSizes one = c.s;
    one.batch = 1;
    for (const auto direction :
         {ConvDirection::forward, ConvDirection::kernel_gradient, ConvDirection::input_gradient}) {
      const std::string right = direction == ConvDirection::kernel_gradient ? c.gradient : c.others;
      set_winograd(true);
      CHECK(conv2d_choice(direction, c.s, DType::f32) == right);
      CHECK(conv2d_choice(direction, one, DType::f32) == right);
      CHECK(conv2d_choice(direction, c.s, DType::f64) == std::string("direct"));
      set_winograd(false);
      CHECK(conv2d_choice(direction, c.s, DType::f32) == std::string("direct"));
    }
  }
  set_winograd(before);
}

TEST_CASE("the workspace of a kernel's gradient is bounded") {
  for (const Size batch : {1, 8, 128})
    for (const Size channels : {1, 3, 16, 65, 256, 512}) {
      const ConvSizes s = sizes(batch, 16, 16, channels, channels, {3, 3});
      const std::size_t rounded = static_cast<std::size_t>((channels + 15) / 16 * 16);
      const std::size_t matrices = 36 * static_cast<std::size_t>(channels) * rounded * sizeof(float);
      CHECK(kernel_gradient_workspace(s, DType::f32) <= std::max<std::size_t>(8 << 20, matrices));
    }
}
