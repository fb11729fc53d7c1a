// The kernels of depthwise convolution by themselves.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "convolution_promises.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

// Of each kind several: rows in L1 and not, blocks of channels, tails, few channels, multiples, strides.
std::vector<DepthwiseSizes> some_shapes() {
  const std::array<Size, 4> same{1, 1, 1, 1};
  return {depthwise_sizes(3, 14, 14, 96, 1, {3, 3, {1, 1}, {1, 1}, same}),
          depthwise_sizes(2, 40, 37, 33, 1, {3, 3, {1, 1}, {1, 1}, same}),
          depthwise_sizes(2, 21, 22, 40, 1, {3, 3, {2, 2}, {1, 1}, {0, 1, 0, 1}}),
          depthwise_sizes(5, 7, 7, 300, 1, {3, 3, {1, 1}, {1, 1}, same}),
          depthwise_sizes(2, 15, 13, 64, 1, {5, 5, {1, 1}, {1, 1}, {2, 2, 2, 2}}),
          depthwise_sizes(2, 15, 13, 24, 1, {7, 7, {1, 2}, {2, 1}, {3, 3, 3, 3}}),
          depthwise_sizes(3, 30, 31, 3, 1, {3, 3, {1, 1}, {1, 1}, same}),
          depthwise_sizes(3, 30, 31, 3, 1, {3, 3, {2, 2}, {1, 1}, same}),
          depthwise_sizes(2, 12, 11, 20, 2, {3, 3, {1, 1}, {1, 1}, same}),
          depthwise_sizes(2, 12, 11, 3, 8, {3, 3, {2, 2}, {1, 1}, same}),
          depthwise_sizes(6, 9, 8, 18, 1, {3, 2, {1, 1}, {1, 1}, same}, 3),
          depthwise_sizes(1, 9, 300, 17, 1, {3, 3, {1, 1}, {1, 1}, same})};
}

template <class T>
void check_random_shapes(unsigned seed) {
  std::mt19937 g(seed);
  const auto pick = [&](Size low, Size high) { return low + static_cast<Size>(g()) % (high - low + 1); };
  for (int done = 0; done < 200;) {
    Taps t{pick(1, 5), pick(1, 7)};
    const Size multiplier = pick(0, 1) ? 1 : pick(0, 5) ? pick(1, 5) : pick(6, 40);
    if (pick(0, 1)) t.strides = {pick(1, 3), pick(1, 3)};
    if (pick(0, 1)) t.dilations = {pick(1, 3), pick(1, 3)};
    for (Size& p : t.pads) p = pick(0, 3);
    const Size channels = pick(0, 2) == 0 ? pick(1, 5) : pick(0, 1) ? pick(1, 40) : pick(30, 180);
    const Size kernels_used = pick(1, 3), batch = kernels_used * pick(1, 2);
    const DepthwiseSizes s = depthwise_sizes(batch, pick(1, 12), pick(1, 30), channels, multiplier, t,
                                             pick(0, 2) ? 1 : kernels_used);
    if (y_size(s) == 0) continue;
    ++done;
    check_against_loops<T>(s);
  }
}

}  // namespace

TEST_CASE("depthwise convolution of random shapes equals the loops on small integers in f32") {
  check_random_shapes<float>(1);
}
TEST_CASE("depthwise convolution of random shapes equals the loops on small integers in f64") {
  check_random_shapes<double>(2);
}
TEST_CASE("depthwise convolution of shapes of each kind equals the loops on small integers") {
  for (const DepthwiseSizes& s : some_shapes()) check_against_loops<float>(s);
}

TEST_CASE("depthwise: steps and pads far beyond the image need no memory for what lies between") {
  const Size far = Size{1} << 40;
  for (const Size channels : {3, 40})
    for (const DepthwiseSizes& s :
         {depthwise_sizes(2, 5, 6, channels, 1, {2, 3, {1, 1}, {far, far}, {far, 0, far, far}}),
          depthwise_sizes(2, 5, 6, channels, 2, {2, 3, {far, far}, {1, 1}, {0, far, 0, far}})})
      check_against_loops<float>(s);
}

TEST_CASE("depthwise: an image has the same bits whatever images stand beside it") {
  std::vector<DepthwiseSizes> one_kernel = some_shapes();
  std::erase_if(one_kernel, [](const DepthwiseSizes& s) { return s.images < s.batch; });
  check_images_apart(one_kernel);
}
TEST_CASE("depthwise: each element is told of once, when it has its final value") {
  check_pieces(some_shapes());
}
TEST_CASE("depthwise: the same bits on one, two, three, four and eight threads") {
  check_threads(some_shapes());
}
TEST_CASE("depthwise: the same bits with AVX2 and AVX-512, and nearly those without fused sums") {
  check_instructions(some_shapes());
}

TEST_CASE("depthwise: the workspace of a kernel's gradient is bounded") {
  for (const Size batch : {1, 8, 128})
    for (const Size channels : {1, 3, 65, 1024, 100000})
      for (const Size kernels_used : {Size{1}, batch}) {
        const DepthwiseSizes s = depthwise_sizes(batch, 16, 16, channels, 1, {3, 3}, kernels_used);
        CHECK(depthwise_gradient_workspace(s, sizeof(float)) <= 8 << 20);
      }
}
