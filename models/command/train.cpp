// opgrad train: the lecture's network on MNIST.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "../../core/parallel.h"
#include "../../optim/optimizer.h"
#include "../lecture.h"
#include "../train.h"
#include "command.h"
#include "progress.h"

namespace opgrad {
namespace {

struct Options {
  TrainOptions train;
  double learning_rate = 2e-3;
  std::int64_t limit = 0;
  int threads = 0;
  std::string data, out = "mnist.safetensors";
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

int run(const Options& options) {
  check_can_write(options.out);
  set_up(options.threads);
  const Mnist mnist = load_mnist(options.data);
  const Dataset data = options.limit > 0 ? mnist.train.first(options.limit) : mnist.train;

  Sequential net = lecture_network();
  net.initialize(options.train.seed);
  net.build({1, 28, 28, 1});
  fmt::print("{}\n", net.summary());

  const std::int64_t steps = options.train.epochs * batches(data, options.train.batch_size).count();
  Adam adam{{.learning_rate = cosine(options.learning_rate, steps)}};
  fmt::print("training on {} images, {} steps of {}, {} thread{}\n", data.size(), steps,
             options.train.batch_size, threads(), threads() == 1 ? "" : "s");
  std::fflush(stdout);
  let_ctrl_c_stop();
  ProgressLine line;
  const Trained done = train(net, adam, data, options.train, [&](const Progress& p) {
    line.show(p);
    return stop_asked == 0;
  });
  line.finish();

  net.save(options.out);
  const std::string saved = fmt::format("weights digest: {}\nweights saved to {}\n", net.digest(),
                                        std::filesystem::absolute(options.out).string());
  if (done.stopped && done.steps < steps) {
    fmt::print("stopped after step {} of {}, {:.1f} s\n{}", done.steps, steps, done.seconds, saved);
    return 130;
  }
  fmt::print("{} steps in {:.1f} s\ntest accuracy: {:.4f}\n{}", done.steps, done.seconds,
             accuracy(net, mnist.test), saved);
  return 0;
}

}  // namespace

Command add_train(CLI::App& app) {
  CLI::App* train = app.add_subcommand("train", "Train the lecture's network on MNIST and save its weights");
  const auto options = std::make_shared<Options>();
  const auto positive = number("a whole number from 1", [](double x) { return x >= 1 && x <= 1e12; });
  train->add_option("--epochs", options->train.epochs, "Passes over the training images")
      ->capture_default_str()
      ->check(positive);
  train->add_option("--batch-size", options->train.batch_size, "Images in one step")
      ->capture_default_str()
      ->check(positive);
  train
      ->add_option("--learning-rate", options->learning_rate,
                   "Adam's rate at the start; it falls to 0 along half a cosine")
      ->capture_default_str()
      ->check(number("a finite number from 0", [](double x) { return x >= 0 && x <= 1e6; }));
  train->add_option("--seed", options->train.seed, "Seed of weights and order; equal seeds give equal bits")
      ->capture_default_str()
      ->check(number("a whole number from 0", [](double x) { return x >= 0; }));
  add_threads(*train, options->threads);
  train->add_option("--limit", options->limit, "Only the first N training images (default: all)")
      ->type_name("N")
      ->check(positive);
  add_data(*train, options->data);
  train->add_option("--out", options->out, "Where to save the weights (safetensors)")->capture_default_str();
  return {train, [options] { return run(*options); }};
}

}  // namespace opgrad
