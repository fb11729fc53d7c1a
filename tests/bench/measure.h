// What the micro-benchmarks share: inputs, and the loop that computes a graph again and again.
#pragma once
#include <functional>

#include "../../graph/ir.h"

namespace benchmark {
class State;
}

namespace opgrad::bench {

// f32, uniform in [-1, 1), computed.
Tensor random(const Shape& shape);

// What one repetition does, for the rates that are shown: 2 per multiply-add, and bytes of operands and
// result, each once. 0 where it is not what counts.
struct Effort {
  double flops = 0, bytes = 0;
};
// Bytes of these tensors together.
double bytes_of(std::initializer_list<Tensor> tensors);

// Times `once`, by the wall clock and with the threads of OPGRAD_NUM_THREADS.
void repeat(benchmark::State& state, const Effort& effort, const std::function<void()>& once);
// Times building and computing a graph whose plan is cached.
void repeat_eval(benchmark::State& state, const Effort& effort, const std::function<Tensor()>& build);

}  // namespace opgrad::bench
