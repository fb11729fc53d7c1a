// Convolution: forward and both gradients, for the layers of the lecture's network, a small ResNet and a
// U-Net.
#include <benchmark/benchmark.h>

#include "../../ops/ops.h"
#include "measure.h"

using namespace opgrad;

namespace {

struct Layer {
  Tensor x, w, y;
  Window window;
  bench::Effort effort;

  // Arguments: batch, rows and columns, input channels, output channels, kernel, stride, padding same.
  explicit Layer(const benchmark::State& state)
      : x(bench::random({state.range(0), state.range(1), state.range(1), state.range(2)})),
        w(bench::random({state.range(4), state.range(4), state.range(2), state.range(3)})),
        window{.strides = {state.range(5), state.range(5)},
               .padding = state.range(6) ? Padding::same : Padding::valid} {
    y = bench::random(conv2d(x, w, window).shape());
    effort = {.flops = 2 * static_cast<double>(y.numel() * w.numel() / w.dim(3))};
  }
};

void conv2d_forward(benchmark::State& state) {
  const Layer l(state);
  bench::repeat_eval(state, l.effort, [&] { return conv2d(l.x, l.w, l.window); });
}

void conv2d_kernel_gradient(benchmark::State& state) {
  const Layer l(state);
  bench::repeat_eval(state, l.effort,
                     [&] { return conv2d_kernel_gradient(l.x, l.y, l.w.shape(), l.window); });
}

void conv2d_input_gradient(benchmark::State& state) {
  const Layer l(state);
  bench::repeat_eval(state, l.effort, [&] { return conv2d_input_gradient(l.y, l.w, l.x.shape(), l.window); });
}

void layers(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgNames({"batch", "size", "in", "out", "kernel", "stride", "same"});
  for (const std::int64_t batch : {128, 32, 1})  // the lecture's
    b->Args({batch, 28, 1, 32, 3, 1, 0})->Args({batch, 13, 32, 64, 3, 1, 0});
  b->Args({64, 32, 3, 16, 3, 1, 1})->Args({64, 32, 16, 16, 3, 1, 1})->Args({64, 16, 32, 32, 3, 1, 1});
  b->Args({64, 8, 64, 64, 3, 1, 1})->Args({64, 32, 16, 32, 3, 2, 1})->Args({64, 16, 32, 64, 1, 2, 0});
  for (const std::int64_t channels : {16, 32, 64}) b->Args({8, 64, channels, channels, 3, 1, 1});
}

BENCHMARK(conv2d_forward)->Apply(layers);
BENCHMARK(conv2d_kernel_gradient)->Apply(layers);
BENCHMARK(conv2d_input_gradient)->Apply(layers);

}  // namespace
