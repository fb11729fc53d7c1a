// Max pooling: forward, and its gradient, which has to find the greatest again.
#include <benchmark/benchmark.h>

#include "../../graph/grad.h"
#include "../../ops/ops.h"
#include "measure.h"

using namespace opgrad;

namespace {

// Arguments: batch, rows and columns, channels, window, stride.
Tensor pool(const benchmark::State& state, const Tensor& x) {
  return max_pool2d(x, {state.range(3), state.range(3)}, {state.range(4), state.range(4)});
}
Tensor images(const benchmark::State& state) {
  return bench::random({state.range(0), state.range(1), state.range(1), state.range(2)});
}

void max_pool2d_forward(benchmark::State& state) {
  const Tensor x = images(state);
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, pool(state, x)})}, [&] { return pool(state, x); });
}

void max_pool2d_gradient(benchmark::State& state) {
  const Tensor x = variable(images(state)), dy = bench::random(pool(state, x).shape());
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, dy, x})},
                     [&] { return vjp(pool(state, x), dy, std::span(&x, 1))[0]; });
}

void sizes(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgNames({"batch", "size", "channels", "window", "stride"});
  b->Args({128, 26, 32, 2, 2})->Args({128, 11, 64, 2, 2})->Args({8, 64, 16, 2, 2})->Args({32, 28, 32, 3, 2});
  // A block of images as a row group sees it, a tail of channels, windows of three.
  b->Args({8, 26, 32, 2, 2})->Args({128, 26, 21, 2, 2})->Args({128, 26, 32, 3, 3});
}

BENCHMARK(max_pool2d_forward)->Apply(sizes);
BENCHMARK(max_pool2d_gradient)->Apply(sizes);

}  // namespace
