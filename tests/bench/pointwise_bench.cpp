// Pointwise operations: alone, fused, and with a bias that is broadcast. 1,024 elements show what a call
// costs, the larger ones what an element costs in cache and from memory.
#include <benchmark/benchmark.h>

#include "../../ops/ops.h"
#include "by_hand.h"
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

// Operations that read and write memory once where they run as one group, and the same as one loop by hand,
// on one thread, which writes to the same memory again and again.
template <int operations>
Tensor chain(const Tensor& x) {
  if (operations == 2) return x * 1.01 + 0.5;
  if (operations == 5) return relu(x * 1.01 + 0.5) * 0.99 - 0.25;
  Tensor y = x;
  for (int i = 0; i < 4; ++i) y = relu(y * 1.01) - 0.25;
  return y;
}
template <int operations>
void chain_of(benchmark::State& state) {
  const Tensor x = bench::random({state.range(0)});
  bench::repeat_eval(state, {.bytes = bench::bytes_of({x, x})}, [&] { return chain<operations>(x); });
}
template <int operations>
void chain_by_hand(benchmark::State& state) {
  const std::vector<float> x = bench::random({state.range(0)}).to_vector<float>();
  std::vector<float> y(x.size());
  const auto f = operations == 2   ? bench::chain_of_2_by_hand
                 : operations == 5 ? bench::chain_of_5_by_hand
                                   : bench::chain_of_12_by_hand;
  for (auto _ : state) {
    f(x.data(), y.data(), state.range(0));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 8 * state.range(0));
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
BENCHMARK(chain_of<2>)->Apply(lengths);
BENCHMARK(chain_by_hand<2>)->Apply(lengths);
BENCHMARK(chain_of<5>)->Apply(lengths);
BENCHMARK(chain_by_hand<5>)->Apply(lengths);
BENCHMARK(chain_of<12>)->Apply(lengths);
BENCHMARK(chain_by_hand<12>)->Apply(lengths);
BENCHMARK(bias_relu)
    ->UseRealTime()
    ->ArgNames({"rows", "columns"})
    ->Args({128 * 26 * 26, 32})
    ->Args({128, 1024});

}  // namespace
