// The options that several subcommands have.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "../../core/gemm.h"
#include "../../core/parallel.h"
#include "command.h"

namespace opgrad {

void add_threads(CLI::App& to, int& threads) {
  to.add_option("--threads", threads, "Threads to compute with (default: all processors); changes no result")
      ->check(number("a whole number from 1 to 1024", [](double x) { return x >= 1 && x <= 1024; }));
}

void add_data(CLI::App& to, std::string& folder) {
  to.add_option("--data", folder,
                "Folder with the four files of MNIST (default: those that come with opgrad)");
}

// CLI11 would take NaN for a number in any range, and -1 for a large unsigned one.
CLI::Validator number(const std::string& what, bool (*good)(double)) {
  return CLI::Validator(
      [what, good](std::string& text) {
        double x = 0;
        return CLI::detail::lexical_cast(text, x) && good(x) ? "" : fmt::format("{} is not {}", text, what);
      },
      "");
}

void set_up(int threads) {
  if (threads > 0) set_threads(threads);
  if (const std::string warning = blas_kernels().warning; !warning.empty())
    fmt::print(stderr, "warning: {}\n", warning);
}

}  // namespace opgrad
