#!/bin/bash
# Trains the digit recognizer on the MNIST data that lie in models/data: installs what is missing, builds the command
# and runs `opgrad train` with the arguments given here.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build

bash "$root/models/install.sh"

log=$(mktemp)
quietly() {
  "$@" >"$log" 2>&1 && return
  cat "$log" >&2
  rm -f "$log"
  exit 1
}
cache=$build/CMakeCache.txt
if ! grep -qsx 'CMAKE_GENERATOR:INTERNAL=Ninja' "$cache" || ! grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache" ||
  [ ! -f "$build/build.ninja" ]; then
  (cd "$root" && quietly cmake --fresh --preset release -DOPGRAD_TESTS=OFF)
fi
if ! ninja -C "$build" -n opgrad_command 2>/dev/null | grep -q 'no work to do'; then
  echo "building opgrad, which takes some minutes the first time" >&2
  quietly cmake --build "$build" -j "$(nproc)" --target opgrad_command
fi
rm -f "$log"
exec "$build/opgrad" train "$@"
