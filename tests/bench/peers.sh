#!/bin/bash
# Compares opgrad with PyTorch, LibTorch, TensorFlow and JAX on the standard works, in turn (A B A B ...), and prints the
# table of ratios. What cannot be had is named as missing, and its column stays empty.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<'END'
usage: bash tests/bench/peers.sh [--scratch FOLDER] [--command FILE] [--threads "1 2"] [--rounds N] [--seconds S] [WORK ...]
  --scratch    where the peers are installed and opgrad is built, kept for the next run (default: ~/.cache/opgrad-peers);
               PyTorch's wheel brings 5 GB, most of it of no use here
  --command    an opgrad that is built already
  --threads    numbers of threads; each gets rows of its own (default: 1, and all processors)
  --rounds     turns of each system (default: 3)
  --seconds    length of a turn (default: 2)
END
}

scratch=${XDG_CACHE_HOME:-$HOME/.cache}/opgrad-peers command='' threads='' rounds=3 seconds=2 works=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --scratch | --command | --threads | --rounds | --seconds)
      [ $# -ge 2 ] || { usage >&2 && exit 2; }
      declare "${1#--}=$2"
      shift
      ;;
    -*) usage >&2 && exit 2 ;;
    *) works+=("$1") ;;
  esac
  shift
done
cores=$(nproc)
[ -n "$threads" ] || threads="1 $cores"
# Whoever pins OpenBLAS's kernels pins them for one of the systems only.
unset OPENBLAS_CORETYPE
export PYTHONDONTWRITEBYTECODE=1

mkdir -p "$scratch"
scratch=$(cd "$scratch" && pwd)
log=$scratch/log
: >"$log"
say() { echo "$*" >&2; }

if [ -z "$command" ]; then
  say "building opgrad"
  if ! cmake -S "$root" -B "$scratch/opgrad" -G Ninja -DCMAKE_BUILD_TYPE=Release -DOPGRAD_TESTS=OFF >>"$log" 2>&1 ||
    ! cmake --build "$scratch/opgrad" --target opgrad_command >>"$log" 2>&1; then
    say "opgrad cannot be built; see $log"
    exit 1
  fi
  command=$scratch/opgrad/opgrad
fi

if ! command -v python3 >/dev/null; then
  say "python3 is not installed, and takes the turns"
  exit 1
fi
python=$scratch/venv/bin/python systems=() missing=()
# installed IMPORT PACKAGE...: the module can be imported in the scratch environment, after an installation if need be.
installed() {
  "$python" -c "import $1" >>"$log" 2>&1 && return
  say "installing ${*:2}"
  "$python" -m pip install -q "${@:2}" >>"$log" 2>&1 && "$python" -c "import $1" >>"$log" 2>&1
}
# system NAME COMMAND...: takes part.
system() { systems+=("--system=$1=$(printf '%q ' "${@:2}")"); }

# It may be there and broken, for want of Debian's python3-venv.
if ! "$python" -m pip --version >>"$log" 2>&1 && ! python3 -m venv --clear "$scratch/venv" >>"$log" 2>&1; then
  missing=("all peers: python3 -m venv fails (Debian: apt-get install python3-venv)")
else
  if installed torch numpy setuptools torch; then
    system "PyTorch eager" "$python" "$here/peers/pytorch.py" eager
    system "PyTorch channels last" "$python" "$here/peers/pytorch.py" channels_last
    system "PyTorch compiled" "$python" "$here/peers/pytorch.py" compiled
    torch=$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))')
    libtorch=$scratch/libtorch
    if [ "$libtorch" -nt "$here/peers/libtorch.cpp" ] || {
      say "compiling for LibTorch"
      "${CXX:-g++}" -O2 -std=c++20 "$here/peers/libtorch.cpp" -o "$libtorch" -isystem "$torch/include" \
        -isystem "$torch/include/torch/csrc/api/include" -L"$torch/lib" -Wl,-rpath,"$torch/lib" \
        -Wl,--unresolved-symbols=ignore-in-shared-libs -ltorch -ltorch_cpu -lc10 >>"$log" 2>&1
    }; then
      system LibTorch "$libtorch"
    else
      missing+=("LibTorch (does not compile)")
    fi
  else
    missing+=("PyTorch" "LibTorch (comes with PyTorch)")
  fi
  if installed tensorflow tensorflow-cpu || installed tensorflow tensorflow; then
    system TensorFlow "$python" "$here/peers/tensorflow_graph.py"
  else
    missing+=("TensorFlow")
  fi
  if installed jax jax; then system JAX "$python" "$here/peers/jax_jit.py"; else missing+=("JAX"); fi
fi
[ ${#missing[@]} -eq 0 ] || say "what went wrong stands in $log"

python3 "$here/peers/turns.py" --command "$command" --threads "$threads" --rounds "$rounds" --seconds "$seconds" \
  --log "$log" "${missing[@]/#/--missing=}" "${systems[@]}" "${works[@]}"
