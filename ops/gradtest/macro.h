// The doctest macro of the gradient tester. Include doctest first; this header includes no third party.
#pragma once
#include "gradtest.h"

// A test case for a registered operation: OPGRAD_GRADTEST("mine.softsign");
#define OPGRAD_GRADTEST(operation)                                \
  TEST_CASE("gradtest: " operation) {                             \
    const auto opgrad_report = opgrad::gradtest(operation);       \
    CHECK_MESSAGE(opgrad_report.passed(), opgrad_report.table()); \
  }                                                               \
  static_assert(true, "a semicolon follows")
