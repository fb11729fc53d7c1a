#!/bin/bash
# opgrad as others get it: installed, moved, and used outside the tree by CMake and by pkg-config, with the static and
# the shared library, by every compiler that is here: a network, an operation linked in and as a plug-in, gradient tests.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${OPGRAD_BUILD_DIR:-$root/build}

skip() {
  echo "$1"
  exit 77
}
fail() {
  echo "FAILED: $1" >&2
  exit 1
}
case ${OPGRAD_MODE:-release} in address | thread) skip "a library with sanitizers is not for installing" ;; esac
for tool in cmake ninja pkg-config g++; do
  command -v $tool >/dev/null || skip "$tool is not installed"
done
[ -f "$build/libopgrad.so" ] && [ -f "$build/libopgrad.a" ] && [ -x "$build/opgrad" ] || skip "$build holds no finished build"
compilers=(g++)
command -v clang++-14 >/dev/null && compilers+=(clang++-14)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/first" >"$work/install.log" || fail "$(cat "$work/install.log")"
mkdir "$work/moved"
mv "$work/first" "$work/moved/opgrad"
installed=$work/moved/opgrad
# Clang 14 writes the paths of sources into __builtin_FILE() whatever it is told.
paths=("$work/first" "$build")
grep -qs 'CMAKE_CXX_COMPILER:.*clang' "$build/CMakeCache.txt" || paths+=("$root/")
for path in "${paths[@]}"; do
  named=$(grep -rlF -- "$path" "$installed" || true)
  [ -z "$named" ] || fail "the installed files name $path: $named"
done

cp "$root/tests/examples/operation.cpp" "$work"
cat >"$work/user.cpp" <<'END_OF_SOURCE'
#include <cstdio>

#include "graph/registry.h"
#include "opgrad.h"
using namespace opgrad;

Tensor softsign(const Operand& x);

int main() {
  Sequential net{Dense(4, softsign), Dense(1)};
  SGD sgd{{.learning_rate = 0.1}};
  const Tensor x = tensor<float>({{1, 2, 3}, {4, 5, 6}});
  for (int i = 0; i < 3; ++i) sgd.step(mean(square(net(x) - 1)));
  std::printf("%zu operations, %s\n", all_ops().size(), net.digest().c_str());
}
END_OF_SOURCE
cat >"$work/gradients.cpp" <<'END_OF_SOURCE'
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <opgrad/opgrad.h>
#include <opgrad/ops/gradtest/macro.h>

OPGRAD_GRADTEST("mine.softsign");
END_OF_SOURCE
cat >"$work/CMakeLists.txt" <<'END_OF_PROJECT'
cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES CXX)
find_package(opgrad 0.1 REQUIRED)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
add_library(operation OBJECT operation.cpp)
add_library(user OBJECT user.cpp)
find_package(doctest REQUIRED)
add_library(gradients OBJECT gradients.cpp)
target_link_libraries(operation PRIVATE opgrad::shared)
target_link_libraries(user PRIVATE opgrad::opgrad)
target_link_libraries(gradients PRIVATE opgrad::opgrad doctest::doctest)
foreach(kind opgrad shared)
  add_executable(gradients_${kind} $<TARGET_OBJECTS:gradients> $<TARGET_OBJECTS:operation>)
  target_link_libraries(gradients_${kind} PRIVATE opgrad::${kind})
  add_executable(user_${kind} $<TARGET_OBJECTS:user> $<TARGET_OBJECTS:operation>)
  target_link_libraries(user_${kind} PRIVATE opgrad::${kind})
endforeach()
add_library(plugin MODULE $<TARGET_OBJECTS:operation>)
target_link_libraries(plugin PRIVATE opgrad::shared)
set_target_properties(plugin PROPERTIES PREFIX "")
END_OF_PROJECT

export PKG_CONFIG_PATH=$installed/lib/pkgconfig
[ -f "$PKG_CONFIG_PATH/opgrad.pc" ] || PKG_CONFIG_PATH=$(dirname "$(find "$installed" -name opgrad.pc)")

by_cmake() {
  cmake -S "$work" -B "$work/cmake-$1" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$1" \
    -DCMAKE_PREFIX_PATH="$installed" --log-level=WARNING
  cmake --build "$work/cmake-$1"
}
# The objects serve both libraries, whose flags are the same.
by_pkg_config() {
  local out=$work/pkg-$1
  mkdir "$out"
  cd "$work"
  "$1" -O1 -fPIC -c operation.cpp -o "$out/operation.o" $(pkg-config --cflags opgrad)
  "$1" -O1 -shared "$out/operation.o" -o "$out/plugin.so"
  "$1" -O1 -c user.cpp -o "$out/user.o" $(pkg-config --cflags opgrad-static)
  "$1" -O1 -c gradients.cpp -o "$out/gradients.o" $(pkg-config --cflags opgrad)
  for program in user gradients; do
    "$1" "$out/$program.o" "$out/operation.o" -o "$out/${program}_opgrad" $(pkg-config --libs opgrad-static)
    "$1" "$out/$program.o" "$out/operation.o" -o "$out/${program}_shared" $(pkg-config --libs opgrad)
  done
}

# Two at a time, as there are processors.
jobs=() names=()
for compiler in "${compilers[@]}"; do
  for way in by_cmake by_pkg_config; do
    $way "$compiler" >"$work/$way-$compiler.log" 2>&1 &
    jobs+=($!) names+=("$way-$compiler")
  done
done
for i in "${!jobs[@]}"; do
  wait "${jobs[$i]}" || fail "$(cat "$work/${names[$i]}.log")"
done

# The built-in ones and the user's own.
count=$("$installed/bin/opgrad" ops | sed -nE 's/^([0-9]+) operations$/\1/p')
expected=
for folder in "$work"/cmake-* "$work"/pkg-*; do
  for kind in opgrad shared; do
    said=$("$folder/user_$kind") || fail "$folder/user_$kind does not run"
    [[ $said == "$((count + 1)) operations, "* ]] || fail "$folder/user_$kind says $said and not $((count + 1)) operations"
    [ "${expected:=$said}" = "$said" ] || fail "$folder/user_$kind says $said, others $expected"
    "$folder/gradients_$kind" >"$work/log" || fail "$(cat "$work/log")"
  done
  for command in "$installed/bin/opgrad" "$build/opgrad"; do
    described=$("$command" ops mine.softsign --plugin "$folder/plugin.so") || fail "$command does not take $folder/plugin.so"
    [[ $described == *"x / (1 + |x|)"*"$folder/plugin.so"* ]] || fail "$command says $described"
  done
done

# The data lie beside the command, wherever that is.
cd "$work"
"$installed/bin/opgrad" train --epochs 1 --limit 50 --batch-size 50 --out w.safetensors >"$work/log" 2>&1 ||
  fail "$(cat "$work/log")"
echo "$expected with ${compilers[*]}"
