#include <doctest/doctest.h>

#include "opgrad.h"
#include "ops/define.h"
#include "ops/gradtest/macro.h"
using namespace opgrad;

Tensor softplus(const Operand& x);

OPGRAD_GRADTEST("mine.softsign");
OPGRAD_GRADTEST("mine.swish");
OPGRAD_GRADTEST("mine.logsumexp");

TEST_CASE("softplus has the gradient that it states") {
  const auto f = [](std::span<const Tensor> x) { return softplus(x[0]); };
  const GradtestReport report = gradtest("softplus", f, {sample({3, 4}, -3, 3)});
  CHECK_MESSAGE(report.passed(), report.table());
}
