// How much memory a chain of nodes takes. The first file by name, and so the first to run: what other tests
// leave behind would serve its nodes uncounted.
#include <doctest/doctest.h>

#include <cstddef>

#include "../../core/buffer.h"
#include "../../graph/grad.h"
#include "../../graph/run.h"
#include "../../ops/ops.h"
#include "replaced_new.h"

using namespace opgrad;

// A multiplication in a chain is three nodes: itself, its number, and its gradient.
TEST_CASE("memory: a chain, its gradient and the run of it take at most 180 bytes a node") {
  const Tensor x = variable(tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F, 7.0F, 8.0F}));
  // What earlier chains leave behind counts for later ones, which may use it.
  const std::size_t live_before = test::live_bytes(), buffers_before = memory_stats().live_bytes;
  for (const std::size_t nodes : {10'000U, 100'000U, 1'000'000U}) {
    CAPTURE(nodes);
    clear_plan_cache();
    test::reset_peak_live_bytes();
    reset_peak_bytes();
    {
      Tensor y = x;
      for (std::size_t i = 0; i < nodes / 3; ++i) y = y * 1.0000001;
      CHECK(grad(sum(y), x).to_vector<float>()[0] > 1);
    }
    const std::size_t bytes =
        test::peak_live_bytes() - live_before + (memory_stats().peak_bytes - buffers_before);
    const double each = static_cast<double>(bytes) / static_cast<double>(nodes);
    CHECK(each <= 180);
  }
}
