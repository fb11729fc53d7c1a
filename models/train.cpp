// One loop for programs and for the command.
#include "train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "../ops/ops.h"

namespace opgrad {
namespace {

// How many rows have their greatest entry (the first at ties) at the label.
std::int64_t count_right(const Tensor& outputs, const Tensor& labels) {
  const std::int64_t classes = outputs.dim(1);
  const std::vector<std::int64_t> right = dispatch(labels.dtype(), [&]<class T>() {
    const auto l = labels.values<T>();
    return std::vector<std::int64_t>(l.begin(), l.end());
  });
  return dispatch_float(outputs.dtype(), [&]<class T>() {
    const auto p = outputs.values<T>();
    std::int64_t count = 0;
    for (std::size_t i = 0; i < right.size(); ++i) {
      const T* row = p.data() + static_cast<std::int64_t>(i) * classes;
      count += std::max_element(row, row + classes) - row == right[i];
    }
    return count;
  });
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void check_outputs(const Tensor& y, const Batch& batch) {
  if (y.rank() != 2 || y.dim(0) != batch.labels.dim(0) || !is_float(y.dtype()))
    throw UserError(
        fmt::format("a classifier must give floats [batch, classes], but for {} examples this one gives {}",
                    batch.labels.dim(0), to_string(Type{y.dtype(), y.shape()})));
}

}  // namespace

Trained train(Module& net, Optimizer& optimizer, const Dataset& data, const TrainOptions& options,
              const std::function<bool(const Progress&)>& report) {
  if (options.epochs < 0)
    throw UserError(fmt::format("train: {} epochs were asked; ask for 0 or more", options.epochs));
  const auto begin = std::chrono::steady_clock::now();
  const Mode mode(net, true);
  Trained done;
  for (std::int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    const Batches epoch_batches =
        batches(data, options.batch_size, shuffle(options.seed, static_cast<std::uint64_t>(epoch)));
    Progress p{.epoch = epoch, .epochs = options.epochs, .steps = epoch_batches.count()};
    double loss_sum = 0;
    std::int64_t seen = 0, right = 0;
    for (const Batch& batch : epoch_batches) {
      const Tensor y = net(batch.images);
      check_outputs(y, batch);
      // Held across the step, y is computed in its plan, with the weights that gave this loss.
      const double loss = optimizer.step(cross_entropy(y, batch.labels)).item();
      const std::int64_t size = batch.labels.dim(0);
      loss_sum += loss * static_cast<double>(size);
      right += count_right(y, batch.labels);
      seen += size;
      ++done.steps;
      if (!report) continue;
      ++p.step;
      p.loss = loss_sum / static_cast<double>(seen);
      p.accuracy = static_cast<double>(right) / static_cast<double>(seen);
      p.seconds = seconds_since(begin);
      const double images = static_cast<double>((epoch - 1) * data.size() + seen);
      p.images_per_second = images / p.seconds;
      p.seconds_left = (static_cast<double>(options.epochs * data.size()) - images) / p.images_per_second;
      if (!report(p)) {
        done.stopped = true;
        done.seconds = p.seconds;
        return done;
      }
    }
  }
  done.seconds = seconds_since(begin);
  return done;
}

double accuracy(const Module& net, const Dataset& data, std::int64_t batch_size) {
  if (data.size() == 0) throw UserError("accuracy: the data set is empty");
  const Mode mode(net, false);
  std::int64_t right = 0;
  for (const Batch& batch : batches(data, batch_size)) {
    const Tensor y = net(batch.images);
    check_outputs(y, batch);
    right += count_right(y, batch.labels);
  }
  return static_cast<double>(right) / static_cast<double>(data.size());
}

}  // namespace opgrad
