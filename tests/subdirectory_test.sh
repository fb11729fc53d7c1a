#!/bin/bash
# A project that takes opgrad in with add_subdirectory builds and runs against the static and the shared library.
# It compiles all of opgrad anew, so it runs with --long only.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "${OPGRAD_LONG:-0}" -ne 1 ]; then
  echo "takes long, runs with --long"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES CXX)
add_subdirectory($root opgrad)
foreach(kind static shared)
  add_executable(outside_\${kind} outside.cpp)
endforeach()
target_link_libraries(outside_static PRIVATE opgrad::opgrad)
target_link_libraries(outside_shared PRIVATE opgrad::shared)
END
cat >"$work/outside.cpp" <<'END'
#include <cstdio>

#include "opgrad.h"
using namespace opgrad;

int main() {
  Sequential net{Dense(4, relu), Dense(1)};
  SGD sgd{{.learning_rate = 0.1}};
  const Tensor x = tensor<float>({{1, 2, 3}, {4, 5, 6}});
  const Tensor loss = sgd.step(mean(square(net(x) - 1)));
  std::printf("%s %.6f\n", net.digest().c_str(), loss.item());
}
END
cmake -S "$work" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release --log-level=WARNING
cmake --build "$work/build" -j "$(nproc)" --target outside_static outside_shared
of_static=$("$work/build/outside_static")
of_shared=$("$work/build/outside_shared")
echo "static: $of_static, shared: $of_shared"
[ "$of_static" = "$of_shared" ] && [ -n "$of_static" ]
