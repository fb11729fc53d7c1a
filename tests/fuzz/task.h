// What is asked of a random graph, and its answer under a set of passes.
#pragma once
#include <optional>
#include <vector>

#include "../../graph/plan.h"
#include "graph.h"

namespace opgrad::fuzz {

// A graph built and captured: one capture serves any number of plans.
class Task {
 public:
  explicit Task(const Graph& g);
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  // A plan of these passes. Some numbers are not fixed, and then what passes see of them is wrong.
  Plan plan(PassSet passes) const;
  // Its results, one after the other; what it donates is put back. Nothing where a kernel refused.
  struct Answer {
    bool refused = false;
    std::vector<std::vector<std::byte>> values;
    std::vector<DType> dtypes;
    // The same bits, any NaN equal to any NaN.
    bool operator==(const Answer& o) const;
  };
  Answer run(const Plan& plan) const;
  const Capture& capture() const { return capture_; }

 private:
  void ask(const Graph& g, Built b);
  void want(const Tensor& t) {
    keep_.push_back(t);
    wishes_.push_back({t.node()});
  }

  std::vector<Tensor> keep_;  // what wishes refer to, and what is held
  std::vector<Parameter> parameters_, states_;
  std::vector<Wish> wishes_;
  Capture capture_;
  std::vector<bool> fixed_;
};

// The float outputs of a built graph as one number to differentiate; empty where there are none.
Tensor loss_of(const Graph& g, const Built& b);

// The same by the public way: the graph is built twice, a step of the optimizer or a reading of the outputs
// each time, with the passes now in force. All values seen and, of a step, the parameters after it. An error
// of the user's kind is an answer too.
Task::Answer run_publicly(const Graph& g);

}  // namespace opgrad::fuzz
