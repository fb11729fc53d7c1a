// One call that may be refused: whether it is, without a trace and by a proper text, and whether what is
// accepted runs.
#pragma once
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "../core/buffer.h"
#include "../graph/registry.h"
#include "../graph/run.h"
#include "bad_calls.h"

namespace opgrad::test {

inline constexpr const char* user_line = "users_file.cpp:4711";

enum class End { refused, accepted, faulty };
struct Outcome {
  End end;
  std::string text;  // of the refusal, or of the fault
  Tensor result;
  std::string said() const { return text.substr(0, text.find("\n  at ")); }  // without the place
};

inline std::vector<Tensor> inputs_of(const Attempt& a, bool as_leaves) {
  std::vector<Tensor> xs;
  for (const auto& t : a.in)
    xs.push_back(!t ? Tensor() : as_leaves ? zero_leaf(*t) : full(t->shape, 0, t->dtype));
  return xs;
}

inline Tensor make_call(const Attempt& a, std::span<const Tensor> xs) {
  const CallScope scope({"users_file.cpp", 4711});
  if (a.call) return a.call(xs);
  std::vector<Node*> nodes;
  for (const Tensor& x : xs) nodes.push_back(x.node());
  return make_node(*a.op, nodes, {}, a.attributes.empty() ? nullptr : a.attributes.data());
}

// The functions that users may call, from the pages that declare them.
inline bool public_function(const std::string& name) {
  static const std::string pages = [] {
    std::string all;
    for (const char* page : {"/ops/ops.h", "/graph/ir.h"}) {
      std::ifstream in(std::string(OPGRAD_SOURCE_DIR) + page);
      all.append(std::istreambuf_iterator<char>(in), {});
    }
    return all;
  }();
  return pages.find("Tensor " + name + "(") != pages.npos;
}

// What is wrong with the text of a refusal; empty if nothing is. A call through an example, and one that is
// run, may be refused in the name of the function that the user wrote.
inline std::string fault_in_text(const Attempt& a, const std::string& text, bool by_public_name) {
  const std::string name = text.substr(0, text.find(": "));
  // An example may itself look at the type of what it was given.
  if (a.call && text.starts_with("the ") && text.ends_with("of an empty Tensor")) return {};
  if (by_public_name ? !find_op(name) && !public_function(name) : name != a.op->name)
    return "does not begin with the operation's name";
  const auto where = text.find("\n  at ");
  if (where == text.npos || text.substr(where + 6) != user_line) return "does not end with the user's line";
  return {};
}

struct State {
  std::uint64_t requests = memory_stats().requests;
  std::vector<const Op*> ops = all_ops();
  std::vector<std::uint32_t> refs;
  explicit State(std::span<const Tensor> xs) {
    for (const Tensor& x : xs) refs.push_back(x ? x.node()->refs.load() : 0);
  }
  bool operator==(const State&) const = default;
};

inline Outcome attempt(const Attempt& a) {
  const std::vector<Tensor> xs = inputs_of(a, false);
  const State before(xs);
  Outcome o{End::accepted, {}, {}};
  try {
    o.result = make_call(a, xs);
    if (memory_stats().requests != before.requests) return {End::faulty, "building it took memory", {}};
    return o;
  } catch (const UserError& e) {
    o = {End::refused, e.what(), {}};
  } catch (const std::exception& e) {
    return {End::faulty, std::string("it was refused by another error: ") + e.what(), {}};
  }
  if (!(State(xs) == before)) return {End::faulty, "memory, registry or inputs changed: " + o.text, {}};
  if (const std::string fault = fault_in_text(a, o.text, a.call != nullptr); !fault.empty())
    return {End::faulty, "the text " + fault + ": " + o.text, {}};
  return o;
}

// What is wrong with an accepted call: its nodes' types, and, where all of them are small, its run.
inline std::string fault_of_accepted(const Attempt& a, const Tensor& y, int& ran) {
  double size = 0;
  for (const Tensor& t : nodes_behind(y)) {
    const Node* const n = t.node();
    size += static_cast<double>(t.numel());
    if (n->inputs().empty()) continue;
    const Result r = n->op->shape(Call{*n->op, n->inputs(), n->attributes()});
    if (r.dtype != n->dtype || r.shape != n->shape) return "the node's type is not its shape rule's";
  }
  if (size > 65536) return {};
  try {
    const Tensor result = make_call(a, inputs_of(a, true));
    eval(result);
    ++ran;
    if (result.dtype() != y.dtype() || result.shape() != y.shape()) return "the type depends on the values";
  } catch (const UserError& e) {  // an index of 0 where there is nothing to index
    if (const std::string fault = fault_in_text(a, e.what(), true); !fault.empty())
      return "the text of its run " + fault + ": " + e.what();
  } catch (const std::exception& e) {
    return std::string("its run failed: ") + e.what();
  }
  return {};
}

}  // namespace opgrad::test
