// Numbering a graph of nodes: inputs before users, with an explicit stack. Numbers live in the nodes while a
// Numbering is alive, so one thread numbers at a time; everybody else waits. Kept short, therefore.
#pragma once
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "ir.h"
#include "reused.h"

namespace opgrad {

class Numbering {
 public:
  // Walks from the roots through inputs, depth first, in the order of the inputs. Nodes that have a value are
  // met but not walked through, unless `through_values`.
  Numbering(std::span<Node* const> roots, bool through_values);
  ~Numbering();
  Numbering(const Numbering&) = delete;
  Numbering& operator=(const Numbering&) = delete;

  // Every node met, each after its inputs.
  const std::vector<Node*>& nodes() const { return nodes_; }
  static std::uint32_t of(const Node* n) { return n->index - 1; }
  static bool met(const Node* n) { return n->index != 0; }
  // The same nodes, which have their numbers no longer. To be given back, when done with, as memory for the
  // next.
  std::vector<Node*> finish();
  static void give_back(std::vector<Node*>& nodes) noexcept { Reused<Node*, Numbering>::give_back(nodes); }

 private:
  void walk(Node* root, bool through_values, std::vector<Node*>& stack);
  void forget() noexcept;

  std::scoped_lock<std::mutex> hold_;
  std::vector<Node*> nodes_;
};

}  // namespace opgrad
