// Pointwise operations: alone, fused, and with a bias that is broadcast. 1,024 elements show what a call
// costs, the larger ones what an element costs in cache and from memory.
#include <benchmark/benchmark.h>

#include "../../ops/ops.h"
#include "measure.h"

using namespace opgrad;

namespace {

using Function = Tensor (*)(const Operand&);

void pointwise(benchmark::State& state, Function f) {
  const Tensor x = bench::random({state.range(0)});
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, x})}, [&] { return f(x); });
}

void add_two(benchmark::State& state) {
  const Tensor x = bench::random({state.range(0)}), y = bench::random({state.range(0)});
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, y, x})}, [&] { return x + y; });
}

// relu(x + bias) over the last axis, as after a layer.
void bias_relu(benchmark::State& state) {
  const Tensor x = bench::random({state.range(0), state.range(1)}), bias = bench::random({state.range(1)});
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, x})}, [&] { return relu(x + bias); });
}

// Ten operations that read and write memory once where they run as one group.
void chain_of_ten(benchmark::State& state) {
  const Tensor x = bench::random({state.range(0)});
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, x})}, [&] {
    Tensor y = x;
    for (int i = 0; i < 5; ++i) y = relu(y * 1.01) + 0.5;
    return y;
  });
}

void lengths(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgName("n")->Arg(1 << 10)->Arg(1 << 16)->Arg(1 << 22);
}

BENCHMARK_CAPTURE(pointwise, relu, relu)->Apply(lengths);
BENCHMARK_CAPTURE(pointwise, square, square)->Apply(lengths);
BENCHMARK_CAPTURE(pointwise, exp, exp)->Apply(lengths);
BENCHMARK_CAPTURE(pointwise, tanh, tanh)->Apply(lengths);
BENCHMARK_CAPTURE(pointwise, sigmoid, sigmoid)->Apply(lengths);
BENCHMARK(add_two)->Apply(lengths);
BENCHMARK(chain_of_ten)->Apply(lengths);
BENCHMARK(bias_relu)
    ->UseRealTime()
    ->ArgNames({"rows", "columns"})
    ->Args({128 * 26 * 26, 32})
    ->Args({128, 1024});

}  // namespace
