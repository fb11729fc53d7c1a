// The graph behind a tensor, as a list.
#pragma once
#include <set>
#include <vector>

#include "../graph/ir.h"

namespace opgrad::test {

// y and all that it is computed from, each once; held, since computing a node may let go of its inputs.
inline std::vector<Tensor> nodes_behind(const Tensor& y) {
  std::vector<Tensor> found{y};
  std::set<Node*> met{y.node()};
  for (std::size_t next = 0; next < found.size(); ++next)
    for (int i = 0; i < found[next].node()->arity; ++i)
      if (Tensor x = found[next].input(i); met.insert(x.node()).second) found.push_back(std::move(x));
  return found;
}

}  // namespace opgrad::test
