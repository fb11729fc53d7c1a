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
#include "../ops/conv2d_winograd.h"

using namespace opgrad;

namespace {

using Size = std::int64_t;

struct Taps {
  Size rows, columns;
  std::array<Size, 2> strides{1, 1}, dilations{1, 1};
  std::array<Size, 4> pads{};
};

// No rows or columns where the kernel does not fit.
ConvSizes sizes(Size batch, Size rows, Size columns, Size in, Size out, const Taps& t) {
  const auto fit = [&](std::size_t axis, Size size, Size taps) {
    const Size left = size + t.pads[2 * axis] + t.pads[2 * axis + 1] - (taps - 1) * t.dilations[axis] - 1;
    return left < 0 ? 0 : left / t.strides[axis] + 1;
  };
  return {batch,
          rows,
          columns,
          in,
          t.rows,
          t.columns,
          out,
          fit(0, rows, t.rows),
          fit(1, columns, t.columns),
          t.strides,
          t.dilations,
          t.pads[0],
          t.pads[2]};
}

Size x_size(const ConvSizes& s) { return s.batch * s.rows * s.columns * s.in; }
Size y_size(const ConvSizes& s) { return s.pixels() * s.out; }

std::string text(const ConvSizes& s) {
  std::string t = name_of(isa());
  for (const Size n : {s.batch, s.rows, s.columns, s.in, s.kernel_rows, s.kernel_columns, s.out, s.strides[0],
                       s.strides[1], s.dilations[0], s.dilations[1], s.top, s.left})
    t += ' ' + std::to_string(n);
  return t;
}

// The three results, from the kernels or from the loops.
template <class T>
struct Trio {
  std::vector<T> y, w, x;
  bool operator==(const Trio&) const = default;
};

template <class T, class F>
std::vector<T> draw(Size n, F next) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = static_cast<T>(next());
  return v;
}
template <class T>
struct Inputs {
  std::vector<T> x, w, d;
  template <class F>
  Inputs(const ConvSizes& s, F next)
      : x(draw<T>(x_size(s), next)), w(draw<T>(s.kernel_size(), next)), d(draw<T>(y_size(s), next)) {}
};

struct SmallIntegers {
  std::mt19937 g{7};
  int operator()() { return static_cast<int>(g() % 7) - 3; }
};
struct Normal {
  std::mt19937 g{7};
  std::normal_distribution<double> d;
  double operator()() { return d(g); }
};

template <class R, class T>
Trio<R> loops(const ConvSizes& s, const Inputs<T>& in) {
  const auto at = [](Size i) { return static_cast<std::size_t>(i); };
  Trio<R> r{std::vector<R>(in.d.size()), std::vector<R>(in.w.size()), std::vector<R>(in.x.size())};
  for (Size b = 0; b < s.batch; ++b)
    for (Size i = 0; i < s.out_rows; ++i)
      for (Size j = 0; j < s.out_columns; ++j)
        for (Size m = 0; m < s.kernel_rows; ++m)
          for (Size n = 0; n < s.kernel_columns; ++n) {
            const Size row = i * s.strides[0] + m * s.dilations[0] - s.top;
            const Size column = j * s.strides[1] + n * s.dilations[1] - s.left;
            if (row < 0 || row >= s.rows || column < 0 || column >= s.columns) continue;
            for (Size c = 0; c < s.in; ++c)
              for (Size o = 0; o < s.out; ++o) {
                const std::size_t x = at(((b * s.rows + row) * s.columns + column) * s.in + c);
                const std::size_t w = at(((m * s.kernel_columns + n) * s.in + c) * s.out + o);
                const std::size_t y = at(((b * s.out_rows + i) * s.out_columns + j) * s.out + o);
                r.y[y] += R(in.x[x]) * R(in.w[w]);
                r.w[w] += R(in.x[x]) * R(in.d[y]);
                r.x[x] += R(in.w[w]) * R(in.d[y]);
              }
          }
  return r;
}

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

// By Winograd's algorithm, whichever is chosen.
Trio<float> by_winograd(const ConvSizes& s, const Inputs<float>& in) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Trio<float> r{std::vector<float>(in.d.size(), nan), std::vector<float>(in.w.size(), nan),
                std::vector<float>(in.x.size(), nan)};
  std::vector<float> workspace(winograd_gradient_workspace(s) / sizeof(float), nan);
  winograd_forward(s, in.x.data(), in.w.data(), r.y.data(), nullptr, nullptr);
  winograd_kernel_gradient(s, in.x.data(), in.d.data(), r.w.data(), workspace.data());
  winograd_input_gradient(s, in.d.data(), in.w.data(), r.x.data(), nullptr, nullptr);
  return r;
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
      const Trio<T> got = kernels(s, inputs);
      CHECK(got.y == expected.y);
      CHECK(got.w == expected.w);
      CHECK(got.x == expected.x);
    });
  }
}

// The largest error of f32 relative to the largest number of the f64 result.
double error_of(const std::vector<float>& got, const std::vector<double>& right) {
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(got[i] - right[i]));
    size = std::max(size, std::abs(right[i]));
  }
  return worst / size;
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

TEST_CASE("Winograd's algorithm stays within the error that its header states") {
  for (const ConvSizes& s :
       {sizes(8, 13, 13, 32, 64, {3, 3}), sizes(2, 16, 16, 128, 128, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}}),
        sizes(4, 32, 32, 16, 16, {3, 3, {1, 1}, {1, 1}, {1, 1, 1, 1}})}) {
    CAPTURE(text(s));
    const Inputs<float> inputs(s, Normal());
    const Trio<double> right = loops<double>(s, inputs);
    const Trio<float> got = by_winograd(s, inputs);
    CHECK(error_of(got.y, right.y) < 1e-6);
    CHECK(error_of(got.w, right.w) < 1e-6);
    CHECK(error_of(got.x, right.x) < 1e-6);
  }
}

TEST_CASE("Winograd's tiles that are short, or beyond the image, equal the loops") {
  const Isa before = isa();
  for (Size rows = 3; rows <= 6; ++rows)
    for (Size columns = 3; columns <= 6; ++columns)
      for (Size top = 0; top <= 3; ++top)
        for (Size left = 0; left <= 3; ++left) {
          // The pads below and on the right differ from those above and on the left.
          const ConvSizes s = sizes(3, rows, columns, 16, 18, {3, 3, {1, 1}, {1, 1}, {top, 2, left, 1}});
          const Inputs<float> inputs(s, SmallIntegers());
          const Trio<float> right = loops<float>(s, inputs);
          for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
            set_isa(static_cast<Isa>(i));
            CAPTURE(text(s));
            CHECK(by_winograd(s, inputs) == right);
          }
        }
  set_isa(before);
}

TEST_CASE("Winograd's kernel gradient of lines longer than a box equals the loops") {
  for (const ConvSizes& s : {sizes(2, 5, 900, 16, 16, {3, 3}), sizes(1, 7, 61, 300, 17, {3, 3})}) {
    CAPTURE(text(s));
    const Inputs<float> inputs(s, SmallIntegers());
    CHECK(by_winograd(s, inputs).w == loops<float>(s, inputs).w);
  }
}

TEST_CASE("the choice of algorithm is one of an image's sizes, the dtype and the switch") {
  const ConvSizes s = sizes(128, 13, 13, 32, 64, {3, 3});
  ConvSizes one = s;
  one.batch = 1;
  const bool before = winograd();
  for (const auto direction :
       {ConvDirection::forward, ConvDirection::kernel_gradient, ConvDirection::input_gradient}) {
    set_winograd(true);
    CHECK(std::string(conv2d_choice(direction, s, DType::f32)) == "winograd 2x2");
    CHECK(std::string(conv2d_choice(direction, one, DType::f32)) == "winograd 2x2");
    CHECK(std::string(conv2d_choice(direction, s, DType::f64)) == "direct");
    set_winograd(false);
    CHECK(std::string(conv2d_choice(direction, s, DType::f32)) == "direct");
  }
  set_winograd(before);
}

TEST_CASE("the workspace of a kernel's gradient is bounded") {
  for (const Size batch : {1, 8, 128})
    for (const Size channels : {1, 3, 16, 65, 256, 512}) {
      const ConvSizes s = sizes(batch, 16, 16, channels, channels, {3, 3});
      const std::size_t rounded = static_cast<std::size_t>((channels + 15) / 16 * 16);
      const std::size_t matrices = 16 * static_cast<std::size_t>(channels) * rounded * sizeof(float);
      CHECK(kernel_gradient_workspace(s, DType::f32) <= std::max<std::size_t>(8 << 20, matrices));
    }
}
