// The standard works: what speed is quoted on, written as a user would write them. One more joins by one
// entry of the table in works.cpp.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace opgrad {

// Does a work once: builds its graph afresh, runs it, lets go of it. Returns what was read as numbers: the
// loss of a training step, the mean loss of an epoch, the probabilities of an inference, the gradient of a
// chain. What is built once (weights, the random inputs, the optimizer) lives in it.
using Step = std::function<std::vector<float>()>;

struct Work {
  const char* name;
  const char* about;  // one line
  std::int64_t size;  // examples in a batch, or the length of a chain
  int repetitions;    // of a step, to quote a time: at least so many
  double (*flops)(
      std::int64_t size);            // of a step: see below; 0 where it is not arithmetic that takes the time
  Step (*start)(std::int64_t size);  // for any size from 1, so that tests need not take long
};

// All of them, in the order in which they are shown.
//
// A training step is: the graph built afresh, forward, mean cross-entropy, backward, Adam (rate 1e-3, beta
// 0.9 and 0.999, epsilon 1e-8) on every parameter, the loss read. float32; inputs are uniform in [0, 1) and
// the same in every run. flops: 2 per multiply-add of convolutions and matrix products, forward, for the
// kernel's gradient, and for the input's except in the first layer. An epoch is such a step for each batch of
// all images, shuffled anew each time and turned into floats from bytes, and reads each loss.
std::span<const Work> works();

// The work of that name, null if there is none.
const Work* find_work(std::string_view name);

// Names of works like a name that is none, the nearest first: at most three, each with at least half of the
// pairs of neighbouring letters of the shorter name. Source: Dice, Ecology 26, 1945, for pairs of letters.
std::vector<std::string> near_works(std::string_view name);

}  // namespace opgrad
