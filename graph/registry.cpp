// The registry: a list under a lock, read rarely.
#include "registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

namespace opgrad {
namespace {

struct Registry {
  std::mutex lock;
  std::vector<const Op*> ops{&structural::leaf, &structural::number, &structural::add_any,
                             &structural::detach};
};
Registry& registry() {
  static auto& r = *new Registry;
  return r;
}

bool legal_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  });
}

}  // namespace

void register_op(const Op& op) {
  if (!op.name || !legal_name(op.name))
    throw UserError(fmt::format("register_op: the name \"{}\" is not made of a-z, 0-9, '_' and '.'",
                                op.name ? op.name : ""));
  const char* missing = !op.shape                     ? "a shape rule"
                        : !op.forward.run && !op.view ? "a forward kernel"
                        : !op.backward                ? "a backward rule (or the word no_gradient)"
                                                      : nullptr;
  if (missing) throw UserError(fmt::format("register_op: the record of \"{}\" lacks {}", op.name, missing));
  Registry& r = registry();
  const std::scoped_lock hold(r.lock);
  for (const Op* known : r.ops) {
    if (known == &op) return;
    if (std::string_view(known->name) == op.name)
      throw UserError(
          fmt::format("register_op: \"{}\" is taken by the record \"{}\"; choose a name with a prefix "
                      "of your own, like \"mine.{}\"",
                      op.name, known->about, op.name));
  }
  r.ops.push_back(&op);
}

std::vector<const Op*> all_ops() {
  const std::scoped_lock hold(registry().lock);
  return registry().ops;
}

const Op* find_op(std::string_view name) {
  const std::scoped_lock hold(registry().lock);
  for (const Op* op : registry().ops)
    if (name == op->name) return op;
  return nullptr;
}

}  // namespace opgrad
