// The one registry of operations of a process, and the line by which a file of one's own joins it.
//
//     OPGRAD_REGISTER(softsign_op)
//
// at namespace scope, once per file, with all records of that file. It works unchanged in a file that is
// linked into a program and in one that is built as a shared object for load_plugin (plugin.h).
#pragma once
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir.h"
#include "version.h"

extern "C" {
// Its address tells one copy of opgrad from another.
extern __attribute__((visibility("default"))) const char opgrad_registry_identity;
}

namespace opgrad {

// Adds a record; harmless when the same object is there already. UserError when another record has the name,
// when the name is not lower case letters, digits, '_' and '.', or when shape rule, kernel or backward word
// is missing. Within load_plugin it only takes a note: those checks come when the file has been loaded.
void register_op(const Op& op);

// All records in order of registration; the record of that name, null if none.
std::vector<const Op*> all_ops();
const Op* find_op(std::string_view name);

// Where a registered record comes from: "built in", "linked into <program>", or the file of the plug-in.
// UserError for a record that is not registered.
std::string source_of(const Op& op);

// Registered names like a name that is none, the nearest first: at most three, which differ in no more than a
// third of their letters (Levenshtein's distance) or contain it.
std::vector<std::string> near_names(std::string_view name);

// What load_plugin reads of a shared object before it trusts a record of it. Plain data, so that it can be
// read whatever version made it.
struct PluginDescription {
  std::uint64_t magic;        // plugin_magic
  const char* version;        // of the headers that it was compiled with
  std::uint64_t record_size;  // sizeof(Op) there
  const void* identity;       // of the registry that its calls reach
};
inline constexpr std::uint64_t plugin_magic = 0x6f70'6772'6164;  // "opgrad"

namespace detail {

// What OPGRAD_REGISTER does while the program starts: register_op. What it refuses ends the program with the
// message, since nobody could catch an error there.
void register_linked(const Op& op) noexcept;
template <std::same_as<Op>... Ops>
bool register_records(const Ops&... ops) {
  (register_linked(ops), ...);
  return true;
}

// As register_op, for those that come with opgrad.
void register_builtin(const Op& op);

// While it lives, register_op takes its notes of this thread's records here.
class PendingRecords {
 public:
  PendingRecords();
  ~PendingRecords();
  PendingRecords(const PendingRecords&) = delete;
  PendingRecords& operator=(const PendingRecords&) = delete;
  void note(const Op& op) { records_.push_back(&op); }
  const std::vector<const Op*>& records() const { return records_; }

 private:
  std::vector<const Op*> records_;
  PendingRecords* outer_;
};
// Registers all of them as coming from `file`, or none: the reason why not, empty when it is done.
std::string commit_records(std::span<const Op* const> records, const std::string& file);

}  // namespace detail
}  // namespace opgrad

// Registers records at static initialisation and makes a shared object a plug-in. The description is weak, so
// that several files of one plug-in may each have the line; in an archive (.a) it needs a file that is used.
#define OPGRAD_REGISTER(...)                                                                               \
  extern "C" {                                                                                             \
  extern __attribute__((weak, visibility("default"))) const ::opgrad::PluginDescription opgrad_plugin;     \
  const ::opgrad::PluginDescription opgrad_plugin = {::opgrad::plugin_magic, ::opgrad::library_version,    \
                                                     sizeof(::opgrad::Op), &::opgrad_registry_identity};   \
  }                                                                                                        \
  namespace {                                                                                              \
  [[maybe_unused]] const bool opgrad_records_registered = ::opgrad::detail::register_records(__VA_ARGS__); \
  }
