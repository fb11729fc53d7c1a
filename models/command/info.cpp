// opgrad info: the machine as opgrad sees it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>

#include "../../core/gemm.h"
#include "../../core/isa.h"
#include "../../core/parallel.h"
#include "../../graph/version.h"
#include "command.h"

namespace opgrad {
namespace {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

int run(int wanted_threads) {
  if (wanted_threads > 0) set_threads(wanted_threads);
  const BlasKernels blas = blas_kernels();
  fmt::print("version           opgrad {}\n", library_version);
  fmt::print("processor         {}\n", processor_name());
  fmt::print("instruction set   {}\n", name_of(isa()));
  fmt::print("OpenBLAS kernels  {}\n", blas.in_use);
  fmt::print("threads           {}\n", threads());
  std::fflush(stdout);
  fmt::print("matrix product    {:.0f} GFLOP/s (f32, 1024 x 1024 x 1024)\n", measured_gemm_rate());
  if (blas.outdated) fmt::print("warning: these kernels are older than this processor's, {}\n", blas.best);
  if (!blas.warning.empty()) fmt::print("warning: {}\n", blas.warning);
  return 0;
}

}  // namespace

Command add_info(CLI::App& app) {
  CLI::App* info =
      app.add_subcommand("info", "Show version, processor, kernels in use and the measured speed");
  const auto threads = std::make_shared<int>(0);
  add_threads(*info, *threads);
  return {info, [threads] { return run(*threads); }};
}

}  // namespace opgrad
