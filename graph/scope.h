// Where nodes come from: the user's line, the module path. Composites, modules and backward rules open
// scopes, inside which every node takes the outermost user line.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "../core/error.h"

namespace opgrad {

// A place in the user's program; one object per distinct (file, line, path), never freed.
struct Origin {
  Location where;
  const char* path;  // "net/conv2d", "" outside modules
  std::uint32_t number;
};

// A pointer to an Origin in half the bytes.
class OriginId {
 public:
  OriginId() = default;
  OriginId(const Origin* o) : number_(o->number) {}
  operator const Origin*() const;
  const Origin* operator->() const { return *this; }

 private:
  std::uint32_t number_ = 0;
};

// The origin that a node made now at `where` gets.
OriginId origin_at(Location where);

// "net.cpp:42 (net/conv2d)"; file names lose their folders.
std::string to_string(const Origin&);

// While it lives on this thread, nodes take `where` as their line unless an outer CallScope is open already.
class CallScope {
 public:
  explicit CallScope(Location where);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

 private:
  bool outermost_;
};

// While it lives on this thread, "/name" is appended to the module path.
class PathScope {
 public:
  explicit PathScope(std::string_view name);
  ~PathScope();
  PathScope(const PathScope&) = delete;
  PathScope& operator=(const PathScope&) = delete;

 private:
  const char* before_;
};

// While it lives on this thread, every node takes this origin: gradient nodes that of their forward node.
class OriginScope {
 public:
  explicit OriginScope(OriginId origin);
  ~OriginScope();
  OriginScope(const OriginScope&) = delete;
  OriginScope& operator=(const OriginScope&) = delete;
  // From now on this one.
  void move_to(OriginId origin);

 private:
  OriginId before_;
  bool outermost_;
};

// The module path now: "net/conv2d".
const char* module_path();

}  // namespace opgrad
