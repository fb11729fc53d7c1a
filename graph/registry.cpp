// The registry: a list under a lock, read rarely.
#include "registry.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <numeric>
#include <utility>

const char opgrad_registry_identity = 0;

namespace opgrad {
namespace {

struct Entry {
  const Op* op;
  std::string source;
};

struct Registry {
  std::mutex lock;
  std::vector<Entry> entries{{&structural::leaf, "built in"},
                             {&structural::number, "built in"},
                             {&structural::add_any, "built in"},
                             {&structural::detach, "built in"}};
};
Registry& registry() {
  static auto& r = *new Registry;
  return r;
}

thread_local detail::PendingRecords* pending = nullptr;

bool legal_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  });
}

// The program or the library that holds the record; one on the heap is the program's.
std::string linked_into(const Op& op) {
  Dl_info info{};
  void* extra = nullptr;
  std::error_code ignored;
  std::filesystem::path holder = std::filesystem::read_symlink("/proc/self/exe", ignored);
  if (dladdr1(&op, &info, &extra, RTLD_DL_LINKMAP) && extra)
    if (const char* const library = static_cast<const link_map*>(extra)->l_name; *library) holder = library;
  return "linked into " + holder.filename().string();
}

// Why the record cannot stand beside `entries`; empty when it can.
std::string objection(const Op& op, const std::string& source, std::span<const Entry> entries) {
  if (!op.name || !legal_name(op.name))
    return fmt::format("the name \"{}\" is not made of a-z, 0-9, '_' and '.'", op.name ? op.name : "");
  const char* missing = !op.shape                     ? "a shape rule"
                        : !op.forward.run && !op.view ? "a forward kernel"
                        : !op.backward                ? "a backward rule (or the word no_gradient)"
                                                      : nullptr;
  if (missing) return fmt::format("the record of \"{}\" lacks {}", op.name, missing);
  const OverRows& o = op.over_rows;
  if ((o.rows || o.workspace || o.part || o.meet) && !(o.rows && o.workspace && o.part && o.meet))
    return fmt::format(
        "the record of \"{}\" has .over_rows and lacks some of .rows, .workspace, .part and .meet, which all "
        "are needed",
        op.name);
  if (op.forward.inputs && op.forward.inputs != op.arity)
    return fmt::format(
        "the record of \"{}\" says .arity = {}, but its kernel takes {} input{}; map1, map2 and map3 take as "
        "many "
        "as their names say",
        op.name, op.arity, op.forward.inputs, op.forward.inputs == 1 ? "" : "s");
  for (const Entry& known : entries)
    if (known.op != &op && std::string_view(known.op->name) == op.name)
      return fmt::format(
          "\"{}\" is taken by the record \"{}\" ({}), and cannot be that of another one ({}); choose a name "
          "with a prefix of your own, like \"mine.{}\"",
          op.name, known.op->about ? known.op->about : "", known.source, source, op.name);
  return "";
}

void add(const Op& op, const std::string& source) {
  Registry& r = registry();
  const std::scoped_lock hold(r.lock);
  if (std::ranges::any_of(r.entries, [&](const Entry& known) { return known.op == &op; })) return;
  if (const std::string why = objection(op, source, r.entries); !why.empty())
    throw UserError("register_op: " + why);
  r.entries.push_back({&op, source});
}

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j)
      diagonal = std::exchange(row[j + 1], std::min({row[j] + 1, row[j + 1] + 1, diagonal + (a[i] != b[j])}));
  }
  return row.back();
}

}  // namespace

void register_op(const Op& op) {
  if (pending)
    pending->note(op);
  else
    add(op, linked_into(op));
}

void detail::register_builtin(const Op& op) { add(op, "built in"); }

void detail::register_linked(const Op& op) noexcept {
  try {
    register_op(op);
  } catch (const std::exception& e) {
    // A plug-in that brought its own opgrad is for load_plugin of the program's to refuse.
    const void* const first = dlsym(RTLD_DEFAULT, "opgrad_registry_identity");
    if (first && first != &opgrad_registry_identity) return;
    fmt::print(stderr, "opgrad: {}\n", e.what());
    std::_Exit(1);
  }
}

std::vector<const Op*> all_ops() {
  const std::scoped_lock hold(registry().lock);
  std::vector<const Op*> ops;
  for (const Entry& e : registry().entries) ops.push_back(e.op);
  return ops;
}

const Op* find_op(std::string_view name) {
  const std::scoped_lock hold(registry().lock);
  for (const Entry& e : registry().entries)
    if (name == e.op->name) return e.op;
  return nullptr;
}

std::string source_of(const Op& op) {
  const std::scoped_lock hold(registry().lock);
  for (const Entry& e : registry().entries)
    if (e.op == &op) return e.source;
  throw UserError(fmt::format("source_of: the record \"{}\" is not registered; call register_op first",
                              op.name ? op.name : ""));
}

std::vector<std::string> near_names(std::string_view name) {
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const Op* op : all_ops()) {
    const std::string_view known = op->name;
    const std::size_t far = distance(name, known);
    if (3 * far <= std::max(name.size(), known.size()))
      near.emplace_back(far, known);
    else if (name.size() > 1 && known.find(name) != known.npos)
      near.emplace_back(name.size() + known.size(), known);
  }
  std::ranges::sort(near);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < near.size() && i < 3; ++i) names.push_back(near[i].second);
  return names;
}

detail::PendingRecords::PendingRecords() : outer_(std::exchange(pending, this)) {}
detail::PendingRecords::~PendingRecords() { pending = outer_; }

std::string detail::commit_records(std::span<const Op* const> records, const std::string& file) {
  Registry& r = registry();
  const std::scoped_lock hold(r.lock);
  std::vector<Entry> all = r.entries;
  for (const Op* op : records) {
    if (std::ranges::any_of(all, [&](const Entry& known) { return known.op == op; })) continue;
    if (std::string why = objection(*op, file, all); !why.empty()) return why;
    all.push_back({op, file});
  }
  r.entries.swap(all);
  return "";
}

}  // namespace opgrad
