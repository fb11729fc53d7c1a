// Origins are interned: a node carries one number. A small cache per thread keeps the common case free of
// locks.
#include "scope.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <bit>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

namespace opgrad {
namespace {

struct Context {
  Location outer;   // set while a CallScope is open
  OriginId forced;  // set while an OriginScope is open
  bool is_forced = false;
  const char* path = "";
  std::array<const Origin*, 64> cache{};
};
constinit thread_local Context* here = nullptr;

Context& new_context() {
  struct Leave {
    ~Leave() { delete std::exchange(here, nullptr); }
  };
  here = new Context;
  thread_local Leave at_exit;
  static_cast<void>(at_exit);
  return *here;
}
Context& context() { return here ? *here : new_context(); }

std::mutex table_lock;

// Origins by number: chunk k has first_chunk * 2^k of them. They never move, and a chunk is there before any
// number inside it is: readers need no lock.
constexpr std::uint32_t first_chunk = 1024;
constinit std::atomic<Origin*> chunks[23] = {};

struct Place {
  std::size_t chunk, offset;
};
Place place_of(std::uint32_t number) {
  const std::uint32_t n = number / first_chunk + 1;
  const auto k = static_cast<std::size_t>(std::bit_width(n)) - 1;
  return {k, number - first_chunk * ((std::size_t{1} << k) - 1)};
}

const Origin* intern_origin(Location where, const char* path) {
  static auto& table = *new std::map<std::tuple<const char*, int, const char*>, const Origin*>;
  const std::scoped_lock hold(table_lock);
  const auto number = static_cast<std::uint32_t>(table.size());
  const auto [entry, is_new] = table.try_emplace({where.file, where.line, path}, nullptr);
  if (!is_new) return entry->second;
  const Place p = place_of(number);
  Origin* chunk = chunks[p.chunk].load(std::memory_order_relaxed);
  if (!chunk) {
    try {
      chunk = new Origin[std::size_t{first_chunk} << p.chunk];
    } catch (...) {
      table.erase(entry);
      throw;
    }
    chunks[p.chunk].store(chunk, std::memory_order_release);
  }
  chunk[p.offset] = {where, path, number};
  return entry->second = chunk + p.offset;
}

const char* intern_path(std::string path) {
  static auto& table = *new std::set<std::string>;
  const std::scoped_lock hold(table_lock);
  return table.insert(std::move(path)).first->c_str();
}

}  // namespace

OriginId origin_at(Location where) {
  Context& c = context();
  if (c.is_forced) return c.forced;
  if (c.outer.file[0]) where = c.outer;
  const auto mixed = reinterpret_cast<std::uintptr_t>(c.path) / 8 + static_cast<std::uintptr_t>(where.line);
  const Origin*& cached = c.cache[mixed % c.cache.size()];
  if (!cached || cached->where.line != where.line || cached->where.file != where.file ||
      cached->path != c.path)
    cached = intern_origin(where, c.path);
  return cached;
}

OriginId::operator const Origin*() const {
  const Place p = place_of(number_);
  return chunks[p.chunk].load(std::memory_order_acquire) + p.offset;
}

std::string to_string(const Origin& o) {
  std::string_view file = o.where.file;
  if (const auto slash = file.rfind('/'); slash != file.npos) file.remove_prefix(slash + 1);
  std::string s = file.empty() ? "an unknown line" : fmt::format("{}:{}", file, o.where.line);
  if (o.path[0]) s += fmt::format(" ({})", o.path);
  return s;
}

CallScope::CallScope(Location where) : outermost_(!context().outer.file[0]) {
  if (outermost_) context().outer = where;
}
CallScope::~CallScope() {
  if (outermost_) context().outer = {};
}

PathScope::PathScope(std::string_view name) : before_(context().path) {
  context().path = intern_path(before_[0] ? fmt::format("{}/{}", before_, name) : std::string(name));
}
PathScope::~PathScope() { context().path = before_; }

OriginScope::OriginScope(OriginId origin) : before_(context().forced), outermost_(!here->is_forced) {
  here->forced = origin;
  here->is_forced = true;
}
void OriginScope::move_to(OriginId origin) { here->forced = origin; }
OriginScope::~OriginScope() {
  here->forced = before_;
  here->is_forced = !outermost_;
}

const char* module_path() { return context().path; }

}  // namespace opgrad
