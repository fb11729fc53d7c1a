// Reductions along the last axis (within rows), the first (across rows) and all; softmax along the last.
#include <benchmark/benchmark.h>

#include "../../ops/ops.h"
#include "measure.h"

using namespace opgrad;

namespace {

using Function = Tensor (*)(const Operand&, const Axes&, bool);

// Arguments: rows, columns.
Tensor matrix(const benchmark::State& state) { return bench::random({state.range(0), state.range(1)}); }

void reduction(benchmark::State& state, Function f, const Axes& axes) {
  const Tensor x = matrix(state);
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x})}, [&] { return f(x, axes, false); });
}

void argmax_rows(benchmark::State& state) {
  const Tensor x = matrix(state);
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x})}, [&] { return argmax(x); });
}

void softmax_rows(benchmark::State& state) {
  const Tensor x = matrix(state);
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, x})}, [&] { return softmax(x); });
}

void matrices(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgNames({"rows", "columns"});
  // The last two: sums for the biases of the lecture's convolutions.
  b->Args({128, 10})
      ->Args({2048, 128})
      ->Args({1024, 1024})
      ->Args({128 * 26 * 26, 32})
      ->Args({128 * 11 * 11, 64});
}

BENCHMARK_CAPTURE(reduction, sum_rows, sum, Axes{1})->Apply(matrices);
BENCHMARK_CAPTURE(reduction, sum_columns, sum, Axes{0})->Apply(matrices);
BENCHMARK_CAPTURE(reduction, sum_all, sum, Axes{})->Apply(matrices);
BENCHMARK_CAPTURE(reduction, mean_columns, mean, Axes{0})->Apply(matrices);
BENCHMARK_CAPTURE(reduction, max_rows, max, Axes{1})->Apply(matrices);
BENCHMARK(argmax_rows)->Apply(matrices);
BENCHMARK(softmax_rows)->Apply(matrices);

}  // namespace
