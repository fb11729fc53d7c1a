#include <doctest/doctest.h>

#include "opgrad.h"
#include "ops/define.h"
#include "ops/gradtest/macro.h"
using namespace opgrad;

Tensor gelu(const Operand& x);
Tensor softplus(const Operand& x);

OPGRAD_GRADTEST("mine.softsign");
OPGRAD_GRADTEST("mine.swish");
OPGRAD_GRADTEST("mine.logsumexp");
OPGRAD_GRADTEST("mine.clip");

TEST_CASE("gelu has the gradient that follows from its parts") {
  const auto f = [](std::span<const Tensor> x) { return gelu(x[0]); };
  const GradtestReport report = gradtest("gelu", f, {sample({3, 4}, -3, 3)});
  CHECK_MESSAGE(report.passed(), report.table());
}

TEST_CASE("softplus has the gradient that it states") {
  const auto f = [](std::span<const Tensor> x) { return softplus(x[0]); };
  const GradtestReport report = gradtest("softplus", f, {sample({3, 4}, -3, 3)});
  CHECK_MESSAGE(report.passed(), report.table());
}
