// Dead code: what no output needs is dropped. Later passes then look at live items alone.
#include <algorithm>
#include <utility>

#include "passes.h"

namespace opgrad {

void drop_dead(Program& p) {
  const std::vector<bool> live = reached(p);
  if (std::find(live.begin(), live.end(), false) == live.end()) return;
  std::vector<std::uint32_t> stands_for(live.size(), no_index);
  for (std::uint32_t i = 0; i < live.size(); ++i)
    if (live[i]) stands_for[i] = i;
  keep_representatives(p, std::move(stands_for));
  p.items.shrink_to_fit();
}

}  // namespace opgrad
