// The command: opgrad train, evaluate, info. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by
// Ctrl-C.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

#include "../../core/gemm.h"
#include "../../core/isa.h"
#include "../../core/parallel.h"
#include "../../optim/optimizer.h"
#include "../lecture.h"
#include "../train.h"
#include "progress.h"

namespace opgrad {
namespace {

const Shape one_image{1, 28, 28, 1};

struct Common {
  int threads = 0;
  std::string data;
};

struct TrainCommand {
  TrainOptions options;
  double learning_rate = 2e-3;
  std::int64_t limit = 0;
  std::string out = "mnist.safetensors";
};

volatile sig_atomic_t stop_asked = 0;

// The first Ctrl-C asks the loop to end after its step; a second one ends the process as usual.
void let_ctrl_c_stop() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop_asked = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

// Better now than after the training.
void check_can_write(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  if (!file.has_filename() || std::filesystem::is_directory(file))
    throw UserError(fmt::format("--out {}: give the name of a file, not of a folder", file.string()));
  if (!std::filesystem::is_directory(folder))
    throw UserError(fmt::format("--out {}: there is no folder {}", file.string(), folder.string()));
  if (access(folder.c_str(), W_OK) != 0)
    throw UserError(fmt::format("--out {}: files cannot be written in {}", file.string(), folder.string()));
}

void set_up(const Common& common) {
  if (common.threads > 0) set_threads(common.threads);
  if (const std::string warning = blas_kernels().warning; !warning.empty())
    fmt::print(stderr, "warning: {}\n", warning);
}

int train_command(const Common& common, const TrainCommand& command) {
  check_can_write(command.out);
  set_up(common);
  const Mnist mnist = load_mnist(common.data);
  const Dataset data = command.limit > 0 ? mnist.train.first(command.limit) : mnist.train;

  Sequential net = lecture_network();
  net.initialize(command.options.seed);
  net.build(one_image);
  fmt::print("{}\n", net.summary());

  const std::int64_t steps = command.options.epochs * batches(data, command.options.batch_size).count();
  Adam adam{{.learning_rate = cosine(command.learning_rate, steps)}};
  fmt::print("training on {} images, {} steps of {}, {} thread{}\n", data.size(), steps,
             command.options.batch_size, threads(), threads() == 1 ? "" : "s");
  std::fflush(stdout);
  let_ctrl_c_stop();
  ProgressLine line;
  const Trained done = train(net, adam, data, command.options, [&](const Progress& p) {
    line.show(p);
    return stop_asked == 0;
  });
  line.finish();

  net.save(command.out);
  const std::string saved = fmt::format("weights digest: {}\nweights saved to {}\n", net.digest(),
                                        std::filesystem::absolute(command.out).string());
  if (done.stopped && done.steps < steps) {
    fmt::print("stopped after step {} of {}, {:.1f} s\n{}", done.steps, steps, done.seconds, saved);
    return 130;
  }
  fmt::print("{} steps in {:.1f} s\ntest accuracy: {:.4f}\n{}", done.steps, done.seconds,
             accuracy(net, mnist.test), saved);
  return 0;
}

int evaluate_command(const Common& common, const std::string& file) {
  set_up(common);
  Sequential net = lecture_network();
  net.build(one_image);
  net.load(file);
  const Mnist mnist = load_mnist(common.data);
  fmt::print("test accuracy: {:.4f}\nweights digest: {}\n", accuracy(net, mnist.test), net.digest());
  return 0;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

int info_command(const Common& common) {
  if (common.threads > 0) set_threads(common.threads);
  const BlasKernels blas = blas_kernels();
  fmt::print("version           opgrad {}\n", OPGRAD_VERSION);
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

int run(int argc, char** argv) {
  CLI::App app{"opgrad: an autodiff tensor framework. Trains and evaluates the lecture's network on MNIST."};
  app.name("opgrad");
  app.set_version_flag("--version", "opgrad " OPGRAD_VERSION);
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error&) { return std::string(); });

  Common common;
  // CLI11 would take NaN for a number in any range, and -1 for a large unsigned one.
  const auto number = [](const std::string& what, bool (*good)(double)) {
    return CLI::Validator(
        [what, good](std::string& text) {
          double x = 0;
          return CLI::detail::lexical_cast(text, x) && good(x) ? "" : fmt::format("{} is not {}", text, what);
        },
        "");
  };
  const auto add_threads = [&](CLI::App* to) {
    to->add_option("--threads", common.threads,
                   "Threads to compute with (default: all processors); changes no result")
        ->check(number("a whole number from 1 to 1024", [](double x) { return x >= 1 && x <= 1024; }));
  };
  const auto add_data = [&](CLI::App* to) {
    to->add_option("--data", common.data,
                   "Folder with the four files of MNIST (default: those that come with opgrad)");
  };

  TrainCommand train;
  CLI::App* train_app =
      app.add_subcommand("train", "Train the lecture's network on MNIST and save its weights");
  const auto positive = number("a whole number from 1", [](double x) { return x >= 1 && x <= 1e12; });
  train_app->add_option("--epochs", train.options.epochs, "Passes over the training images")
      ->capture_default_str()
      ->check(positive);
  train_app->add_option("--batch-size", train.options.batch_size, "Images in one step")
      ->capture_default_str()
      ->check(positive);
  train_app
      ->add_option("--learning-rate", train.learning_rate,
                   "Adam's rate at the start; it falls to 0 along half a cosine")
      ->capture_default_str()
      ->check(number("a finite number from 0", [](double x) { return x >= 0 && x <= 1e6; }));
  train_app
      ->add_option("--seed", train.options.seed, "Seed of weights and order; equal seeds give equal bits")
      ->capture_default_str()
      ->check(number("a whole number from 0", [](double x) { return x >= 0; }));
  add_threads(train_app);
  train_app->add_option("--limit", train.limit, "Only the first N training images (default: all)")
      ->type_name("N")
      ->check(positive);
  add_data(train_app);
  train_app->add_option("--out", train.out, "Where to save the weights (safetensors)")->capture_default_str();

  std::string file;
  CLI::App* evaluate_app = app.add_subcommand("evaluate", "Measure the test accuracy of saved weights");
  evaluate_app->add_option("FILE", file, "Weights saved by opgrad train")->required();
  add_threads(evaluate_app);
  add_data(evaluate_app);

  CLI::App* info_app =
      app.add_subcommand("info", "Show version, processor, kernels in use and the measured speed");
  add_threads(info_app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    const auto chosen = app.get_subcommands();
    fmt::print(stderr, "opgrad: {}\n\n{}", e.what(), chosen.empty() ? app.help() : chosen[0]->help("opgrad"));
    return 2;
  }
  if (*train_app) return train_command(common, train);
  if (*evaluate_app) return evaluate_command(common, file);
  return info_command(common);
}

}  // namespace
}  // namespace opgrad

int main(int argc, char** argv) {
  try {
    return opgrad::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "opgrad: {}\n", e.what());
    return 1;
  }
}
