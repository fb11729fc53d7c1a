// What a run needs of the user's graph: its structure as a key, and what differs from run to run apart.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "program.h"

namespace opgrad {

// What a run is asked for.
struct Wish {
  Node* node;
  Node* donor = nullptr;  // the leaf whose memory the result may take over, if nobody else holds it
};

struct Capture {
  std::vector<Node*> nodes;                  // inputs before users; valid while the run lasts
  std::vector<Node*> leaves;                 // by slot
  std::vector<double> numbers;               // by number
  std::vector<std::uint8_t> number_is_slot;  // never part of the key
  std::vector<Output> outputs;  // the wishes, in order, then what is held; items are places in `nodes`
  Words key;
  std::uint64_t hash = 0;

  Capture();
  Capture(Capture&&) = default;
  Capture& operator=(Capture&&) = default;
  ~Capture();  // what took much memory goes to this thread's next one
};

// Captures what `wishes` need. With `with_held` every node met that somebody outside the graph holds becomes
// an output too. Donations that somebody else's hold forbids are dropped and counted in `missed`. A graph of
// more than `most` nodes is not captured: the result then has no nodes.
Capture capture(std::span<const Wish> wishes, bool with_held, std::uint64_t& missed,
                std::size_t most = ~std::size_t{0});

// The program behind a capture's key, one item for each node, in the same order. Attributes are copied, so
// that the program outlives the nodes. `fixed` says of each number whether passes may rely on its value.
Program program_of(const Capture& capture, const std::vector<bool>& fixed);

}  // namespace opgrad
