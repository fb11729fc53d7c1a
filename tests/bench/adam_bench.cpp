// Adam alone: gradients are given, only the update is computed.
#include <benchmark/benchmark.h>

#include "../../optim/optimizer.h"
#include "by_hand.h"
#include "measure.h"

using namespace opgrad;

namespace {

void adam_update(benchmark::State& state) {
  const Parameter p("p", bench::random({state.range(0)}));
  const Tensor g = bench::random({state.range(0)}), loss = full({}, 1);
  Adam adam;
  // Reads value, gradient and both moments, writes all but the gradient.
  const bench::Effort effort{.bytes = 7 * bench::bytes_of({g})};
  bench::repeat(state, effort, [&] { adam.apply({.loss = loss, .parameters = {p}, .gradients = {g}}); });
}

// The same as one loop by hand over arrays, on one thread.
void adam_by_hand(benchmark::State& state) {
  const std::vector<float> g = bench::random({state.range(0)}).to_vector<float>();
  std::vector<float> value = g, m(g.size()), v(g.size());
  for (auto _ : state) {
    bench::adam_by_hand(value.data(), m.data(), v.data(), g.data(), 1e-3F, state.range(0));
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 28 * state.range(0));
}

// The dense layer of the lecture's network, all of it, and what fits into the first cache.
void lengths(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->ArgName("n")->Arg(1 << 10)->Arg(1'638'400)->Arg(1'668'496);
}
BENCHMARK(adam_update)->Apply(lengths);
BENCHMARK(adam_by_hand)->Apply(lengths);

}  // namespace
