// Depth-first numbering with an explicit stack; the same order as a recursive post-order walk.
#include "order.h"

#include <utility>

namespace opgrad {
namespace {

std::mutex numbering_lock;

// While a node is on the stack its index is this and how many of its inputs have been looked at.
constexpr std::uint32_t on_stack = std::uint32_t{1} << 31;

}  // namespace

Numbering::Numbering(std::span<Node* const> roots, bool through_values)
    : hold_(numbering_lock), nodes_(Reused<Node*, Numbering>::take()) {
  struct Stack;
  Reused<Node*, Stack> stack;
  try {
    for (Node* root : roots)
      if (!root->index) walk(root, through_values, *stack);
  } catch (...) {
    forget();
    for (Node* n : *stack) n->index = 0;
    throw;
  }
}

Numbering::~Numbering() {
  forget();
  give_back(nodes_);
}

std::vector<Node*> Numbering::finish() {
  forget();
  return std::move(nodes_);
}

void Numbering::forget() noexcept {
  for (Node* n : nodes_) n->index = 0;
}

void Numbering::walk(Node* root, bool through_values, std::vector<Node*>& stack) {
  const auto inputs_of = [through_values](const Node* n) {
    return n->value && !through_values ? std::span<Node* const>{} : n->inputs();
  };
  const auto number = [this](Node* n) {
    nodes_.push_back(n);
    n->index = static_cast<std::uint32_t>(nodes_.size());
  };
  stack.push_back(root);
  while (!stack.empty()) {
    Node* const n = stack.back();
    const auto inputs = inputs_of(n);
    std::uint32_t next = n->index & ~on_stack;
    Node* deeper = nullptr;
    while (next < inputs.size() && !deeper) {
      Node* const input = inputs[next++];
      if (input->index) continue;
      if (inputs_of(input).empty())
        number(input);
      else
        deeper = input;
    }
    n->index = on_stack | next;
    if (deeper) {
      stack.push_back(deeper);
    } else {
      number(n);
      stack.pop_back();
    }
  }
}

}  // namespace opgrad
