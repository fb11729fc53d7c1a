// Matrix products: squares, and the shapes of the lecture's network and of a small transformer.
#include <benchmark/benchmark.h>

#include <vector>

#include "../../core/gemm.h"
#include "measure.h"

using namespace opgrad;

namespace {

// C[m, n] = A B over k; `transposed` says which of A (1) and B (2) lie transposed, as in backward products.
void gemm_f32(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2), transposed = state.range(3);
  const bool ta = transposed == 1, tb = transposed == 2;
  const Tensor a = bench::random({m, k}), b = bench::random({k, n});
  const auto x = a.values<float>(), y = b.values<float>();
  std::vector<float> c(static_cast<std::size_t>(m * n));
  bench::repeat(state, {.flops = 2.0 * static_cast<double>(m * n * k)}, [&] {
    gemm<float>(m, n, k, {x.data(), ta ? m : k, ta}, {y.data(), tb ? k : n, tb}, c.data(), n, false);
    benchmark::DoNotOptimize(c.data());
  });
}

BENCHMARK(gemm_f32)
    ->UseRealTime()
    ->ArgNames({"m", "n", "k", "transposed"})
    ->Args({64, 64, 64, 0})
    ->Args({256, 256, 256, 0})
    ->Args({1024, 1024, 1024, 0})
    ->Args({2048, 2048, 2048, 0})
    ->Args({128, 1024, 1600, 0})  // the first dense layer: forward, input's and kernel's gradient
    ->Args({128, 1600, 1024, 2})
    ->Args({1600, 1024, 128, 1})
    ->Args({512, 1024, 1600, 0})  // the same in other batches
    ->Args({512, 1600, 1024, 2})
    ->Args({1600, 1024, 512, 1})
    ->Args({32, 1024, 1600, 0})
    ->Args({32, 1600, 1024, 2})
    ->Args({1600, 1024, 32, 1})
    ->Args({8, 1024, 1600, 0})
    ->Args({8, 1600, 1024, 2})
    ->Args({1600, 1024, 8, 1})
    ->Args({1, 1024, 1600, 0})
    ->Args({1, 1600, 1024, 2})
    ->Args({1600, 1024, 1, 1})
    ->Args({128, 10, 1024, 0})  // the last one
    ->Args({128, 1024, 10, 2})
    ->Args({1024, 10, 128, 1})
    ->Args({128, 512, 784, 0})  // a perceptron
    ->Args({128, 512, 512, 0})
    ->Args({128, 512, 512, 2})
    ->Args({512, 512, 128, 1})
    ->Args({86528, 32, 9, 0})  // convolutions
    ->Args({15488, 64, 288, 0})
    ->Args({25088, 64, 256, 0})
    ->Args({2048, 512, 128, 0})  // a transformer
    ->Args({2048, 65, 128, 0})
    ->Args({128, 128, 32, 2});

}  // namespace
