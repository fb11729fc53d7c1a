#!/bin/bash
# The command lines of ops/README.md, as they stand there, run one after the other beside copies of its listings; the
# CMake listing of README.md against what they installed; and what a compiler says to a kernel with an `if`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${OPGRAD_BUILD_DIR:-$root/build}

skip() {
  echo "$1"
  exit 77
}
case ${OPGRAD_MODE:-release} in address | thread) skip "a library with sanitizers is not for installing" ;; esac
for tool in cmake pkg-config g++; do
  command -v $tool >/dev/null || skip "$tool is not installed"
done
[ -f "$build/libopgrad.so" ] && [ -x "$build/opgrad" ] || skip "$build holds no finished build"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HOME=$work/home
mkdir "$HOME"
ln -s "$build" build
cp "$root"/tests/examples/*.h "$root"/tests/examples/{network,gradients_test}.cpp .
# As the page calls them.
for pair in operation:softsign broadcast:swish reduction:logsumexp clip:clip composite:softplus; do
  cp "$root/tests/examples/${pair%:*}.cpp" "${pair#*:}.cpp"
done

sed -n '/^```sh$/,/^```$/{/^```/!p}' "$root/ops/README.md" >commands
[ "$(wc -l <commands)" -ge 8 ] || { echo "FAILED: ops/README.md has but $(wc -l <commands) lines of commands" && exit 1; }
bash -euxo pipefail commands >log 2>&1 || { cat log && exit 1; }
# What the commands are said to show.
for text in 'loss 0.000' 'x / (1 + |x|)' '1 operation: 1 passed' '2 operations: 2 passed' 'opgrad 100.0 %' \
  'Status: SUCCESS'; do
  grep -qF -- "$text" log || { cat log && echo "FAILED: nothing says $text" && exit 1; }
done

cp "$root/tests/examples/model.cpp" .
sed -n '/^```cmake$/,/^```$/{/^```/!p}' "$root/README.md" >CMakeLists.txt
{
  cmake -S . -B cmake -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$HOME/opgrad" && cmake --build cmake
} >log 2>&1 || { cat log && exit 1; }
export PKG_CONFIG_PATH=$HOME/opgrad/lib/pkgconfig
"$HOME/opgrad/bin/opgrad" ops mine.softsign --plugin cmake/libsoftsign.so >log || { cat log && exit 1; }
g++ -O2 model.cpp -o model $(pkg-config --cflags --libs opgrad-static)

compilers=(g++)
command -v clang++-14 >/dev/null && compilers+=(clang++-14)
sed 's|return x / (1 + abs(x));|return (x > 0) ? x : 0 * x;|' softsign.cpp >branch.cpp
for compiler in "${compilers[@]}"; do
  "$compiler" -fsyntax-only branch.cpp $(pkg-config --cflags opgrad) 2>log && echo "FAILED: $compiler takes a kernel with ?:" && exit 1
  grep -qF 'select(condition, a, b)' log || { cat log && echo "FAILED: $compiler names no way out" && exit 1; }
done
