#!/bin/bash
# The test cases that a failing gradient test prints: pasted into a file as they are, they compile, fail against the wrong
# operations, and pass against the right ones. Exit code 77 means skipped, for the reason in the last line.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${OPGRAD_BUILD_DIR:-$root/build}
if [ "${OPGRAD_MODE:-release}" != release ]; then
  echo "it needs a library that programs without sanitizers can link to; runs with the release build"
  exit 77
fi
if [ ! -e "$build/libopgrad.so" ]; then
  echo "there is no $build/libopgrad.so; build first"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# Three operations, each with a rule that is wrong in its way unless RIGHT is defined: a forgotten factor, a gradient that
# a second input's size turns, a number that the rule keeps although it depends on x.
cat >operations.cpp <<'END_OF_FILE'
#include "opgrad.h"
#include "ops/define.h"
using namespace opgrad;

#ifdef RIGHT
constexpr bool right = true;
#else
constexpr bool right = false;
#endif
extern const Op factor_op, layout_op, stale_op;

constinit const Op factor_op{
    .name = "paste.factor",
    .arity = 1,
    .traits = Traits::pointwise,
    .about = "x^2",
    .shape = same_float,
    .forward = map1<[](auto x) { return x * x; }>,
    .backward = [](const Tensor& y, const Tensor& dy, Wanted) { return Grads{dy * (right ? 2 : 1) * y.input(0)}; },
    .examples = [] { return Examples{{{sample({3, 4})}, [](auto x) { return unary(factor_op, x[0]); }}}; }};

constinit const Op layout_op{
    .name = "paste.layout",
    .arity = 1,
    .traits = Traits::pointwise,
    .about = "2 x, of rows that an index chooses",
    .shape = same_float,
    .forward = map1<[](auto x) { return x + x; }>,
    .backward = [](const Tensor&, const Tensor& dy, Wanted) { return Grads{2 * (right ? dy : flip(dy, {0}))}; },
    .examples = [] {
      return Examples{{{sample({2})}, [](auto x) { return x[0] * 1; }},
                      {{sample({4, 3}), integers({5}, 0, 4)},
                       [](auto x) { return gather(unary(layout_op, x[0]), x[1]); }}};
    }};

constinit const Op stale_op{
    .name = "paste.stale",
    .arity = 1,
    .traits = Traits::pointwise,
    .about = "x^3",
    .shape = same_float,
    .forward = map1<[](auto x) { return x * x * x; }>,
    .backward =
        [](const Tensor& y, const Tensor& dy, Wanted) {
          const Tensor x = y.input(0);
          return Grads{dy * 3 * square(right ? x : detach(x))};
        },
    .examples = [] { return Examples{{{sample({3, 4})}, [](auto x) { return unary(stale_op, x[0]); }}}; }};

OPGRAD_REGISTER(factor_op, layout_op, stale_op)
END_OF_FILE

# Prints what is to be pasted, and nothing else.
cat >tester.cpp <<'END_OF_FILE'
#include <cstdio>

#include "ops/gradtest/gradtest.h"

int main() {
  using opgrad::DType;
  for (const DType dtype : {DType::f64, DType::f32}) {
    const auto report = opgrad::gradtest_matching("paste\\..*", {.dtypes = {dtype}, .threads = {}});
    for (const auto& row : report.rows)
      for (const auto& failure : row.failures) std::printf("%s", failure.doctest.c_str());
  }
}
END_OF_FILE

compiler=${CXX:-g++}
flags=(-std=c++20 -O1 -Wall -Wextra -Werror -Wno-psabi -ffp-contract=off "-I$root" "-I$root/models")
"$compiler" "${flags[@]}" -c operations.cpp -o wrong.o &
first=$!
"$compiler" "${flags[@]}" -DRIGHT -c operations.cpp -o right.o &
second=$!
wait $first
wait $second
library=("$build/libopgrad.so" "-Wl,-rpath,$build")
"$compiler" "${flags[@]}" tester.cpp wrong.o -o tester "${library[@]}"

./tester >pasted.txt
printf '#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN\n#include <doctest/doctest.h>\n\n#include "opgrad.h"\n\n' >cases.cpp
cat pasted.txt >>cases.cpp
"$compiler" "${flags[@]}" -c cases.cpp -o cases.o
"$compiler" cases.o wrong.o -o against_wrong "${library[@]}"
"$compiler" cases.o right.o -o against_right "${library[@]}"

expect() {
  if ! grep -q -e "$1" <<<"$2"; then
    echo "expected \"$1\" in:"
    echo "$2"
    exit 1
  fi
}
# Every kind of failure must have come with a case.
for name in 'paste.factor: gradient of x\[0\], f64' 'paste.factor: gradient of x\[0\], f32' \
  'paste.layout: gradient of x\[0\], f64' 'paste.stale: second-order gradient of .*, f64'; do
  expect "TEST_CASE(\"$name\")" "$(cat pasted.txt)"
done
count=$(grep -c '^TEST_CASE(' pasted.txt)

code=0
said=$(./against_wrong --no-colors=true) || code=$?
[ $code -ne 0 ] || { echo "the pasted cases pass against the wrong operations" && exit 1; }
expect "test cases: *$count | *0 passed | *$count failed" "$said"
code=0
said=$(./against_right --no-colors=true) || code=$?
[ $code -eq 0 ] || { echo "the pasted cases fail against the right operations: $said" && exit 1; }
expect "test cases: *$count | *$count passed | *0 failed" "$said"
echo "$count pasted cases fail against the wrong operations and pass against the right ones"
