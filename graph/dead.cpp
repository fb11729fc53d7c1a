// Dead code: what no output needs is dropped. Later passes then look at live items alone.
#include <algorithm>

#include "passes.h"

namespace opgrad {

void drop_dead(Program& p) {
  const std::vector<bool> live = reached(p);
  if (std::find(live.begin(), live.end(), false) == live.end()) return;
  Rewrite r(p);
  for (std::uint32_t i = 0; i < r.from().items.size(); ++i)
    if (live[i]) r.keep(i);
  p = r.finish();
}

}  // namespace opgrad
