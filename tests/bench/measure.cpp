// The loop of the micro-benchmarks.
#include "measure.h"

#include <benchmark/benchmark.h>

#include "../../graph/run.h"
#include "../../ops/ops.h"

namespace opgrad::bench {

Tensor random(const Shape& shape) {
  const Tensor x = random_uniform(random_key({.stream = fold_in(1, to_string(shape))}), shape, -1, 1);
  eval(x);
  return x;
}

double bytes_of(std::initializer_list<Tensor> tensors) {
  double bytes = 0;
  for (const Tensor& x : tensors)
    bytes += static_cast<double>(x.numel()) * static_cast<double>(size_of(x.dtype()));
  return bytes;
}

void repeat(benchmark::State& state, const Effort& effort, const std::function<void()>& once) {
  once();
  for ([[maybe_unused]] auto _ : state) once();
  using benchmark::Counter;
  if (effort.flops > 0) state.counters["flop/s"] = Counter(effort.flops, Counter::kIsIterationInvariantRate);
  if (effort.bytes > 0) state.counters["B/s"] = Counter(effort.bytes, Counter::kIsIterationInvariantRate);
}

void repeat_eval(benchmark::State& state, const Effort& effort, const std::function<Tensor()>& build) {
  repeat(state, effort, [&] { eval(build()); });
}

}  // namespace opgrad::bench
