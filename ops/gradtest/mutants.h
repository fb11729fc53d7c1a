// The gradient tester tested: every wrong backward rule that can be derived mechanically must be rejected.
#pragma once
#include <string>
#include <vector>

#include "gradtest.h"

namespace opgrad {

struct MutantResult {
  std::string operation, mutant;
  bool killed = false;      // the tester's verdict is "wrong" in some row
  std::string killed_by;    // the first check that failed there: "gradient, order 1"
  bool equivalent = false;  // an oracle that shares no code with the tester finds it right on all examples
  // What checkers with the default parameters of PyTorch and JAX reject on the same examples, first order and
  // second; not counted where they reject the right rule, too.
  bool pytorch = false, pytorch_fast = false, jax_f32 = false, jax_f64 = false;
  std::string note;  // of a survivor: where the oracle disagrees
  bool survived() const { return !killed && !equivalent; }
};

struct GradtestMutants {
  std::vector<MutantResult> results;
  std::vector<std::string> without;  // operations whose rule no example reaches in f64
  // Operations whose own rule the tester rejects: that it rejects their mutants says nothing.
  std::vector<std::string> rejected;
  std::vector<std::string> false_alarms;  // "square: JAX f32": rejects the right rule on some example
  double seconds = 0;

  // There are results, every mutant that is not equivalent was killed, and no operation's own rule was.
  bool all_killed() const;
  // A line per operation and one of totals; equivalent mutants and survivors by name.
  std::string table() const;
};

// Wrong rules for every registered operation whose name matches the regular expression (ECMAScript, the whole
// name) and that has a gradient and examples: its gradients and the graph that its rule builds, with one
// thing changed (ops/gradtest/mutate.h). Of mutants that give the same bits on all examples one is kept;
// those that give the right bits in both orders, and those that the tester does not reject, go to the oracle.
// The tester runs in f64, orders 1 and 2, at the seed of `options`. UserError when no operation matches.
GradtestMutants gradtest_mutants(const std::string& expression, const GradtestOptions& options = {});
// The same for one operation, registered or not.
GradtestMutants gradtest_mutants(const Op& op, const GradtestOptions& options = {});

}  // namespace opgrad
