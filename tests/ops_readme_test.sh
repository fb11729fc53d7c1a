#!/bin/bash
# The command lines of ops/README.md, as they stand there, run one after the other beside copies of its listings.
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
for pair in operation:softsign broadcast:swish reduction:logsumexp composite:softplus; do
  cp "$root/tests/examples/${pair%:*}.cpp" "${pair#*:}.cpp"
done

sed -n '/^```sh$/,/^```$/{/^```/!p}' "$root/ops/README.md" >commands
[ "$(wc -l <commands)" -ge 8 ] || { echo "FAILED: ops/README.md has but $(wc -l <commands) lines of commands" && exit 1; }
bash -euxo pipefail commands >log 2>&1 || { cat log && exit 1; }
# What the commands are said to show.
for text in 'loss 0.000' 'x / (1 + |x|)' '1 operation: 1 passed' 'Status: SUCCESS'; do
  grep -qF -- "$text" log || { cat log && echo "FAILED: nothing says $text" && exit 1; }
done
