// Origins are interned: a node carries one pointer. A small cache per thread keeps the common case free of
// locks.
#include "scope.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>

namespace opgrad {
namespace {

struct Context {
  Location outer;                  // set while a CallScope is open
  const Origin* forced = nullptr;  // set while an OriginScope is open
  const char* path = "";
  std::array<const Origin*, 64> cache{};
};
thread_local Context context;

std::mutex table_lock;

const Origin* intern_origin(Location where, const char* path) {
  static auto& table = *new std::map<std::tuple<const char*, int, const char*>, std::unique_ptr<Origin>>;
  const std::scoped_lock hold(table_lock);
  auto& entry = table[{where.file, where.line, path}];
  if (!entry) entry = std::make_unique<Origin>(Origin{where, path});
  return entry.get();
}

const char* intern_path(std::string path) {
  static auto& table = *new std::set<std::string>;
  const std::scoped_lock hold(table_lock);
  return table.insert(std::move(path)).first->c_str();
}

}  // namespace

const Origin* origin_at(Location where) {
  if (context.forced) return context.forced;
  if (context.outer.file[0]) where = context.outer;
  const auto mixed =
      reinterpret_cast<std::uintptr_t>(context.path) / 8 + static_cast<std::uintptr_t>(where.line);
  const Origin*& cached = context.cache[mixed % context.cache.size()];
  if (!cached || cached->where.line != where.line || cached->where.file != where.file ||
      cached->path != context.path)
    cached = intern_origin(where, context.path);
  return cached;
}

std::string to_string(const Origin& o) {
  std::string_view file = o.where.file;
  if (const auto slash = file.rfind('/'); slash != file.npos) file.remove_prefix(slash + 1);
  std::string s = file.empty() ? "an unknown line" : fmt::format("{}:{}", file, o.where.line);
  if (o.path[0]) s += fmt::format(" ({})", o.path);
  return s;
}

CallScope::CallScope(Location where) : outermost_(!context.outer.file[0]) {
  if (outermost_) context.outer = where;
}
CallScope::~CallScope() {
  if (outermost_) context.outer = {};
}

PathScope::PathScope(std::string_view name) : before_(context.path) {
  context.path = intern_path(before_[0] ? fmt::format("{}/{}", before_, name) : std::string(name));
}
PathScope::~PathScope() { context.path = before_; }

OriginScope::OriginScope(const Origin* origin) : before_(context.forced) { context.forced = origin; }
OriginScope::~OriginScope() { context.forced = before_; }

const char* module_path() { return context.path; }

}  // namespace opgrad
