#!/bin/bash
# A newcomer's first minutes, timed: README's commands in a clone of this repository, without an environment.
#
#   bash benchmarks/newcomer.sh reading FOLDER TRACE    # pip install without torch, then the verdict on a trace
#   bash benchmarks/newcomer.sh install FOLDER          # what `make demo` installs
#   bash benchmarks/newcomer.sh demo FOLDER             # after `install`: `make demo`, with the time of its first verdict
set -euo pipefail
case ${1:-} in reading | install | demo) ;; *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;; esac

started=$(date +%s%N)
elapsed() { printf '%8.1f s  %s\n' "$(( ($(date +%s%N) - started) / 100000000 ))e-1" "$1"; }
origin=$(cd "$(dirname "$0")/.." && pwd)
clean() { env -i PATH="$PATH" HOME="$HOME" "$@"; }

mkdir -p "$2" && cd "$2"
[ -d clone ] || { clean git clone --quiet "$origin" clone; elapsed "cloned"; }
cd clone

case $1 in
  reading)
    clean python3 -m venv environment
    elapsed "empty environment"
    clean environment/bin/pip install --quiet --disable-pip-version-check .
    elapsed "installed ($(du -sm environment | cut -f1) MB)"
    clean environment/bin/traceanalyzer analyze "$3" | head -3
    elapsed "verdict"
    clean environment/bin/traceanalyzer analyze "$3" > verdict.txt
    elapsed "verdict again"
    ;;
  install)
    clean make --silent .make/demo
    elapsed "installed ($(du -sm .venv | cut -f1) MB)"
    ;;
  demo)
    clean make demo | while IFS= read -r line; do
      case $line in *"closed form"* | *"takes"* | *"MFU"* | "reports:"* | "=="*) elapsed "$line" ;; esac
    done
    ;;
esac
