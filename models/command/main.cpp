// The command: reads the command line and hands over to one subcommand, each in a file of its own. Exit
// codes: 0 done, 1 failed, 2 wrong usage (ops and gradtest: 4), 130 stopped by Ctrl-C.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "../../graph/plugin.h"
#include "../../graph/version.h"
#include "bench.h"
#include "command.h"
#include "gradtest.h"
#include "graph.h"

namespace opgrad {
namespace {

int run(int argc, char** argv) {
  CLI::App app{"opgrad: an autodiff tensor framework. Trains and evaluates the lecture's network on MNIST."};
  app.name("opgrad");
  app.set_version_flag("--version", fmt::format("opgrad {}", library_version));
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error&) { return std::string(); });

  const std::vector<Command> commands{add_train(app),    add_evaluate(app), add_info(app), add_ops(app),
                                      add_gradtest(app), add_graph(app),    add_bench(app)};

  // For all of them, and on either side of the subcommand.
  std::vector<std::string> plugins;
  const auto add_plugin = [&](CLI::App& to) {
    to.add_option_function<std::vector<std::string>>(
          "--plugin",
          [&](const std::vector<std::string>& files) {
            plugins.insert(plugins.end(), files.begin(), files.end());
          },
          "Load the operations of this shared object; may be given several times")
        ->type_name("FILE.so")
        ->allow_extra_args(false);
  };
  add_plugin(app);
  for (const Command& command : commands) add_plugin(*command.app);

  const auto chosen = [&]() -> const Command* {
    const auto command = std::ranges::find_if(commands, [](const Command& c) { return c.app->parsed(); });
    return command == commands.end() ? nullptr : &*command;
  };
  const auto wrong_usage = [&](const std::exception& e) {
    const Command* const command = chosen();
    fmt::print(stderr, "opgrad: {}\n\n{}", e.what(), command ? command->app->help("opgrad") : app.help());
    return command ? command->wrong_usage : 2;
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? app.exit(e) : wrong_usage(e);
  }
  try {
    for (const std::string& file : plugins) load_plugin(file);
  } catch (const UserError& e) {
    fmt::print(stderr, "opgrad: {}\n", e.what());
    return chosen()->wrong_usage;
  }
  try {
    return chosen()->run();
  } catch (const UsageError& e) {
    return wrong_usage(e);
  }
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
