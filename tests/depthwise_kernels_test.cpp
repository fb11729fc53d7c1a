// Depthwise convolution by itself: the kernels on every instruction set against loops that share no code with
// them, and what they promise about pieces, images and bits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../core/isa.h"
#include "../core/parallel.h"
#include "../ops/depthwise_kernels.h"

using namespace opgrad;

namespace {

using Size = std::int64_t;

struct Taps {
  Size rows, columns, multiplier = 1;
  std::array<Size, 2> strides{1, 1}, dilations{1, 1};
  std::array<Size, 4> pads{};
};

// No rows or columns where the kernel does not fit. Each of `kernels` serves as many images.
DepthwiseSizes sizes(Size batch, Size rows, Size columns, Size channels, const Taps& t, Size kernels = 1) {
  const auto fit = [&](std::size_t axis, Size size, Size taps) {
    const Size left = size + t.pads[2 * axis] + t.pads[2 * axis + 1] - (taps - 1) * t.dilations[axis] - 1;
    return left < 0 ? 0 : left / t.strides[axis] + 1;
  };
  return {.batch = batch,
          .rows = rows,
          .columns = columns,
          .channels = channels,
          .kernel_rows = t.rows,
          .kernel_columns = t.columns,
          .multiplier = t.multiplier,
          .out_rows = fit(0, rows, t.rows),
          .out_columns = fit(1, columns, t.columns),
          .strides = t.strides,
          .dilations = t.dilations,
          .top = t.pads[0],
          .left = t.pads[2],
          .images = batch / kernels};
}

Size x_size(const DepthwiseSizes& s) { return s.batch * s.rows * s.columns * s.channels; }
Size w_size(const DepthwiseSizes& s) { return s.batch / s.images * s.kernel_size(); }
Size y_size(const DepthwiseSizes& s) { return s.batch * s.out_rows * s.out_columns * s.out(); }

std::string text(const DepthwiseSizes& s) {
  std::string t = name_of(isa());
  for (const Size n :
       {s.batch, s.images, s.rows, s.columns, s.channels, s.kernel_rows, s.kernel_columns, s.multiplier,
        s.strides[0], s.strides[1], s.dilations[0], s.dilations[1], s.top, s.left})
    t += ' ' + std::to_string(n);
  return t;
}

template <class T>
struct Trio {
  std::vector<T> y, w, x;
  bool operator==(const Trio&) const = default;
};

template <class T>
struct Inputs {
  std::vector<T> x, w, d;
  template <class F>
  Inputs(const DepthwiseSizes& s, F next)
      : x(static_cast<std::size_t>(x_size(s))),
        w(static_cast<std::size_t>(w_size(s))),
        d(static_cast<std::size_t>(y_size(s))) {
    for (std::vector<T>* v : {&x, &w, &d})
      for (T& e : *v) e = static_cast<T>(next());
  }
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
Trio<R> loops(const DepthwiseSizes& s, const Inputs<T>& in) {
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
            for (Size c = 0; c < s.channels; ++c)
              for (Size q = 0; q < s.multiplier; ++q) {
                const Size o = c * s.multiplier + q;
                const std::size_t x = at(((b * s.rows + row) * s.columns + column) * s.channels + c);
                const std::size_t w =
                    at(((b / s.images * s.kernel_rows + m) * s.kernel_columns + n) * s.out() + o);
                const std::size_t y = at(((b * s.out_rows + i) * s.out_columns + j) * s.out() + o);
                r.y[y] += R(in.x[x]) * R(in.w[w]);
                r.w[w] += R(in.x[x]) * R(in.d[y]);
                r.x[x] += R(in.w[w]) * R(in.d[y]);
              }
          }
  return r;
}

template <class T>
Trio<T> kernels(const DepthwiseSizes& s, const Inputs<T>& in) {
  // What is not written shows.
  const T nan = std::numeric_limits<T>::quiet_NaN();
  Trio<T> r{std::vector<T>(in.d.size(), nan), std::vector<T>(in.w.size(), nan),
            std::vector<T>(in.x.size(), nan)};
  std::vector<T> workspace(depthwise_gradient_workspace(s, sizeof(T)) / sizeof(T), nan);
  depthwise_forward(s, in.x.data(), in.w.data(), r.y.data(), nullptr);
  depthwise_kernel_gradient(s, in.x.data(), in.d.data(), r.w.data(), workspace.data());
  depthwise_input_gradient(s, in.d.data(), in.w.data(), r.x.data(), nullptr);
  return r;
}

// Calls f with each instruction set that this machine has.
template <class F>
void everywhere(F f) {
  const Isa before = isa();
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i) {
    set_isa(static_cast<Isa>(i));
    f();
  }
  set_isa(before);
}

// Of each kind several: rows in L1 and not, blocks of channels, tails, few channels, multiples, strides.
std::vector<DepthwiseSizes> some_shapes() {
  const std::array<Size, 4> same{1, 1, 1, 1};
  return {sizes(3, 14, 14, 96, {3, 3, 1, {1, 1}, {1, 1}, same}),
          sizes(2, 40, 37, 33, {3, 3, 1, {1, 1}, {1, 1}, same}),
          sizes(2, 21, 22, 40, {3, 3, 1, {2, 2}, {1, 1}, {0, 1, 0, 1}}),
          sizes(5, 7, 7, 300, {3, 3, 1, {1, 1}, {1, 1}, same}),
          sizes(2, 15, 13, 64, {5, 5, 1, {1, 1}, {1, 1}, {2, 2, 2, 2}}),
          sizes(2, 15, 13, 24, {7, 7, 1, {1, 2}, {2, 1}, {3, 3, 3, 3}}),
          sizes(3, 30, 31, 3, {3, 3, 1, {1, 1}, {1, 1}, same}),
          sizes(3, 30, 31, 3, {3, 3, 1, {2, 2}, {1, 1}, same}),
          sizes(2, 12, 11, 20, {3, 3, 2, {1, 1}, {1, 1}, same}),
          sizes(2, 12, 11, 3, {3, 3, 8, {2, 2}, {1, 1}, same}),
          sizes(6, 9, 8, 18, {3, 2, 1, {1, 1}, {1, 1}, same}, 3),
          sizes(1, 9, 300, 17, {3, 3, 1, {1, 1}, {1, 1}, same})};
}

template <class T>
void check_random_shapes(unsigned seed) {
  std::mt19937 g(seed);
  const auto pick = [&](Size low, Size high) { return low + static_cast<Size>(g()) % (high - low + 1); };
  for (int done = 0; done < 200;) {
    Taps t{pick(1, 5), pick(1, 7), pick(0, 1) ? 1 : pick(0, 5) ? pick(1, 5) : pick(6, 40)};
    if (pick(0, 1)) t.strides = {pick(1, 3), pick(1, 3)};
    if (pick(0, 1)) t.dilations = {pick(1, 3), pick(1, 3)};
    for (Size& p : t.pads) p = pick(0, 3);
    const Size channels = pick(0, 2) == 0 ? pick(1, 5) : pick(0, 1) ? pick(1, 40) : pick(30, 180);
    const Size kernels_used = pick(1, 3), batch = kernels_used * pick(1, 2);
    const DepthwiseSizes s =
        sizes(batch, pick(1, 12), pick(1, 30), channels, t, pick(0, 2) ? 1 : kernels_used);
    if (y_size(s) == 0) continue;
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

double error_of(const std::vector<float>& got, const std::vector<double>& right) {
  double worst = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(got[i] - right[i]));
    size = std::max(size, std::abs(right[i]));
  }
  return worst / size;
}

}  // namespace

TEST_CASE("depthwise convolution of random shapes equals the loops on small integers in f32") {
  check_random_shapes<float>(1);
}
TEST_CASE("depthwise convolution of random shapes equals the loops on small integers in f64") {
  check_random_shapes<double>(2);
}
TEST_CASE("depthwise convolution of shapes of each kind equals the loops on small integers") {
  for (const DepthwiseSizes& s : some_shapes()) {
    const Inputs<float> inputs(s, SmallIntegers());
    const Trio<float> expected = loops<float>(s, inputs);
    everywhere([&] {
      CAPTURE(text(s));
      CHECK(kernels(s, inputs) == expected);
    });
  }
}

TEST_CASE("depthwise: steps and pads far beyond the image need no memory for what lies between") {
  const Size far = Size{1} << 40;
  for (const Size channels : {3, 40})
    for (const DepthwiseSizes& s :
         {sizes(2, 5, 6, channels, {2, 3, 1, {1, 1}, {far, far}, {far, 0, far, far}}),
          sizes(2, 5, 6, channels, {2, 3, 2, {far, far}, {1, 1}, {0, far, 0, far}})}) {
      const Inputs<float> inputs(s, SmallIntegers());
      CHECK(kernels(s, inputs) == loops<float>(s, inputs));
    }
}

TEST_CASE("depthwise: an image has the same bits whatever images stand beside it") {
  for (const DepthwiseSizes& s : some_shapes()) {
    if (s.images < s.batch) continue;
    const Inputs<float> inputs(s, Normal());
    everywhere([&] {
      CAPTURE(text(s));
      const Trio<float> whole = kernels(s, inputs);
      Trio<float> cut = whole;
      std::fill(cut.y.begin(), cut.y.end(), 0.0f);
      std::fill(cut.x.begin(), cut.x.end(), 0.0f);
      for (Size b = 0; b < s.batch; ++b) {
        DepthwiseSizes one = s;
        one.batch = one.images = 1;
        const Size x = b * x_size(s) / s.batch, y = b * y_size(s) / s.batch;
        depthwise_forward<float>(one, inputs.x.data() + x, inputs.w.data(), cut.y.data() + y, nullptr);
        depthwise_input_gradient<float>(one, inputs.d.data() + y, inputs.w.data(), cut.x.data() + x, nullptr);
      }
      CHECK(cut == whole);
    });
  }
}

TEST_CASE("depthwise: each element is told of once, when it has its final value") {
  const int before = threads();
  for (const DepthwiseSizes& s : some_shapes()) {
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
          depthwise_forward<float>(s, inputs.x.data(), inputs.w.data(), y, f);
        });
        check(right.x, [&](float* x, const Finished* f) {
          depthwise_input_gradient<float>(s, inputs.d.data(), inputs.w.data(), x, f);
        });
      }
    });
  }
  set_threads(before);
}

TEST_CASE("depthwise: the same bits on one to four threads") {
  const int before = threads();
  for (const DepthwiseSizes& s : some_shapes()) {
    const Inputs<float> inputs(s, Normal());
    everywhere([&] {
      CAPTURE(text(s));
      set_threads(1);
      const Trio<float> one = kernels(s, inputs);
      for (const int n : {2, 3, 4}) {
        set_threads(n);
        CHECK(kernels(s, inputs) == one);
      }
    });
  }
  set_threads(before);
}

TEST_CASE("depthwise: the same bits with AVX2 and AVX-512, and nearly those without fused sums") {
  const Isa before = isa();
  for (const DepthwiseSizes& s : some_shapes()) {
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

TEST_CASE("depthwise: the workspace of a kernel's gradient is bounded") {
  for (const Size batch : {1, 8, 128})
    for (const Size channels : {1, 3, 65, 1024, 100000})
      for (const Size kernels_used : {Size{1}, batch}) {
        const DepthwiseSizes s = sizes(batch, 16, 16, channels, {3, 3}, kernels_used);
        CHECK(depthwise_gradient_workspace(s, sizeof(float)) <= 8 << 20);
      }
}
