#!/bin/bash
# Every .h and .cpp is as clang-format 14 would write it. Exit code 77 means skipped, for the reason in the last line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v clang-format-14 >/dev/null; then
  echo "clang-format-14 is not installed"
  exit 77
fi
find core graph ops optim models tests \( -name '*.h' -o -name '*.cpp' \) -print0 |
  xargs -0 -r clang-format-14 --dry-run -Werror
