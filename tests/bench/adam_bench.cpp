// Adam alone: gradients are given, only the update is computed.
#include <benchmark/benchmark.h>

#include "../../optim/optimizer.h"
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

// The dense layer of the lecture's network, all of it, and what fits into the first cache.
BENCHMARK(adam_update)->UseRealTime()->ArgName("n")->Arg(1 << 10)->Arg(1'638'400)->Arg(1'668'490);

}  // namespace
