// What the kernels of every convolution promise, on every instruction set: about sums, pieces, images and
// bits.
#pragma once
#include <doctest/doctest.h>

#include <concepts>
#include <limits>

#include "../core/parallel.h"
#include "../ops/ops.h"
#include "convolution_loops.h"

namespace opgrad::test {

// The kernels, called alike.
template <class T>
void forward(const ConvSizes& s, const T* x, const T* w, T* y, const T* prepared, const Finished* f) {
  convolve_forward(s, x, w, y, prepared, f);
}
template <class T>
void forward(const DepthwiseSizes& s, const T* x, const T* w, T* y, const T*, const Finished* f) {
  depthwise_forward(s, x, w, y, f);
}
template <class T>
void kernel_gradient(const ConvSizes& s, const T* x, const T* d, T* w) {
  std::vector<T> workspace(kernel_gradient_workspace(s, dtype_of<T>) / sizeof(T),
                           std::numeric_limits<T>::quiet_NaN());
  convolve_kernel_gradient(s, x, d, w, workspace.data());
}
template <class T>
void kernel_gradient(const DepthwiseSizes& s, const T* x, const T* d, T* w) {
  std::vector<T> workspace(depthwise_gradient_workspace(s, sizeof(T)) / sizeof(T),
                           std::numeric_limits<T>::quiet_NaN());
  depthwise_kernel_gradient(s, x, d, w, workspace.data());
}
template <class T>
void input_gradient(const ConvSizes& s, const T* d, const T* w, T* x, const T* prepared, const Finished* f) {
  convolve_input_gradient(s, d, w, x, prepared, f);
}
template <class T>
void input_gradient(const DepthwiseSizes& s, const T* d, const T* w, T* x, const T*, const Finished* f) {
  depthwise_input_gradient(s, d, w, x, f);
}

template <class T, class Sizes>
Trio<T> kernels(const Sizes& s, const Inputs<T>& in) {
  Trio<T> r(in, std::numeric_limits<T>::quiet_NaN());  // what is not written shows
  const T* const each_time = nullptr;
  forward(s, in.x.data(), in.w.data(), r.y.data(), each_time, nullptr);
  kernel_gradient(s, in.x.data(), in.d.data(), r.w.data());
  input_gradient(s, in.d.data(), in.w.data(), r.x.data(), each_time, nullptr);
  return r;
}

// What kernels are made into once for all parts of a batch, for the instructions in use.
inline std::vector<float> prepared(ConvDirection direction, const ConvSizes& s, const std::vector<float>& w) {
  std::vector<float> to(prepared_bytes(direction, s, DType::f32) / sizeof(float),
                        std::numeric_limits<float>::quiet_NaN());
  if (!to.empty()) prepare_convolution(direction, s, w.data(), to.data());
  return to;
}
inline std::vector<float> prepared(ConvDirection, const DepthwiseSizes&, const std::vector<float>&) {
  return {};
}

// So many images of the batch, which share a kernel.
inline ConvSizes some_images(ConvSizes s, Size count) {
  s.batch = count;
  return s;
}
inline DepthwiseSizes some_images(DepthwiseSizes s, Size count) {
  s.batch = s.images = count;
  return s;
}

// Calls f with each instruction set that this machine has, where it matters with Winograd's algorithm on and
// off.
template <class Sizes, class F>
void everywhere(F f) {
  const Isa before = isa();
  const bool winograd_before = winograd();
  for (int i = 0; i <= static_cast<int>(best_isa()); ++i)
    for (const bool on : {true, false}) {
      if (!on && !std::same_as<Sizes, ConvSizes>) continue;
      set_isa(static_cast<Isa>(i));
      set_winograd(on);
      f();
    }
  set_isa(before);
  set_winograd(winograd_before);
}

template <class T, class Sizes>
void check_against_loops(const Sizes& s) {
  const Inputs<T> inputs(s, SmallIntegers());
  const Trio<T> expected = loops<T>(s, inputs);
  everywhere<Sizes>([&] {
    CAPTURE(text(s));
    Trio<T> got = kernels(s, inputs);
    if (std::same_as<Sizes, ConvSizes> && winograd()) got = as_integers(std::move(got));
    CHECK(got.y == expected.y);
    CHECK(got.w == expected.w);
    CHECK(got.x == expected.x);
  });
}

// An image has the same bits whatever images stand beside it.
template <class Sizes>
void check_images_apart(const std::vector<Sizes>& shapes) {
  for (const Sizes& s : shapes) {
    const Inputs<float> inputs(s, Normal());
    everywhere<Sizes>([&] {
      CAPTURE(text(s));
      const Trio<float> whole = kernels(s, inputs);
      const std::vector<float> to = prepared(ConvDirection::forward, s, inputs.w);
      const std::vector<float> back = prepared(ConvDirection::input_gradient, s, inputs.w);
      for (const Size step : {1, 2, 3}) {
        Trio<float> cut(inputs, 0);
        cut.w = whole.w;
        for (Size b = 0; b < s.batch; b += step) {
          const Sizes some = some_images(s, std::min(step, s.batch - b));
          const Size x = b * x_size(s) / s.batch, y = b * y_size(s) / s.batch;
          forward(some, inputs.x.data() + x, inputs.w.data(), cut.y.data() + y, to.data(), nullptr);
          input_gradient(some, inputs.d.data() + y, inputs.w.data(), cut.x.data() + x, back.data(), nullptr);
        }
        CHECK(cut == whole);
      }
    });
  }
}

// Each element is told of once, when it has its final value.
template <class Sizes>
void check_pieces(const std::vector<Sizes>& shapes) {
  const int before = threads();
  const float* const each_time = nullptr;
  for (const Sizes& s : shapes) {
    const Inputs<float> inputs(s, Normal());
    everywhere<Sizes>([&] {
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
          forward(s, inputs.x.data(), inputs.w.data(), y, each_time, f);
        });
        check(right.x, [&](float* x, const Finished* f) {
          input_gradient(s, inputs.d.data(), inputs.w.data(), x, each_time, f);
        });
      }
    });
  }
  set_threads(before);
}

// The same bits for any number of threads.
template <class Sizes>
void check_threads(const std::vector<Sizes>& shapes) {
  const int before = threads();
  for (const Sizes& s : shapes) {
    const Inputs<float> inputs(s, Normal());
    everywhere<Sizes>([&] {
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

// The same bits with AVX2 and AVX-512, and nearly those without fused sums.
template <class Sizes>
void check_instructions(const std::vector<Sizes>& shapes) {
  const Isa before = isa();
  for (const Sizes& s : shapes) {
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

}  // namespace opgrad::test
