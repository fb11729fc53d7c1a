// The training loop and the measuring of accuracy.
#pragma once
#include <cstdint>
#include <functional>

#include "../optim/optimizer.h"
#include "data.h"
#include "module.h"

namespace opgrad {

struct TrainOptions {
  std::int64_t epochs = 3;
  std::int64_t batch_size = 128;
  std::uint64_t seed = 1;  // of the order of the examples
};

// How far a run is. loss and accuracy are means over the epoch so far, each batch taken with the weights
// before its step.
struct Progress {
  std::int64_t epoch = 0, epochs = 0;  // epoch counts from 1
  std::int64_t step = 0, steps = 0;    // within the epoch
  double loss = 0, accuracy = 0;
  double images_per_second = 0, seconds = 0, seconds_left = 0;  // of the whole run
};

struct Trained {
  std::int64_t steps = 0;
  double seconds = 0;
  bool stopped = false;  // by the report
};

// Trains a classifier that ends in softmax with cross-entropy: one step for each batch of each epoch, the
// examples shuffled anew. `report` is called after each step and stops the run by returning false; the
// weights are then those of the last step. The module is left in the mode it was in. UserError, naming the
// step and the first guilty operation, when the loss becomes NaN or infinite.
Trained train(Module& net, Optimizer& optimizer, const Dataset& data, const TrainOptions& options = {},
              const std::function<bool(const Progress&)>& report = {});

// The share of examples whose greatest output is at their label, in inference mode. UserError for an empty
// data set.
double accuracy(const Module& net, const Dataset& data, std::int64_t batch_size = 500);

}  // namespace opgrad
