// opgrad graph, and what opgrad bench says of plans: every option, figures counted by hand, exit codes.
// Nothing here looks at how long anything takes.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "../core/isa.h"
#include "lines.h"
#include "run_shell.h"
#include "scratch.h"
#include "skipped.h"

using namespace opgrad::test;

namespace {

Run command(const std::string& arguments, const std::string& before = "") {
  return run_shell(before + " '" OPGRAD_COMMAND "' " + arguments + " 2>&1");
}
Run graph(const std::string& arguments, const std::string& before = "") {
  return command("graph " + arguments, before);
}

std::string shown(const std::string& arguments) {
  const Run r = graph(arguments);
  REQUIRE_MESSAGE(r.code == 0, arguments << ": " << r.output);
  return r.output;
}

// The passes as the command lists them; this programme may know of more, which its tests add.
struct Listed {
  std::string name, about;
};
std::vector<Listed> listed_passes() {
  const std::string help = shown("--help");
  std::vector<Listed> passes;
  for (const std::string& line : lines_of(help.substr(help.find("Passes, in the order")))) {
    std::smatch m;
    if (std::regex_match(line, m, std::regex(" +(\\w+) +(.*)"))) passes.push_back({m[1], m[2]});
  }
  REQUIRE(passes.size() > 5);
  return passes;
}

// An executable text on a search path of its own.
std::string path_with(const Scratch& scratch, const std::string& name, const std::string& text) {
  const std::string file = scratch.file(name, std::as_bytes(std::span(text)));
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  return "PATH='" + scratch.path("") + "':/bin:/usr/bin";
}

}  // namespace

TEST_CASE("graph command: the forward pass has the shapes, bytes and arithmetic of the lecture's network") {
  const std::string text = shown("--batch 2 --after capture");
  CHECK(contains(text, "1,668,490 parameters, 2 images, forward"));
  for (const char* type :
       {"f32[2, 28, 28, 1]", "f32[2, 26, 26, 32]", "f32[2, 13, 13, 32]", "f32[2, 11, 11, 64]",
        "f32[2, 5, 5, 64]", "f32[2, 1600]", "f32[2, 1024]", "f32[2, 10]", "f32[3, 3, 1, 32]",
        "f32[3, 3, 32, 64]", "f32[1600, 1024]", "f32[1024, 10]"})
    CHECK_MESSAGE(contains(text, type), type);
  // 2 x 4,073,600 multiply-adds for each of two images: 389,376 x 2 in the first layer's 2 x 26 x 26 x 32
  // results, which take 173,056 bytes.
  CHECK(contains(lines_of(text)[1], "16.3 MFLOP"));
  const std::vector<std::string> convolutions = lines_with(text, "= conv2d(");
  REQUIRE(convolutions.size() == 2);
  CHECK(contains(convolutions[0], "173.1 kB"));
  CHECK(contains(convolutions[0], "778.8 kFLOP"));
  CHECK(contains(convolutions[1], "8.9 MFLOP"));
  const std::vector<std::string> products = lines_with(text, "= matmul(");
  REQUIRE(products.size() == 2);
  CHECK(contains(products[0], "6.6 MFLOP"));
  CHECK(contains(products[1], "41.0 kFLOP"));
}

TEST_CASE("graph command: every operation names the line and the layer it comes from") {
  const std::string text = shown("--batch 2 --after capture");
  const auto from = [&](const char* operation, const char* layer) {
    const std::regex pattern(std::string("graph\\.cpp:[0-9]+ \\(") + layer + "\\)");
    const std::vector<std::string> lines = lines_with(text, operation);
    return std::ranges::any_of(lines, [&](const std::string& l) { return std::regex_search(l, pattern); });
  };
  CHECK(from("= conv2d(", "conv2d"));
  CHECK(from("= conv2d(", "conv2d_1"));
  CHECK(from("= max_pool2d(", "max_pool2d"));
  CHECK(from("= matmul(", "dense"));
  CHECK(from("= matmul(", "dense_1"));
}

TEST_CASE(
    "graph command: --backward has the loss and eight gradients, --step the updates over the old values") {
  const std::string backward = shown("--backward --batch 2");
  CHECK(contains(lines_of(backward)[0], "loss and gradients"));
  CHECK(contains(lines_of(backward)[1], "9 outputs"));
  // 2 (2 x 194,688 + 3 x 3,878,912) for each of two images: see models/works.h.
  CHECK(contains(lines_of(backward)[1], "48.1 MFLOP"));
  CHECK(lines_with(backward, "= conv2d_kernel_gradient(").size() == 2);
  CHECK(lines_with(backward, "= conv2d_input_gradient(").size() == 1);
  CHECK_FALSE(contains(backward, " over input "));

  const std::string step = shown("--step --batch 2");
  CHECK(contains(lines_of(step)[0], "a training step with Adam"));
  // The loss, of each of eight parameters its value and Adam's two means, and the network's result, which is
  // held while the step runs.
  CHECK(contains(lines_of(step)[1], "26 outputs"));
  CHECK(contains(lines_of(step)[1], "48.1 MFLOP"));
  CHECK(count(step, " over input ") == 24);
}

TEST_CASE("graph command: --batch is the number of images, 128 unless given") {
  CHECK(contains(shown("--after capture"), "f32[128, 26, 26, 32]"));
  const std::string three = shown("--batch 3");
  CHECK(contains(three, "3 images"));
  CHECK(contains(three, "f32[3, 10]"));
  CHECK(contains(shown("--batch 1"), "1 image,"));
}

TEST_CASE("graph command: --after shows the program as it stands there, groups and blocks where they arise") {
  const auto values = [](const std::string& text) {
    std::smatch m;
    REQUIRE(std::regex_search(text, m, std::regex("\n([0-9]+) values, ([0-9]+) steps")));
    return std::pair{std::stoi(m[1]), std::stoi(m[2])};
  };
  const std::string capture = shown("--step --batch 32 --after capture");
  const std::string dead = shown("--step --batch 32 --after dead");
  const std::string pointwise = shown("--step --batch 32 --after pointwise");
  const std::string epilogue = shown("--step --batch 32 --after epilogue");
  const std::string all = shown("--step --batch 32");
  CHECK(contains(capture, "after capture, before any pass"));
  CHECK(contains(dead, "after dead;"));
  CHECK(contains(all, "after all passes;"));
  CHECK(values(dead).first < values(capture).first);
  CHECK(values(pointwise).first == values(dead).first);
  CHECK(values(pointwise).second < values(dead).second);
  CHECK_FALSE(contains(dead, "together, tile by tile"));
  CHECK(contains(pointwise, "together, tile by tile"));
  CHECK_FALSE(contains(pointwise, "on each piece that it finishes"));
  CHECK(contains(epilogue, "on each piece that it finishes"));
}

TEST_CASE("graph command: the passes that are off are left out, and cannot be shown") {
  const std::string off = "OPGRAD_PASSES=-pointwise,-epilogue,-rows";
  const Run r = graph("--step --batch 32", off);
  REQUIRE_MESSAGE(r.code == 0, r.output);
  CHECK_FALSE(contains(r.output, "tile by tile"));
  const Run refused = graph("--after rows", off);
  CHECK(refused.code == 2);
  CHECK(
      contains(refused.output, "the pass \"rows\" is off: OPGRAD_PASSES is \"-pointwise,-epilogue,-rows\""));
}

TEST_CASE(
    "graph command: --report has a row for each pass, and ends with the values and bytes of the listing") {
  const std::string text = shown("--step --batch 32 --report");
  const std::string table = text.substr(text.find("\npass "));
  const std::vector<std::string> rows = lines_of(table.substr(1));
  const std::vector<Listed> all = listed_passes();
  REQUIRE(rows.size() == all.size() + 4);
  CHECK(std::regex_match(rows.back(), std::regex("making the whole plan took [0-9]+\\.[0-9]+ ms")));
  CHECK(rows[1].starts_with("capture "));
  for (std::size_t k = 0; k < all.size(); ++k) {
    CHECK_MESSAGE(rows[k + 2].starts_with(all[k].name + " "), rows[k + 2]);
    CHECK_MESSAGE(rows[k + 2].ends_with(all[k].about), rows[k + 2]);
    const bool in_planner = all[k].name == "in_place" || all[k].name == "arena" || all[k].name == "compile";
    CHECK_MESSAGE(contains(rows[k + 2], " planner ") == in_planner, rows[k + 2]);
  }
  std::smatch last, heading;
  const std::string figures = "([0-9.]+ [kM]?B)";
  REQUIRE(std::regex_search(rows[all.size() + 1], last, std::regex(figures + " +" + figures)));
  REQUIRE(std::regex_search(text, heading, std::regex("arena " + figures + ", bound " + figures)));
  CHECK(last[1] == heading[1]);
  CHECK(last[2] == heading[2]);
  // Up to a pass: no rows for later ones.
  CHECK_FALSE(contains(shown("--batch 32 --report --after dead"), "\nepilogue "));
}

TEST_CASE("graph command: --work shows a standard work, of its own size or of another") {
  CHECK(contains(shown("--work infer1"), "f32[1, 10]"));
  const std::string mlp = shown("--work mlp_b128 --batch 4 --after capture");
  CHECK(contains(mlp, "here of size 4"));
  CHECK(contains(mlp, "f32[4, 512]"));
  // 4 x 2 (2 x 401,408 + 3 x 267,264): see models/works.h.
  CHECK(contains(lines_of(mlp)[1], "12.8 MFLOP"));
  CHECK(contains(shown("--work chain2000 --batch 10 --after capture"), "= tanh("));
}

TEST_CASE(
    "graph command: dot has a node for each value, an edge for each use and frames for what runs together") {
  const std::string capture = shown("--step --batch 32 --after capture --format dot");
  const std::string all = shown("--step --batch 32 --format dot");
  for (const std::string& dot : {capture, all}) {
    CHECK(balanced(dot));
    CHECK(count(dot, "peripheries=2") == 26);
    // Every edge joins two nodes that are there.
    const std::regex edge("i([0-9]+) -> i([0-9]+);");
    std::size_t edges = 0;
    for (std::sregex_iterator e(dot.begin(), dot.end(), edge); e != std::sregex_iterator(); ++e, ++edges)
      for (const std::string& end : {(*e)[1].str(), (*e)[2].str()})
        CHECK(contains(dot, " i" + end + " [label=\"%" + end + " "));
    CHECK(edges > 100);
  }
  CHECK(contains(capture, "conv2d\\nf32[32, 26, 26, 32]\\n2.8 MB\\n12.5 MFLOP"));
  CHECK_FALSE(contains(capture, "subgraph"));
  CHECK(contains(all, "subgraph cluster_tiles"));
}

TEST_CASE("graph command: Graphviz takes the dot text and draws it") {
  if (run_shell("command -v dot >/dev/null").code != 0) {
    skipped("graph command: Graphviz takes the dot text and draws it", "Graphviz is not installed");
    return;
  }
  CHECK(contains(shown("--step --batch 32 --format svg"), "</svg>"));
}

TEST_CASE("graph command: svg is what dot makes of the dot text; its absence and its errors are told") {
  const Scratch scratch;
  const std::string echo = path_with(scratch, "dot", "#!/bin/sh\necho \"<svg> $1\"\ngrep -c label= \"$2\"\n");
  const Run drawn = graph("--batch 2 --format svg", echo);
  CHECK(drawn.code == 0);
  CHECK(drawn.output ==
        "<svg> -Tsvg\n" + std::to_string(count(shown("--batch 2 --format dot"), "label=")) + "\n");

  const Scratch other;
  const Run failing =
      graph("--batch 2 --format svg", path_with(other, "dot", "#!/bin/sh\necho no fonts >&2\nexit 3\n"));
  CHECK(failing.code == 1);
  CHECK(contains(failing.output, "dot ended with exit code 3: no fonts"));

  const Run missing = graph("--batch 2 --format svg", "PATH=/nowhere");
  CHECK(missing.code == 1);
  CHECK(contains(missing.output, "apt install graphviz"));

  const Run much = graph("--work chain2000 --after capture --format svg", echo);
  CHECK(much.code == 1);
  CHECK(contains(much.output, "values are more than the 3000"));
}

TEST_CASE("graph command: --output writes the same to a file, and only the report is printed") {
  const Scratch scratch;
  const std::string file = scratch.path("program.txt");
  CHECK(shown("--batch 2 --output '" + file + "'") == "written to " + file + "\n");
  std::ifstream in(file);
  CHECK(std::string(std::istreambuf_iterator<char>(in), {}) == shown("--batch 2"));
  const std::string report = shown("--batch 2 --format dot --report --output '" + file + "'");
  CHECK(contains(report, "\npass "));
  CHECK_FALSE(contains(report, "digraph"));
  const Run nowhere = graph("--batch 2 --output /no/such/folder/x");
  CHECK(nowhere.code == 1);
  CHECK(contains(nowhere.output, "/no/such/folder"));
}

TEST_CASE("graph command: --help lists options and passes; wrong usage says what is wrong and ends with 2") {
  const std::string help = shown("--help");
  for (const char* option :
       {"--backward", "--step", "--batch", "--after", "--format", "--report", "--output", "--work"})
    CHECK_MESSAGE(contains(help, option), option);
  CHECK(contains(help, "pointwise  neighbours of one shape"));

  const auto refused = [](const std::string& arguments, const std::string& words) {
    const Run r = graph(arguments);
    CHECK_MESSAGE(r.code == 2, arguments << ": " << r.output);
    CHECK_MESSAGE(contains(r.output, "Usage:"), arguments);
    CHECK_MESSAGE(contains(r.output, words), r.output);
  };
  refused("--after pointwize", "there is no pass \"pointwize\"; --after takes capture, simplify, ");
  refused("--backward --step", "either --backward or --step");
  refused("--work infer1 --step", "--work infer1 is shown as it runs");
  refused("--work seed_128", "there is no work \"seed_128\"; near: seed_b128");
  refused("--format dot --report", "--report is text; with --format dot give --output FILE");
  refused("--format png", "png");
  refused("--batch 0", "0 is not a whole number from 1 to 1000000");
  refused("--batch x", "x is not a whole number from 1 to 1000000");
  refused("surplus", "surplus");
}

TEST_CASE("graph command: the page shows what is printed, line by line") {
  std::ifstream in(OPGRAD_SOURCE_DIR "/graph/README.md");
  const std::string page(std::istreambuf_iterator<char>(in), {});
  const auto begin = page.find("```text\n") + 8;
  const std::regex line_number("graph\\.cpp:[0-9]+");
  const auto plain = [&](const std::string& text) {
    return std::regex_replace(text, line_number, "graph.cpp:1");
  };
  const std::string said = plain(shown("--batch 2"));
  const std::vector<std::string> listing = lines_of(page.substr(begin, page.find("```", begin) - begin));
  CHECK(listing.size() > 10);
  for (const std::string& line : listing) {
    std::string text = plain(line.substr(0, line.find(" ...")));
    // The baseline has no loops of machine code.
    if (opgrad::isa() == opgrad::Isa::baseline)
      text = std::regex_replace(text, std::regex(" as one loop"), "");
    CHECK_MESSAGE(contains("\n" + said, "\n" + text), line);
  }
}

TEST_CASE("graph command: the page's table of passes has each of them, in the order in which they run") {
  std::ifstream in(OPGRAD_SOURCE_DIR "/graph/README.md");
  const std::string page(std::istreambuf_iterator<char>(in), {});
  std::vector<std::string> on_page, known{"capture"};
  const std::regex row("\n\\| `(\\w+)` \\|");
  for (std::sregex_iterator m(page.begin(), page.end(), row); m != std::sregex_iterator(); ++m)
    on_page.push_back((*m)[1]);
  for (const Listed& pass : listed_passes()) known.push_back(pass.name);
  CHECK(on_page == known);
}

TEST_CASE("bench command: --profile lists the steps, the slowest first, their sum, the rest and the whole") {
  const Run r = command("bench mlp_b128 --profile --seconds 0 --repetitions 3");
  REQUIRE_MESSAGE(r.code == 0, r.output);
  CHECK(contains(r.output, "3 runs"));
  CHECK_FALSE(lines_with(r.output, "matmul").empty());
  for (const char* total : {"all steps", "the rest: ", "the whole"})
    CHECK_MESSAGE(lines_with(r.output, total).size() == 1, total);
  std::vector<double> times;
  for (const std::string& line : lines_of(r.output)) {
    std::smatch m;
    if (std::regex_search(line, m, std::regex("^ +[0-9]+ +([0-9.]+) +[0-9.]+ %")))
      times.push_back(std::stod(m[1]));
  }
  CHECK(times.size() > 5);
  CHECK(std::ranges::is_sorted(times, std::ranges::greater{}));
}

TEST_CASE("bench command: --passes has a row with all passes, one without each, and one without any") {
  const Run r = command("bench infer1 --passes --seconds 0 --repetitions 1");
  REQUIRE_MESSAGE(r.code == 0, r.output);
  CHECK(contains(r.output, "\nnone "));
  for (const Listed& pass : listed_passes())
    CHECK_MESSAGE(contains(r.output, "\n" + pass.name + " "), pass.name);
  CHECK(contains(r.output, "\nevery pass "));
}

TEST_CASE("bench command: --profile and --passes want works, each other's absence and no --json") {
  for (const char* wrong : {"--profile", "--passes", "infer1 --profile --passes", "infer1 --profile --json",
                            "infer1 --passes --json", "quicksort --profile"}) {
    const Run r = command(std::string("bench ") + wrong);
    CHECK_MESSAGE(r.code == 2, wrong << ": " << r.output);
    CHECK_MESSAGE(contains(r.output, "Usage:"), wrong);
  }
}
