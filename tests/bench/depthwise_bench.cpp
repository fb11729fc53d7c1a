// Depthwise convolution: forward and both gradients, for layers of the MobileNets and ConvNeXt.
#include <benchmark/benchmark.h>

#include "../../ops/ops.h"
#include "measure.h"

using namespace opgrad;

namespace {

struct Layer {
  Tensor x, w, y;
  Window window;
  bench::Effort effort;

  // Arguments: batch, rows and columns, channels, multiplier, kernel, stride; padding same.
  explicit Layer(const benchmark::State& state)
      : x(bench::random({state.range(0), state.range(1), state.range(1), state.range(2)})),
        w(bench::random({state.range(4), state.range(4), state.range(2), state.range(3)})),
        window{.strides = {state.range(5), state.range(5)}, .padding = Padding::same} {
    y = bench::random(depthwise_conv2d(x, w, window).shape());
    effort = {.flops = 2 * static_cast<double>(y.numel() * w.dim(0) * w.dim(1)),
              .bytes = bench::bytes_of({x, w, y})};
  }
};

void depthwise_conv2d_forward(benchmark::State& state) {
  const Layer l(state);
  bench::repeat_eval(state, l.effort, [&] { return depthwise_conv2d(l.x, l.w, l.window); });
}

void depthwise_conv2d_kernel_gradient(benchmark::State& state) {
  const Layer l(state);
  bench::repeat_eval(state, l.effort, [&] {
    return opgrad::depthwise_conv2d_kernel_gradient(l.x, l.y, l.w.shape(), l.window);
  });
}

void depthwise_conv2d_input_gradient(benchmark::State& state) {
  const Layer l(state);
  bench::repeat_eval(state, l.effort, [&] {
    return opgrad::depthwise_conv2d_input_gradient(l.y, l.w, l.x.shape(), l.window);
  });
}

void layers(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgNames({"batch", "size", "channels", "multiplier", "kernel", "stride"});
  for (const std::int64_t batch : {1, 8}) {
    b->Args({batch, 112, 32, 1, 3, 1})->Args({batch, 112, 64, 1, 3, 2})->Args({batch, 56, 128, 1, 3, 1});
    b->Args({batch, 28, 256, 1, 3, 1})->Args({batch, 14, 512, 1, 3, 1})->Args({batch, 7, 1024, 1, 3, 1});
    b->Args({batch, 14, 256, 1, 5, 1})->Args({batch, 14, 384, 1, 7, 1});
    b->Args({batch, 56, 64, 2, 3, 1})->Args({batch, 112, 3, 1, 3, 1})->Args({batch, 112, 3, 8, 3, 2});
  }
}

BENCHMARK(depthwise_conv2d_forward)->Apply(layers);
BENCHMARK(depthwise_conv2d_kernel_gradient)->Apply(layers);
BENCHMARK(depthwise_conv2d_input_gradient)->Apply(layers);

}  // namespace
