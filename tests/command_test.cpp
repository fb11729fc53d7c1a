// The command, run as a program: options, exit codes, what it prints, Ctrl-C.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <regex>
#include <string>

#include "errors.h"
#include "run_shell.h"
#include "scratch.h"

using namespace opgrad::test;

namespace {

Run run(const std::string& arguments, const std::string& before = "") {
  return run_shell(before + " '" OPGRAD_COMMAND "' " + arguments + " 2>&1");
}

// What stands behind `label` on its line.
std::string field(const std::string& output, const std::string& label) {
  const auto at = output.find(label);
  if (at == output.npos) return "(no " + label + ")";
  return output.substr(at + label.size(), output.find('\n', at) - at - label.size());
}

std::string small_run(const Scratch& scratch, const std::string& more) {
  return "train --limit 200 --epochs 1 --batch-size 50 --out " + scratch.path("w.safetensors") + " " + more;
}

}  // namespace

TEST_CASE("command: --version and --help, everywhere") {
  const Run version = run("--version");
  CHECK(version.code == 0);
  CHECK(std::regex_match(version.output, std::regex("opgrad [0-9]+\\.[0-9]+\\.[0-9]+\n")));
  for (const char* command : {"", "train ", "evaluate ", "info ", "ops ", "gradtest ", "graph ", "bench "}) {
    const Run help = run(std::string(command) + "--help");
    CHECK(help.code == 0);
    CHECK(contains(help.output, "Usage:"));
  }
  const Run train = run("train --help");
  for (const char* option :
       {"--epochs", "--batch-size", "--learning-rate", "--seed", "--threads", "--limit", "--data", "--out"})
    CHECK_MESSAGE(contains(train.output, option), option);
}

TEST_CASE("command: wrong options get the usage and exit code 2") {
  for (const char* wrong :
       {"", "trian", "train --epoch 3", "train --epochs", "train --epochs 0", "train --epochs -1",
        "train --epochs x", "train --batch-size 0", "train --seed -1", "train --threads 0", "train --limit 0",
        "train --learning-rate -1", "train --learning-rate nan", "train surplus", "evaluate", "evaluate a b",
        "info --limit 3", "--nonsense"}) {
    // Should one be accepted, it ends where there are no data.
    const Run r = run(wrong, "OPGRAD_DATA_DIR=/nowhere");
    CHECK_MESSAGE(r.code == 2, std::string(wrong) << ": " << r.output);
    CHECK_MESSAGE(contains(r.output, "Usage:"), std::string(wrong));
  }
}

TEST_CASE(
    "command: train shows the table, plain lines, accuracy, digest and file; evaluate repeats the accuracy") {
  const Scratch scratch;
  const Run r = run(small_run(scratch, ""));
  REQUIRE_MESSAGE(r.code == 0, r.output);
  CHECK(contains(r.output, "1,668,490"));
  CHECK(contains(r.output, "26 x 26 x 32"));
  CHECK(std::regex_search(
      r.output, std::regex("epoch 1/1  4/4  loss [0-9.]+  accuracy [0-9.]+  [0-9]+ images/s  0:00 left\n")));
  CHECK_FALSE(contains(r.output, "\r"));
  CHECK(std::regex_match(field(r.output, "test accuracy: "), std::regex("0\\.[0-9]{4}")));
  CHECK(std::regex_match(field(r.output, "weights digest: "), std::regex("[0-9a-f]{16}")));
  CHECK(field(r.output, "weights saved to ") == scratch.path("w.safetensors"));
  CHECK(std::filesystem::exists(scratch.path("w.safetensors")));
  const Run e = run("evaluate " + scratch.path("w.safetensors"));
  CHECK(e.code == 0);
  CHECK(field(e.output, "test accuracy: ") == field(r.output, "test accuracy: "));
  CHECK(field(e.output, "weights digest: ") == field(r.output, "weights digest: "));
}

TEST_CASE("command: same seed, same digest for 1 to 4 threads; another for another seed") {
  const Scratch scratch;
  const auto digest = [&](const std::string& more) {
    return field(run(small_run(scratch, more)).output, "weights digest: ");
  };
  const std::string one = digest("--seed 5 --threads 1");
  CHECK(one.size() == 16);
  for (const char* n : {"2", "3", "4"}) CHECK(digest(std::string("--seed 5 --threads ") + n) == one);
  CHECK(digest("--seed 6") != one);
}

TEST_CASE("command: finds its data from any folder, and --data names another") {
  const Scratch scratch;
  const Run here = run(small_run(scratch, ""), "cd / &&");
  CHECK_MESSAGE(here.code == 0, here.output);
  const Run there = run(small_run(scratch, "--data " + scratch.path("")));
  CHECK(there.code == 1);
  CHECK(contains(there.output, "train-images-idx3-ubyte.gz"));
}

TEST_CASE("command: what goes wrong is said in one message with exit code 1") {
  const Scratch scratch;
  const Run folder = run("train --limit 10 --out " + scratch.path("no/such/folder.safetensors"));
  CHECK(folder.code == 1);
  CHECK(contains(folder.output, "there is no folder"));
  const Run missing = run("evaluate " + scratch.path("none.safetensors"));
  CHECK(missing.code == 1);
  CHECK(contains(missing.output, "none.safetensors"));
}

TEST_CASE("command: evaluate lists missing and extra names of a file of another model") {
  const Scratch scratch;
  const std::string header = R"({"surplus":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  std::string content(8, '\0');
  content[0] = static_cast<char>(header.size());
  content += header + std::string(4, '\0');
  const Run r = run("evaluate " + scratch.file("other.safetensors", std::as_bytes(std::span(content))));
  CHECK(r.code == 1);
  CHECK(contains(r.output, "missing: conv2d/kernel f32[3, 3, 1, 32]"));
  CHECK(contains(r.output, "missing: dense_1/bias f32[10]"));
  CHECK(contains(r.output, "extra: surplus f32[1]"));
}

TEST_CASE("command: Ctrl-C stops after the step and keeps the last weights") {
  const Scratch scratch;
  const std::string out = scratch.path("w.safetensors"), log = scratch.path("log");
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (std::freopen(log.c_str(), "w", stdout) && std::freopen(log.c_str(), "a", stderr))
      execl(OPGRAD_COMMAND, OPGRAD_COMMAND, "train", "--epochs", "1000", "--batch-size", "100", "--limit",
            "1000", "--out", out.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  const auto text = [&] {
    std::ifstream in(log);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  for (int i = 0; i < 600 && !contains(text(), "epoch 1/1000"); ++i) usleep(100'000);
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  const std::string said = text();
  CHECK_MESSAGE((WIFEXITED(status) && WEXITSTATUS(status) == 130), said);
  CHECK(contains(said, "stopped after step "));
  CHECK(std::filesystem::exists(out));
  CHECK(field(run("evaluate " + out).output, "weights digest: ") == field(said, "weights digest: "));
}

TEST_CASE(
    "command: info prints version, processor, instruction set, kernels, threads and the measured rate") {
  const Run r = run("info --threads 1");
  CHECK(r.code == 0);
  for (const char* label :
       {"version", "processor", "instruction set", "OpenBLAS kernels", "threads           1\n", "GFLOP/s"})
    CHECK_MESSAGE(contains(r.output, label), r.output);
}

TEST_CASE("the shared library can be loaded by a program that runs already") {
  const auto library = std::filesystem::path(OPGRAD_COMMAND).parent_path() / "libopgrad.so";
  REQUIRE(std::filesystem::exists(library));
  void* const loaded = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  CHECK_MESSAGE(loaded, (loaded ? "" : dlerror()));
}
