// An operation under a given name: what the plug-ins of the tests hold when it does not matter what they
// compute.
#pragma once
#include "../../graph/registry.h"

constexpr opgrad::Op idle(const char* name) {
  using namespace opgrad;
  return {.name = name,
          .arity = 1,
          .about = "zero",
          .shape =
              [](const Call& call) {
                return Result{call.dtype(0), call.shape_id(0)};
              },
          .forward = [](const KernelArgs&) {},
          .backward = no_gradient};
}
