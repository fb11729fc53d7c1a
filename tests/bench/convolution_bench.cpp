// Convolutions: forward and both gradients, for the layers of the lecture's network, a small ResNet and a
// U-Net; depthwise for layers of the MobileNets and ConvNeXt.
#include <benchmark/benchmark.h>

#include "../../ops/ops.h"
#include "measure.h"

using namespace opgrad;

namespace {

struct Conv2D {
  static constexpr auto forward = conv2d;
  static constexpr auto kernel_gradient = conv2d_kernel_gradient;
  static constexpr auto input_gradient = conv2d_input_gradient;
  static Padding padding(const benchmark::State& state) {
    return state.range(6) ? Padding::same : Padding::valid;
  }
  static bench::Effort effort(const Tensor&, const Tensor& w, const Tensor& y) {
    return {.flops = 2 * static_cast<double>(y.numel() * w.numel() / w.dim(3))};
  }
};

struct Depthwise {
  static constexpr auto forward = depthwise_conv2d;
  static constexpr auto kernel_gradient = depthwise_conv2d_kernel_gradient;
  static constexpr auto input_gradient = depthwise_conv2d_input_gradient;
  static Padding padding(const benchmark::State&) { return Padding::same; }
  static bench::Effort effort(const Tensor& x, const Tensor& w, const Tensor& y) {
    return {.flops = 2 * static_cast<double>(y.numel() * w.dim(0) * w.dim(1)),
            .bytes = bench::bytes_of({x, w, y})};
  }
};

template <class C>
struct Layer {
  Tensor x, w, y;
  Window window;
  bench::Effort effort;

  // Arguments: batch, rows and columns, input channels, the kernel's last axis, its rows and columns, stride.
  explicit Layer(const benchmark::State& state)
      : x(bench::random({state.range(0), state.range(1), state.range(1), state.range(2)})),
        w(bench::random({state.range(4), state.range(4), state.range(2), state.range(3)})),
        window{.strides = {state.range(5), state.range(5)}, .padding = C::padding(state)} {
    y = bench::random(C::forward(x, w, window).shape());
    effort = C::effort(x, w, y);
  }
};

template <class C>
void forward(benchmark::State& state) {
  const Layer<C> l(state);
  bench::repeat_eval(state, l.effort, [&] { return C::forward(l.x, l.w, l.window); });
}

template <class C>
void kernel_gradient(benchmark::State& state) {
  const Layer<C> l(state);
  bench::repeat_eval(state, l.effort, [&] { return C::kernel_gradient(l.x, l.y, l.w.shape(), l.window); });
}

template <class C>
void input_gradient(benchmark::State& state) {
  const Layer<C> l(state);
  bench::repeat_eval(state, l.effort, [&] { return C::input_gradient(l.y, l.w, l.x.shape(), l.window); });
}

void layers(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgNames({"batch", "size", "in", "out", "kernel", "stride", "same"});
  for (const std::int64_t batch : {128, 32, 1})  // the lecture's
    b->Args({batch, 28, 1, 32, 3, 1, 0})->Args({batch, 13, 32, 64, 3, 1, 0});
  b->Args({64, 32, 3, 16, 3, 1, 1})->Args({64, 32, 16, 16, 3, 1, 1})->Args({64, 16, 32, 32, 3, 1, 1});
  b->Args({64, 8, 64, 64, 3, 1, 1})->Args({64, 32, 16, 32, 3, 2, 1})->Args({64, 16, 32, 64, 1, 2, 0});
  for (const std::int64_t channels : {16, 32, 64}) b->Args({8, 64, channels, channels, 3, 1, 1});
}

void depthwise_layers(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgNames({"batch", "size", "channels", "multiplier", "kernel", "stride"});
  for (const std::int64_t batch : {1, 8}) {
    b->Args({batch, 112, 32, 1, 3, 1})->Args({batch, 112, 64, 1, 3, 2})->Args({batch, 56, 128, 1, 3, 1});
    b->Args({batch, 28, 256, 1, 3, 1})->Args({batch, 14, 512, 1, 3, 1})->Args({batch, 7, 1024, 1, 3, 1});
    b->Args({batch, 14, 256, 1, 5, 1})->Args({batch, 14, 384, 1, 7, 1});
    b->Args({batch, 56, 64, 2, 3, 1})->Args({batch, 112, 3, 1, 3, 1})->Args({batch, 112, 3, 8, 3, 2});
  }
}

BENCHMARK_TEMPLATE(forward, Conv2D)->Name("conv2d_forward")->Apply(layers);
BENCHMARK_TEMPLATE(kernel_gradient, Conv2D)->Name("conv2d_kernel_gradient")->Apply(layers);
BENCHMARK_TEMPLATE(input_gradient, Conv2D)->Name("conv2d_input_gradient")->Apply(layers);
BENCHMARK_TEMPLATE(forward, Depthwise)->Name("depthwise_conv2d_forward")->Apply(depthwise_layers);
BENCHMARK_TEMPLATE(kernel_gradient, Depthwise)
    ->Name("depthwise_conv2d_kernel_gradient")
    ->Apply(depthwise_layers);
BENCHMARK_TEMPLATE(input_gradient, Depthwise)
    ->Name("depthwise_conv2d_input_gradient")
    ->Apply(depthwise_layers);

}  // namespace
