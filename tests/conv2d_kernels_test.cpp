// The kernels of convolution by themselves: on every instruction set, against loops that share no code with
// them, and what they promise about pieces, images and bits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../core/isa.h"
#include "../core/parallel.h"
#include "../ops/conv2d_kernels.h"
#include "../ops/ops.h"
#include "conv2d_loops.h"

using namespace opgrad;
using namespace opgrad::test;

namespace {

template <class T>
Trio<T> kernels(const ConvSizes& s, const Inputs<T>& in) {
  // What is not written shows.
  const T nan = std::numeric_limits<T>::quiet_NaN();
  Trio<T> r{std::vector<T>(in.d.size(), nan), std::vector<T>(in.w.size(), nan),
            std::vector<T>(in.x.size(), nan)};
  std::vector<T> workspace(kernel_gradient_workspace(s, dtype_of<T>) / sizeof(T), nan);
  const T* const each_time = nullptr;
  convolve_forward(s, in.x.data(), in.w.data(), r.y.data(), each_time, nullptr);
  convolve_kernel_gradient(s, in.x.data(), in.d.data(), r.w.data(), workspace.data());
  convolve_input_gradient(s, in.d.data(), in.w.data(), r.x.data(), each_time, nullptr);
  return r;
}

// What kernels are made into once for all parts of a batch, for the instructions in use.
std::vector<float> prepared(ConvDirection direction, const ConvSizes& s, const std::vector<float>& w) {
  std::vector<float> to(prepared_bytes(direction, s, DType::f32) / sizeof(float),
                        std::numeric_limits<float>::quiet_NaN());
  if (!to.empty()) prepare_convolution(direction, s, w.data(), to.data());
  return to;
}

// Calls f with each instruction set that this machine has, and with Winograd's algorithm on and off.
template <class F>
void everywhere(F f) {
  const Isa before = isa();
  const bool winograd_before = winograd();
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i)
    for (const bool on : {true, false}) {
      set_isa(static_cast<Isa>(i));
      set_winograd(on);
      f();
    }
  set_isa(before);
  set_winograd(winograd_before);
}

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
    const Inputs<T> inputs(s, SmallIntegers());
    const Trio<T> expected = loops<T>(s, inputs);
    everywhere([&] {
      CAPTURE(text(s));
      const Trio<T> got = winograd() ? as_integers(kernels(s, inputs)) : kernels(s, inputs);
      CHECK(got.y == expected.y);
      CHECK(got.w == expected.w);
      CHECK(got.x == expected.x);
    });
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
  const Inputs<float> inputs(s, SmallIntegers());
  CHECK(kernels(s, inputs) == loops<float>(s, inputs));
}

TEST_CASE("an image's convolution and gradient have the same bits whatever images stand beside it") {
  for (const ConvSizes& s : some_shapes()) {
    const Inputs<float> inputs(s, Normal());
    everywhere([&] {
      CAPTURE(text(s));
      const Trio<float> whole = kernels(s, inputs);
      const std::vector<float> to = prepared(ConvDirection::forward, s, inputs.w);
      const std::vector<float> back = prepared(ConvDirection::input_gradient, s, inputs.w);
      for (const Size step : {1, 2, 3}) {
        Trio<float> cut = whole;
        std::fill(cut.y.begin(), cut.y.end(), 0.0f);
        std::fill(cut.x.begin(), cut.x.end(), 0.0f);
        for (Size b = 0; b < s.batch; b += step) {
          ConvSizes some = s;
          some.batch = std::min(step, s.batch - b);
          const Size x = b * x_size(s) / s.batch, y = b * y_size(s) / s.batch;
          convolve_forward(some, inputs.x.data() + x, inputs.w.data(), cut.y.data() + y, to.data(), nullptr);
          convolve_input_gradient(some, inputs.d.data() + y, inputs.w.data(), cut.x.data() + x, back.data(),
                                  nullptr);
        }
        CHECK(cut == whole);
      }
    });
  }
}

TEST_CASE("each element is told of once, when it has its final value") {
  const int before = threads();
  for (const ConvSizes& s : some_shapes()) {
    const Inputs<float> inputs(s, Normal());
    everywhere([&] {
      CAPTURE(text(s));
      const Trio<float> right = kernels(s, inputs);
      const auto check = [&](const std::vector<float>& expected, auto run) {
        std::vector<float> got(expected.size(), std::numeric_limits<float>::quiet_NaN()),
            told(expected.size());
        const auto copy = [&](Size begin, Size end) {
          for (Size i = begin; i < end; ++i)
            told[static_cast<std::size_t>(i)] += got[static_cast<std::size_t>(i)];
        };
        const Finished finished(copy);
        run(got.data(), &finished);
        CHECK(told == expected);
      };
      for (const int n : {1, 3}) {
        set_threads(n);
        check(right.y, [&](float* y, const Finished* f) {
          convolve_forward<float>(s, inputs.x.data(), inputs.w.data(), y, nullptr, f);
        });
        check(right.x, [&](float* x, const Finished* f) {
          convolve_input_gradient<float>(s, inputs.d.data(), inputs.w.data(), x, nullptr, f);
        });
      }
    });
  }
  set_threads(before);
}

TEST_CASE("the trio has the same bits on one, two, three, four and eight threads") {
  const int before = threads();
  for (const ConvSizes& s : some_shapes()) {
    const Inputs<float> inputs(s, Normal());
    everywhere([&] {
      CAPTURE(text(s));
      set_threads(1);
      const Trio<float> one = kernels(s, inputs);
      for (const int n : {2, 3, 4, 8}) {
        set_threads(n);
        CHECK(kernels(s, inputs) == one);
      }
    });
  }
  set_threads(before);
}

TEST_CASE("the trio has the same bits with AVX2 and AVX-512, and nearly those without fused sums") {
  const Isa before = isa();
  for (const ConvSizes& s : some_shapes()) {
    CAPTURE(text(s));
    const Inputs<float> inputs(s, Normal());
    const Trio<double> right = loops<double>(s, inputs);
    std::vector<Trio<float>> all;
    for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
      set_isa(static_cast<Isa>(i));
      all.push_back(kernels(s, inputs));
      CHECK(error_of(all.back().y, right.y) < 4e-6);
      CHECK(error_of(all.back().w, right.w) < 4e-6);
      CHECK(error_of(all.back().x, right.x) < 4e-6);
    }
    if (all.size() == 3) CHECK(all[1] == all[2]);
  }
  set_isa(before);
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
