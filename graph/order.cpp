// Depth-first numbering with an explicit stack; the same order as a recursive post-order walk.
#include "order.h"

namespace opgrad {
namespace {
std::mutex numbering_lock;
constexpr std::uint32_t on_stack = ~std::uint32_t{0};
}  // namespace

Numbering::Numbering(std::span<Node* const> roots, bool through_values) : hold_(numbering_lock) {
  struct Frame {
    Node* node;
    std::uint32_t next;
  };
  thread_local std::vector<Frame> stack;
  stack.clear();
  const auto visit = [&](Node* n) {
    if (n->index) return;
    n->index = on_stack;
    stack.push_back({n, 0});
  };
  for (Node* root : roots) {
    visit(root);
    while (!stack.empty()) {
      Frame& top = stack.back();
      Node* const n = top.node;
      const auto inputs = n->value && !through_values ? std::span<Node* const>{} : n->inputs();
      if (top.next < inputs.size()) {
        visit(inputs[top.next++]);
        continue;
      }
      stack.pop_back();
      nodes_.push_back(n);
      n->index = static_cast<std::uint32_t>(nodes_.size());
    }
  }
}

Numbering::~Numbering() {
  for (Node* n : nodes_) n->index = 0;
}

}  // namespace opgrad
