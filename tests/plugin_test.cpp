// Operations from outside: what OPGRAD_REGISTER and load_plugin promise, every refusal by its text, and the
// command's --plugin and ops. This program is linked to the shared library.
#include "../graph/plugin.h"

#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "../graph/grad.h"
#include "../graph/registry.h"
#include "../ops/ops.h"
#include "errors.h"
#include "run_shell.h"
#include "scratch.h"

using namespace opgrad;
using namespace opgrad::test;

std::size_t operations_seen_by_the_library();  // tests/plugins/library.cpp

// A copy of opgrad within a plug-in is what some cases are about.
extern "C" const char* __asan_default_options() { return "detect_odr_violation=0"; }

namespace {

std::string plugin(const std::string& name) { return OPGRAD_PLUGINS "/" + name + ".so"; }

// The message of the UserError with which the file is refused, after a look whether the registry is as
// before.
std::string refusal(const std::string& file) {
  const std::vector<const Op*> before = all_ops();
  std::string said = "nothing";
  try {
    load_plugin(file);
  } catch (const UserError& e) {
    said = e.what();
  }
  CHECK(all_ops() == before);
  CHECK_MESSAGE(contains(said, file), said);
  return said;
}
// A second attempt must be refused for the same reason, although the file is in memory already.
std::string refusal_of(const std::string& name) {
  const std::string said = refusal(plugin(name));
  CHECK(refusal(plugin(name)) == said);
  return said;
}

Run run(const std::string& command) {
  return run_shell("ASAN_OPTIONS=$ASAN_OPTIONS:detect_odr_violation=0 " + command + " 2>&1");
}
Run opgrad_command(const std::string& arguments) { return run("'" OPGRAD_COMMAND "' " + arguments); }

}  // namespace

TEST_CASE("plug-in: an operation from a file linked against nothing computes and differentiates") {
  const std::vector<const Op*> records = load_plugin(plugin("cube"));
  REQUIRE(records.size() == 1);
  const Op* const cube = find_op("test.cube");
  REQUIRE(cube == records[0]);
  const Tensor x = variable(tensor({-1.0, 0.5, 2.0}));
  const Tensor y = cube->examples()[0].call({&x, 1});
  CHECK(y.to_vector<double>() == std::vector<double>{-1, 0.125, 8});
  const Tensor first = grad(sum(y), x), second = grad(sum(first), x);
  CHECK(first.to_vector<double>() == std::vector<double>{3, 0.75, 12});
  CHECK(second.to_vector<double>() == std::vector<double>{-6, 3, 12});
}

TEST_CASE("plug-in: loaded twice, by whatever path, it changes nothing") {
  const Scratch scratch;
  const std::vector<const Op*> records = load_plugin(plugin("cube")), before = all_ops();
  const std::string link = scratch.path("link.so");
  std::filesystem::create_symlink(plugin("cube"), link);
  for (const std::string& path : {plugin("cube"), link, std::string(OPGRAD_PLUGINS "/../plugins/./cube.so"),
                                  std::filesystem::relative(plugin("cube")).string()})
    CHECK(load_plugin(path) == records);
  CHECK(all_ops() == before);
}

TEST_CASE("plug-in: several files of one plug-in have a line each, with any number of records") {
  const std::vector<const Op*> records = load_plugin(plugin("pair"));
  CHECK(records.size() == 3);
  for (const char* name : {"test.first", "test.second", "test.third"})
    CHECK_MESSAGE(std::ranges::count(records, find_op(name)) == 1, name);
}

TEST_CASE("plug-in: program, shared library and plug-in see one registry") {
  load_plugin(plugin("pair"));
  load_plugin(plugin("cube"));
  void* const pair = dlopen(plugin("pair").c_str(), RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(pair);
  const auto seen = reinterpret_cast<std::size_t (*)()>(dlsym(pair, "operations_seen_by_the_pair"));
  REQUIRE(bool(seen));
  CHECK(seen() == all_ops().size());
  CHECK(operations_seen_by_the_library() == all_ops().size());
  dlclose(pair);
}

TEST_CASE("the registry remembers where each record comes from") {
  load_plugin(plugin("cube"));
  CHECK(source_of(*find_op("tanh")) == "built in");
  CHECK(source_of(*find_op("add_any")) == "built in");
  CHECK(source_of(*find_op("test.linked")) == "linked into opgrad_plugin_tests");
  CHECK(source_of(*find_op("test.library")) == "linked into libplugin_library.so");
  CHECK(source_of(*find_op("test.cube")) == plugin("cube"));
  CHECK_THROWS_WITH_AS(
      source_of(
          Op{.name = "test.nowhere", .arity = 1, .about = "", .shape = {}, .forward = {}, .backward = {}}),
      "source_of: the record \"test.nowhere\" is not registered; call register_op first", UserError);
}

TEST_CASE("plug-in: a library that the program is linked to is loaded already") {
  const std::vector<const Op*> before = all_ops();
  CHECK(load_plugin(OPGRAD_PLUGINS "/libplugin_library.so") ==
        std::vector<const Op*>{find_op("test.library")});
  CHECK(all_ops() == before);
}

TEST_CASE("plug-in: many threads may load the same file at once") {
  const std::size_t before = all_ops().size();
  std::array<std::vector<const Op*>, 8> found;
  std::vector<std::thread> threads;
  for (auto& records : found) threads.emplace_back([&records] { records = load_plugin(plugin("threads")); });
  for (std::thread& t : threads) t.join();
  for (const auto& records : found) CHECK(records == std::vector<const Op*>{find_op("test.threads")});
  CHECK(all_ops().size() == before + 1);
}

TEST_CASE("plug-in: what is no shared object is refused with the system's words") {
  const Scratch scratch;
  CHECK(contains(refusal("/nowhere/mine.so"),
                 "there is no plug-in /nowhere/mine.so: No such file or directory"));
  const std::string text = "int main() {}\n";
  CHECK(contains(refusal(scratch.file("text.so", std::as_bytes(std::span(text)))), "cannot be loaded: "));
  CHECK(contains(refusal(std::filesystem::temp_directory_path().string()), "cannot be loaded: "));
  CHECK(contains(refusal(OPGRAD_COMMAND), "cannot be loaded: "));
}

TEST_CASE("plug-in: a missing symbol is named") {
  const std::string said = refusal_of("missing_symbol");
  CHECK_MESSAGE(contains(said, "undefined symbol: _Z15defined_nowherev"), said);
  CHECK(contains(said, "a plug-in is a shared object (g++ -shared -fPIC) that finds all it calls"));
}

TEST_CASE("plug-in: a shared object that is none is refused") {
  for (const char* name : {"bare", "undescribed", "dependent"}) {
    const std::string said = refusal_of(name);
    CHECK_MESSAGE(contains(said, "no plug-in of opgrad: none of its files has an OPGRAD_REGISTER line"),
                  said);
  }
  CHECK(contains(refusal_of("empty"), "it registers nothing: its OPGRAD_REGISTER line names no record"));
  CHECK(contains(refusal_of("other_magic"), "its symbol opgrad_plugin is not what OPGRAD_REGISTER makes"));
}

TEST_CASE("plug-in: one for another version is refused before a record is read") {
  CHECK(contains(refusal_of("other_version"),
                 std::string("it was built for opgrad 99.1.0, and this is opgrad ") + library_version));
  const std::string said = refusal_of("other_layout");
  CHECK_MESSAGE(
      contains(said, std::to_string(sizeof(Op) + 8) + " bytes instead of " + std::to_string(sizeof(Op))),
      said);
}

TEST_CASE(
    "plug-in: a name that is taken is refused, both files named, and nothing of the file is registered") {
  load_plugin(plugin("cube"));
  const std::string said = refusal_of("clash");
  CHECK_MESSAGE(contains(said, "\"test.cube\" is taken by the record \"x^3\" (" + plugin("cube") + ")"),
                said);
  CHECK_MESSAGE(contains(said, "cannot be that of another one (" + plugin("clash") + ")"), said);
  CHECK(find_op("test.fresh") == nullptr);
  CHECK(contains(refusal_of("clash_builtin"), "\"tanh\" is taken by the record"));
  CHECK(contains(refusal_of("clash_builtin"), "(built in)"));
  CHECK(contains(refusal_of("clash_within"), "\"test.twice\" is taken by the record"));
  CHECK(find_op("test.twice") == nullptr);
}

TEST_CASE("plug-in: a copy of a file under another name is refused for its names") {
  const Scratch scratch;
  load_plugin(plugin("cube"));
  std::filesystem::copy_file(plugin("cube"), scratch.path("copy.so"));
  CHECK(contains(refusal(scratch.path("copy.so")), "\"test.cube\" is taken"));
}

TEST_CASE("plug-in: a record that lacks a part is refused with the whole file") {
  CHECK(contains(refusal_of("lacking"), "the record of \"test.lacking\" lacks a forward kernel"));
  CHECK(find_op("test.whole") == nullptr);
}

TEST_CASE("plug-in: one that brings its own copy of opgrad is refused, whether that copy shows or not") {
  for (const char* name : {"own_copy", "own_hidden_copy"}) {
    const std::string said = refusal_of(name);
    CHECK_MESSAGE(contains(said, "it brings its own copy of opgrad (libopgrad.a is linked into it)"), said);
    CHECK_MESSAGE(contains(said, "link it against opgrad::shared or against nothing"), said);
  }
}

TEST_CASE(
    "plug-in: a program with a static opgrad is told to take the shared one where it cannot be a host") {
  const auto load = [](const std::string& host, const std::string& name) {
    return run("'" OPGRAD_PLUGINS "/" + host + "' '" + plugin(name) + "'").output;
  };
  const std::string bare = load("static_host", "cube");
  CHECK_MESSAGE(contains(bare, "undefined symbol"), bare);
  CHECK_MESSAGE(contains(bare, "this program, which must itself be linked against opgrad::shared"), bare);
  for (const std::string host : {"static_host", "exporting_host"}) {
    const std::string said = load(host, "pair");
    CHECK_MESSAGE(contains(said, "it is linked against a second copy of opgrad, "), said);
    CHECK_MESSAGE(contains(said, "link the program against opgrad::shared as well"), said);
  }
  CHECK(load("exporting_host", "threads") == "loaded\n");
}

TEST_CASE("plug-in: one whose calls reach another registry is refused") {
  CHECK(contains(refusal_of("other_identity"), "it is linked against a second copy of opgrad, "));
}

TEST_CASE("a linked file registers by the same line, with the static and with the shared library") {
  for (const std::string kind : {"static", "shared"}) {
    const Run r = run("'" OPGRAD_PLUGINS "/linked_" + kind + "'");
    CHECK(r.code == 0);
    CHECK(r.output == "linked into linked_" + kind + "\n");
  }
}

TEST_CASE("two linked files with one name end the program with the reason") {
  const Run r = run("'" OPGRAD_PLUGINS "/linked_twice'");
  CHECK(r.code == 1);
  CHECK_MESSAGE(r.output.starts_with(
                    "opgrad: register_op: \"test.linked\" is taken by the record \"zero\" (linked into "
                    "linked_twice), and cannot be that of another one (linked into linked_twice)"),
                r.output);
}

TEST_CASE("command: --plugin stands before or after the subcommand, and several times") {
  const std::string cube = "--plugin '" + plugin("cube") + "' ", pair = "--plugin '" + plugin("pair") + "' ";
  for (const std::string& arguments :
       {cube + "ops test.cube", "ops " + cube + "test.cube", "ops test.cube " + cube,
        pair + "ops " + cube + "test.cube", "ops " + pair + cube + "test.cube"}) {
    const Run r = opgrad_command(arguments);
    CHECK_MESSAGE(r.code == 0, arguments, ": ", r.output);
    CHECK_MESSAGE(contains(r.output, "x^3"), r.output);
    CHECK_MESSAGE(contains(r.output, plugin("cube")), r.output);
  }
  CHECK(opgrad_command(cube + "info --threads 1").code == 0);
}

TEST_CASE("command: a plug-in that is refused ends it with the reason") {
  const std::string bad = "--plugin '" + plugin("bare") + "'";
  const Run ops = opgrad_command("ops " + bad), info = opgrad_command(bad + " info");
  CHECK(ops.code == 4);
  CHECK(info.code == 2);
  CHECK(contains(ops.output, "opgrad: load_plugin: " + plugin("bare") + " is refused: "));
}

TEST_CASE("command: ops describes every operation, as text and as JSON") {
  const Run text = opgrad_command("ops"), json = opgrad_command("ops --json");
  REQUIRE(text.code == 0);
  REQUIRE(json.code == 0);
  const auto list = nlohmann::json::parse(json.output);
  CHECK(contains(text.output, "\n" + std::to_string(list.size()) + " operations\n"));
  std::size_t built_in = 0;
  for (const Op* op : all_ops()) {
    if (source_of(*op) != "built in") continue;
    ++built_in;
    CHECK_MESSAGE(contains("\n" + text.output, "\n" + std::string(op->name) + "("), op->name);
    const auto entry = std::ranges::find_if(list, [&](const auto& e) { return e["name"] == op->name; });
    REQUIRE_MESSAGE(entry != list.end(), op->name);
    CHECK((*entry)["arity"] == op->arity);
    CHECK((*entry)["about"] == (op->about ? op->about : ""));
    CHECK((*entry)["differentiable"] == (op->backward != no_gradient));
    CHECK((*entry)["examples"] == (op->examples ? op->examples().size() : 0));
    CHECK((*entry)["bad_calls"] == (op->bad_calls ? op->bad_calls().size() : 0));
    CHECK((*entry)["kinks"].size() == (op->kinks ? op->kinks().size() : 0));
    CHECK((*entry)["source"] == "built in");
  }
  CHECK(list.size() == built_in);
}

TEST_CASE("command: ops NAME shows signature, traits, conventions and source of one") {
  const Run relu = opgrad_command("ops relu"), argmax = opgrad_command("ops argmax"),
            conv = opgrad_command("ops conv2d");
  CHECK(relu.output.starts_with("relu(x)  pointwise, nothrow\n"));
  CHECK(contains(relu.output, "has a gradient; at kinks: "));
  CHECK(contains(relu.output, "; built in\n"));
  CHECK(contains(argmax.output, "has no gradient"));
  CHECK_MESSAGE(conv.output.starts_with("conv2d(x1, x2; strides, "), conv.output);
}

TEST_CASE("command: an operation that does not exist is wrong usage, with names that are near") {
  const Run r = opgrad_command("ops sigmid");
  CHECK(r.code == 4);
  CHECK_MESSAGE(contains(r.output, "there is no operation \"sigmid\"; near: sigmoid"), r.output);
  CHECK(contains(r.output, "Usage: opgrad ops"));
  CHECK(contains(opgrad_command("ops zzzzzzzzzzzzzz").output, "there is no operation \"zzzzzzzzzzzzzz\"\n"));
}
