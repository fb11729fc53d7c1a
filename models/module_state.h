// What a module is a handle to: its place in the tree, its weights, its modes; and the walk over all below
// it.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "module.h"

namespace opgrad {

inline constexpr ShapeId no_shape = std::numeric_limits<ShapeId>::max();

struct Weight {
  std::string name;
  Parameter parameter;
  bool statistic;
  Initializer initializer;
  std::int64_t fan_in, fan_out;
};

// Shared by all handles of a module. The lock covers what inference from several threads may touch: weights,
// calls.
struct ModuleState {
  std::string type, name;
  std::weak_ptr<ModuleState> parent;
  std::vector<std::pair<std::string, std::shared_ptr<ModuleState>>> parts;
  std::mutex lock;
  std::vector<Weight> weights;
  std::optional<std::uint64_t> seed;
  bool training = true;
  bool frozen = false;
  std::atomic<ShapeId> output = no_shape;
  std::uint64_t call_step = 0, calls = 0;
};

using State = std::shared_ptr<ModuleState>;

// Calls f(path relative to `root`, state) for root and all below, in order, each state once.
void walk(const State& root, const std::function<void(const std::string&, const State&)>& f);

// "path/name", or the name alone where the path is empty.
std::string join(const std::string& path, const std::string& name);

}  // namespace opgrad
