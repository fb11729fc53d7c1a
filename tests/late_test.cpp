// Static objects that compute when they are destroyed: after the threads' own objects, and when the tests are
// over. What goes wrong there ends the program with an error.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "../graph/run.h"
#include "../ops/ops.h"
#include "kept_scratch.h"
#include "skipped.h"

using namespace opgrad;

namespace {

float folded(const Tensor& x) { return sum(permute(x, {2, 1, 0}) * 2.0F, {0, 2}).to_vector<float>()[0]; }

struct Late {
  Tensor x;
  float expected = 0;
  ~Late() {
    if (!x || folded(x) == expected) return;
    std::fputs("a static object's destructor computes something else\n", stderr);
    std::abort();
  }
};
Late late;

}  // namespace

TEST_CASE("late: a static object computes when it is destroyed") {
  late.x = random_uniform(random_key({1, 2}), {64, 8, 64});
  late.expected = folded(late.x);
  CHECK(late.expected > 0);
}

TEST_CASE("late: a thread's own object computes when the thread ends") {
  // The few bytes that it uses behind the thread's own are not given back, which LeakSanitizer tells.
  if (!test::keeps_scratch())
    return skipped("late: a thread's own object computes when the thread ends", test::no_scratch_kept);
  std::thread([] {
    thread_local Late own;
    own.x = random_uniform(random_key({1, 3}), {64, 8, 64});
    own.expected = folded(own.x);
    CHECK(own.expected > 0);
  }).join();
}
