#!/bin/bash
# Installs what opgrad is built from, and the packages named as arguments, with apt, if any of them is missing.
# With everything in place it asks neither for the network nor for root, and prints nothing.
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config libfmt-dev libboost-dev libopenblas-pthread-dev libsleef-dev libxbyak-dev
          libcli11-dev nlohmann-json3-dev zlib1g-dev "$@")

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  # Not Debian: CMake says by name what it does not find.
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null || true)
  grep -qx installed <<<"$state" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "These packages are missing, and only root can install them: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "installing ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null >>"$log" 2>&1; }
# Old lists may still do, so a failed update alone is no reason to stop.
apt update || echo "apt-get update failed; trying with the lists at hand" >&2
if ! apt install --no-install-recommends "${missing[@]}"; then
  tail -n 30 "$log" >&2
  echo "apt-get could not install ${missing[*]}" >&2
  exit 1
fi
