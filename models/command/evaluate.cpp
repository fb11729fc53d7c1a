// opgrad evaluate: the test accuracy of saved weights.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "../lecture.h"
#include "../train.h"
#include "command.h"

namespace opgrad {
namespace {

struct Options {
  std::string file, data;
  int threads = 0;
};

int run(const Options& options) {
  set_up(options.threads);
  Sequential net = lecture_network();
  net.build({1, 28, 28, 1});
  net.load(options.file);
  const Mnist mnist = load_mnist(options.data);
  fmt::print("test accuracy: {:.4f}\nweights digest: {}\n", accuracy(net, mnist.test), net.digest());
  return 0;
}

}  // namespace

Command add_evaluate(CLI::App& app) {
  CLI::App* evaluate = app.add_subcommand("evaluate", "Measure the test accuracy of saved weights");
  const auto options = std::make_shared<Options>();
  evaluate->add_option("FILE", options->file, "Weights saved by opgrad train")->required();
  add_threads(*evaluate, options->threads);
  add_data(*evaluate, options->data);
  return {evaluate, [options] { return run(*options); }};
}

}  // namespace opgrad
