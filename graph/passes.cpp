// The pipeline, and the names by which its parts are switched.
#include "passes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>

namespace opgrad {
namespace {

struct Entry {
  Pass pass;
  int bit;
};

struct Pipeline {
  std::mutex lock;
  std::vector<Entry> entries{
      {{"simplify", "local algebra: the simplify rules of the records, bit for bit", simplify}, 0},
      {{"constants", "what depends on known numbers alone is computed once, by its own kernel",
        fold_constants},
       1},
      {{"merge", "equal operations on equal inputs become one", merge_equal}, 2},
      {{"movement", "chains of views that lead back to where they began are cancelled", cancel_movements}, 3},
      {{"dead", "what no output needs is dropped", drop_dead}, 4},
      {{"order", "an order of steps whose peak of live bytes is low", order_for_low_peak}, 5},
      {{"pointwise", "neighbours of one shape run tile by tile in cache", fuse_pointwise}, 6},
      {{"epilogue", "a group that reads a kernel's result runs on each piece of it while that is in cache",
        attach_epilogues},
       7},
      {{"reductions", "a reduction reads a group's result piece by piece as it is made", feed_reductions},
       12},
      {{"rows",
        "what treats the images of a batch apart runs on some of them before the next; sums over all are "
        "folded on the way",
        fuse_rows},
       8},
      {{"in_place", "a pointwise result takes over the memory of an input that ends with it", nullptr}, 9},
      {{"arena", "buffers whose lives do not overlap share memory", nullptr}, 10},
      {{"compile", "members of a group become one loop of machine code", nullptr}, 11}};
};
Pipeline& pipeline() {
  static auto& p = *new Pipeline;
  return p;
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const Entry& e : pipeline().entries) all.emplace_back(e.pass.name);
  return all;
}

// With the lock held.
const Entry* find(std::string_view name) {
  const auto& entries = pipeline().entries;
  const auto found =
      std::ranges::find(entries, name, [](const Entry& e) { return std::string_view(e.pass.name); });
  return found == entries.end() ? nullptr : &*found;
}

std::uint64_t bit_of(std::string_view name) {
  const std::scoped_lock hold(pipeline().lock);
  if (const Entry* e = find(name)) return std::uint64_t{1} << e->bit;
  throw UserError(fmt::format("there is no pass \"{}\"; the passes: {}", name, fmt::join(names(), ", ")));
}

// The set in force; all ones stands for "not yet asked".
std::atomic<std::uint64_t> current{~std::uint64_t{0}};
std::atomic<bool> verify_each{false}, even_for_few{false};

}  // namespace

std::vector<Pass> passes() {
  const std::scoped_lock hold(pipeline().lock);
  std::vector<Pass> all;
  for (const Entry& e : pipeline().entries) all.push_back(e.pass);
  return all;
}

void add_pass(const Pass& pass, std::string_view before) {
  const std::string_view name = pass.name ? pass.name : "";
  const bool plain = !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (!plain || name == "all" || name == "none")
    throw UserError(fmt::format(
        "add_pass: \"{}\" cannot name a pass; use letters, digits and underscores, and neither all nor none",
        name));
  if (!pass.run) throw UserError(fmt::format("add_pass: the pass \"{}\" has no function to run", name));
  const PassSet on = current_passes();
  const std::scoped_lock hold(pipeline().lock);
  auto& entries = pipeline().entries;
  if (find(name)) throw UserError(fmt::format("add_pass: there is a pass \"{}\" already", name));
  const Entry* place = find(before);
  if (!place)
    throw UserError(fmt::format("add_pass: \"{}\" shall run before \"{}\", which is no pass; the passes: {}",
                                name, before, fmt::join(names(), ", ")));
  const int bit = static_cast<int>(entries.size());
  if (bit >= 63)
    throw UserError(fmt::format("add_pass: \"{}\" would be pass number {} of at most 63", name, bit + 1));
  entries.insert(entries.begin() + (place - entries.data()), {pass, bit});
  current = on.bits() | std::uint64_t{1} << bit;
}

PassSet PassSet::all() {
  const std::scoped_lock hold(pipeline().lock);
  return PassSet((std::uint64_t{1} << pipeline().entries.size()) - 1);
}

PassSet PassSet::parse(std::string_view text) {
  if (text == "all") return all();
  if (text == "none") return none();
  const bool except = text.starts_with('-');
  PassSet set = except ? all() : none();
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view name = text.substr(at, end - at);
    if (name.starts_with('-') != except)
      throw UserError(fmt::format(
          "passes \"{}\": name those that shall run, \"simplify,pointwise\", or, each with a minus, "
          "those that shall not, \"-simplify,-pointwise\"",
          text));
    set = except ? set.without(name.substr(1)) : set.with(name);
    at = end + 1;
  }
  return set;
}

PassSet PassSet::with(std::string_view name) const { return PassSet(bits_ | bit_of(name)); }
PassSet PassSet::without(std::string_view name) const { return PassSet(bits_ & ~bit_of(name)); }
bool PassSet::has(std::string_view name) const { return bits_ & bit_of(name); }

void set_passes(PassSet set) { current = set.bits(); }

PassSet current_passes() {
  std::uint64_t bits = current;
  if (bits == ~std::uint64_t{0}) {
    const char* text = std::getenv("OPGRAD_PASSES");
    bits = text && *text ? PassSet::parse(text).bits() : PassSet::all().bits();
    current = bits;
  }
  return PassSet(bits);
}

void set_verify(bool on) { verify_each = on; }
void set_thorough(bool on) { even_for_few = on; }
bool thorough() { return even_for_few; }

void run_passes(Program& p, PassSet set, std::vector<PassReport>* report) {
  using Clock = std::chrono::steady_clock;
  if (verify_each) verify(p, "capture");
  bool order_from_here = false;
  for (const Pass& pass : passes()) {
    // This one and all that follow it work on the order of steps.
    if (pass.run == order_for_low_peak) order_from_here = true;
    if (order_from_here && p.order.empty()) schedule(p);
    if (!pass.run || !set.has(pass.name)) continue;
    const std::size_t before = p.items.size();
    const auto begin = Clock::now();
    pass.run(p);
    if (report)
      report->push_back({pass.name, before, p.items.size(),
                         std::chrono::duration<double, std::milli>(Clock::now() - begin).count()});
    if (verify_each) verify(p, pass.name);
  }
}

}  // namespace opgrad
