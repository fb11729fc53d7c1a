#include <cstdio>

#include "graph/passes.h"
#include "graph/plan.h"
#include "graph/run.h"
#include "opgrad.h"
using namespace opgrad;

// square(abs(x)) = square(x), bit for bit: a square does not see the sign.
void square_of_abs(Program& program) {
  Rewrite r(program);
  const Program& from = r.from();
  for (std::uint32_t i = 0; i < from.items.size(); ++i) {
    const Item& y = from.items[i];
    const Item* const abs = y.op == &records::square_op ? &from.items[from.inputs_of(y)[0]] : nullptr;
    if (!abs || abs->op != &records::abs_op) {
      r.keep(i);
      continue;
    }
    const std::uint32_t x = r.of(from.inputs_of(*abs)[0]);
    r.replace(i, r.op(*y.op, y.attributes, {&x, 1}, y.dtype, y.shape, y.node));
  }
  program = r.finish();
}

int main() {
  add_pass({"square_of_abs", "square(abs(x)) becomes square(x)", square_of_abs});
  for (const char* set : {"-square_of_abs", "all"}) {
    set_passes(PassSet::parse(set));
    const std::string y = to_string(sum(square(abs(tensor({-1.0, 2.0, -3.0})))));
    std::printf("%s: %s\n%s", set, y.c_str(), to_text(last_plan()->program).c_str());
  }
}
