// Schedules as closures.
#include "schedule.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "../core/error.h"

namespace opgrad {

LearningRate cosine(double initial, std::int64_t steps, std::int64_t warmup) {
  if (warmup < 0 || warmup >= steps)
    throw UserError(
        fmt::format("cosine: {} steps of warm-up do not fit into {} steps; they must be 0 or more and fewer",
                    warmup, steps));
  return [=](std::int64_t step) {
    if (step < warmup) return initial * static_cast<double>(step + 1) / static_cast<double>(warmup);
    if (step >= steps) return 0.0;
    const double done = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
    return initial * 0.5 * (1 + std::cos(std::numbers::pi * done));
  };
}

LearningRate piecewise(std::initializer_list<std::pair<std::int64_t, double>> rates) {
  std::vector<std::pair<std::int64_t, double>> pairs(rates);
  if (pairs.empty() || pairs[0].first != 0)
    throw UserError("piecewise: the first pair must be for step 0, for example {{0, 1e-3}, {1000, 1e-4}}");
  for (std::size_t i = 1; i < pairs.size(); ++i)
    if (pairs[i].first <= pairs[i - 1].first)
      throw UserError(fmt::format("piecewise: step {} follows step {}; the steps must rise", pairs[i].first,
                                  pairs[i - 1].first));
  return [pairs = std::move(pairs)](std::int64_t step) {
    double rate = pairs[0].second;
    for (const auto& [from, value] : pairs)
      if (step >= from) rate = value;
    return rate;
  };
}

}  // namespace opgrad
