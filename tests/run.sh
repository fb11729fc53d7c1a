#!/bin/bash
# Installs what is missing, builds everything (the command ends at build/opgrad) and runs all tests.
# The last line is "N passed, N failed"; the tests that were skipped are listed above it with their reasons.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  cat <<'END'
usage: bash tests/run.sh [--long] [--clang | --sanitize address,undefined | --sanitize thread]
  --long       also the tests that take minutes
  --clang      build with Clang 14 instead of GCC, in build-clang
  --sanitize   build with Clang 14 and these sanitizers, in build-asan or build-tsan
END
}

mode=release build=$root/build long=0
while [ $# -gt 0 ]; do
  case $1 in
    --long) long=1 ;;
    --clang) mode=clang build=$root/build-clang ;;
    --sanitize)
      case ${2:-} in
        address,undefined) mode=address build=$root/build-asan ;;
        thread) mode=thread build=$root/build-tsan ;;
        *) echo "--sanitize takes address,undefined or thread" >&2 && exit 2 ;;
      esac
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

passed=0 failed=0 skipped=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

finish() {
  if [ ${#skipped[@]} -gt 0 ]; then
    echo "${#skipped[@]} skipped:"
    printf '  %s\n' "${skipped[@]}"
  fi
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}

# A step before the tests; nothing can pass if it fails.
must() {
  "$@" && return
  echo "FAILED: $*"
  failed=1
  finish
}

# Google Benchmark is not among them: the micro-benchmarks are no tests, and are built where it is present.
install() {
  local packages=(doctest-dev)
  [ $mode = release ] || packages+=(clang-14 libclang-rt-14-dev)
  bash "$root/models/install.sh" "${packages[@]}" clang-format-14 || bash "$root/models/install.sh" "${packages[@]}"
}

configure() {
  local fresh=()
  # A folder configured by hand with another generator, or copied from elsewhere, cannot be used as it is.
  grep -qsx 'CMAKE_GENERATOR:INTERNAL=Ninja' "$build/CMakeCache.txt" &&
    grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt" || fresh=(--fresh)
  cd "$root" && cmake "${fresh[@]}" --preset "$mode" --log-level=WARNING
}

# The names of an executable's cases; with --no-skip=true also those that only --long runs.
cases() { "${launch[@]}" "$1" --list-test-cases --no-colors=true "${@:2}" 2>/dev/null | grep -v -e '^\[doctest\]' -e '^===' | sort; }

run_executable() {
  local name=${1#"$build"/} log=$work/log arguments=(--no-colors=true) code=0 summary cases_passed=0 cases_failed=0
  echo "== $name"
  [ $long -eq 1 ] && arguments+=(--no-skip=true)
  (cd "$(dirname "$1")" && timeout --foreground -k 10 "$limit" "${launch[@]}" "$1" "${arguments[@]}") >"$log" 2>&1 || code=$?
  cat "$log"
  summary=$(grep -a '^\[doctest\] test cases:' "$log" | tail -n 1)
  if [ -n "$summary" ]; then
    cases_passed=$(sed -E 's/.*\| *([0-9]+) passed.*/\1/' <<<"$summary")
    cases_failed=$(sed -E 's/.*\| *([0-9]+) failed.*/\1/' <<<"$summary")
  fi
  # No summary, or a bad end after a good one: it crashed, hung, or a sanitizer spoke at exit.
  if [ -z "$summary" ] || { [ $code -ne 0 ] && [ "$cases_failed" -eq 0 ]; }; then cases_failed=$((cases_failed + 1)); fi
  if [ -z "$summary" ] || [ $code -gt 1 ]; then
    echo "FAILED: $name ended with exit code $code; cases after that point, if any, never ran"
  fi
  local reason
  while read -r reason; do
    skipped+=("$reason")
    cases_passed=$((cases_passed - 1))
  done < <(grep -aoP '\[skipped\] \K.*' "$log" | sort -u)
  if [ $long -eq 0 ]; then
    while read -r reason; do
      skipped+=("$reason: takes long, runs with --long")
    done < <(comm -13 <(cases "$1") <(cases "$1" --no-skip=true))
  fi
  passed=$((passed + cases_passed)) failed=$((failed + cases_failed))
}

run_script() {
  local name log=$work/log code=0
  name=$(basename "$1")
  echo "== $name"
  timeout --foreground -k 10 "$limit" bash "$1" >"$log" 2>&1 || code=$?
  case $code in
    0) passed=$((passed + 1)) ;;
    77) skipped+=("$name: $(tail -n 1 "$log")") ;;
    *)
      cat "$log"
      echo "FAILED: $name ended with exit code $code"
      failed=$((failed + 1))
      ;;
  esac
}

must install
must configure
must cmake --build "$build" -j "$(nproc)"
# Executables whose sources are gone would be run with the others.
must ninja -C "$build" -t cleandead

# What the tests may want to know. A failed allocation must give an exception, not the sanitizer's abort.
export OPGRAD_LONG=$long OPGRAD_MODE=$mode OPGRAD_BUILD_DIR=$build
export ASAN_OPTIONS=allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export TSAN_OPTIONS=allocator_may_return_null=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}
export UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}
# Whoever pins OpenBLAS's kernels has the last word; the tests ask what opgrad chooses by itself.
unset OPENBLAS_CORETYPE
limit=3600
[ $long -eq 1 ] && limit=36000
launch=()
# ThreadSanitizer 14 does not start where addresses are randomised by more bits than it knows.
if [ $mode = thread ] && setarch "$(uname -m)" -R true 2>/dev/null; then launch=(setarch "$(uname -m)" -R); fi

while read -r executable; do
  run_executable "$executable"
done < <(find "$build" -type f -perm -u+x ! -name '*.so*' ! -path '*/CMakeFiles/*' -exec grep -qa '\[doctest\] ' {} \; -print | sort)
for script in "$root"/tests/*_test.sh; do
  [ -f "$script" ] && run_script "$script"
done
finish
