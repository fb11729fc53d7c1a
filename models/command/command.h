// What the files of this folder share: one subcommand each, and the options that several of them have.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "../../core/error.h"

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace opgrad {

// A subcommand: its part of the command line, and what it does once that was read. `run` gives the exit code.
// It may throw: main prints what() and ends with 1, after a UsageError with the usage and `wrong_usage`,
// which is also the exit code for options that cannot be read and plug-ins that are refused.
struct Command {
  CLI::App* app;
  std::function<int()> run;
  int wrong_usage = 2;
};
class UsageError : public UserError {
 public:
  using UserError::UserError;
};

Command add_train(CLI::App& app);
Command add_evaluate(CLI::App& app);
Command add_info(CLI::App& app);
Command add_ops(CLI::App& app);

// --threads and --data, as every subcommand words them.
void add_threads(CLI::App& to, int& threads);
void add_data(CLI::App& to, std::string& folder);
// Takes the numbers that are `good`; others are refused as "... is not `what`".
CLI::Validator number(const std::string& what, bool (*good)(double));

// Sets the number of threads (0: as it is) and passes on what OpenBLAS's choice of kernels has to warn of.
void set_up(int threads);

}  // namespace opgrad
