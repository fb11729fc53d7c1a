// The passes between capture and plan: a readable list (passes.cpp), each one function in one file, each
// switched by name.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "program.h"

namespace opgrad {

// Rewrites a program into an equal one: the same outputs with the same bits. Every item stands after its
// inputs, before and after.
struct Pass {
  const char* name;
  const char* about;      // one line: what it does and what it gives
  void (*run)(Program&);  // null: the planner looks whether the pass is on
};

// The pipeline in the order in which it runs, passes of the user's included.
std::vector<Pass> passes();
// Adds a pass in front of the one called `before`; it is on from now on. UserError when the name is taken or
// not made of letters, digits and underscores, when `before` is unknown, or when there are 64 passes already.
// The strings must live as long as the process.
void add_pass(const Pass& pass, std::string_view before = "dead");

// A set of passes. UserError, with the names near it, for a name that no pass has.
class PassSet {
 public:
  static PassSet all();
  static PassSet none() { return PassSet(0); }
  // "all", "none", "pointwise,simplify" (these alone) or "-pointwise,-simplify" (all but these).
  static PassSet parse(std::string_view text);
  PassSet with(std::string_view name) const;
  PassSet without(std::string_view name) const;
  bool has(std::string_view name) const;
  std::uint64_t bits() const { return bits_; }
  bool operator==(const PassSet&) const = default;

 private:
  friend PassSet current_passes();
  explicit PassSet(std::uint64_t bits) : bits_(bits) {}
  std::uint64_t bits_;
};

// The passes that plans are made with from now on: at first those that OPGRAD_PASSES names, else all. Plans
// made with others stay in the cache beside them. With none, every node is a step of its own in the order of
// capture, with memory of its own: the naive executor of the tests.
void set_passes(PassSet set);
PassSet current_passes();

// Checks a program: inputs stand before users, the shape rule of every op gives its type again, every output
// has its item. InternalError with the items around the fault, naming `after`, the pass that ran last.
void verify(const Program& p, std::string_view after);
// Whether verify follows every pass; off at first, on in the tests.
void set_verify(bool on);

// Whether passes do also what does not pay for few elements; off at first. For tests.
void set_thorough(bool on);
bool thorough();

// What a pass did: for reports.
struct PassReport {
  const char* name;
  std::size_t items_before, items_after;
  double milliseconds;
};
// Runs these passes on a program that program_of has made. With `report` their effects are appended to it.
void run_passes(Program& p, PassSet set, std::vector<PassReport>* report = nullptr);

// Items [first, last) as text, one a line: "%12 = relu(%11) f32[128, 26, 26, 32]".
std::string to_text(const Program& p, std::uint32_t first = 0, std::uint32_t last = no_index);

// The passes themselves, one file each.
void simplify(Program& p);
void fold_constants(Program& p);
void merge_equal(Program& p);
void cancel_movements(Program& p);
void drop_dead(Program& p);
void order_for_low_peak(Program& p);
void fuse_pointwise(Program& p);
void attach_epilogues(Program& p);
void feed_reductions(Program& p);
void fuse_rows(Program& p);

// The order of capture, with what can neither fail nor be needed by anything else moved to the tail, where
// donated memory may be overwritten: sets order and tail. Part of every plan.
void schedule(Program& p);

}  // namespace opgrad
