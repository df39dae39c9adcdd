# shellcheck shell=bash
# Paths and small helpers that every script uses. Source it; it starts nothing.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LIB=$ROOT/scripts/lib
VENV=${YAP_VENV:-$ROOT/.venv}
RUN_DIR=${YAP_RUN_DIR:-$ROOT/.run}
LOG_FILE=${YAP_LOG_FILE:-$ROOT/server.log}
RECORD=$RUN_DIR/server.pid # what main.sh started; processes.py writes and reads it

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Makes the folder for what a run leaves behind. A full disk lets files be made and not be filled,
# so a few kilobytes are really written.
make_run_dir() {
  local probe=$RUN_DIR/.probe
  if ! { mkdir -p "$RUN_DIR" && head -c 65536 /dev/zero >"$probe"; } 2>/dev/null; then
    rm -f "$probe"
    die "nothing can be written to $RUN_DIR: the disk is full, or the folder is not yours;" \
      "make room, or set YAP_RUN_DIR"
  fi
  rm -f "$probe"
}

# Prints a usage text's comment block: the lines from 2 on that start with '#', without the '#'.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"; }

# help_only ARGUMENT...: for a script that takes no arguments but --help.
help_only() {
  (($# > 0)) || return 0
  case $1 in
    -h | --help)
      usage "$0"
      exit 0
      ;;
    *) die "unknown argument: $1 (known: --help)" ;;
  esac
}

# Microseconds since the epoch, in whole numbers.
now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# Says every so often that a step still runs; ends with the script that started it.
_tick() {
  local label=$1 parent=$$ waited=0
  while sleep 1 && kill -0 "$parent" 2>/dev/null; do
    waited=$((waited + 1))
    if [[ -t 1 ]]; then
      printf '\r  %s ... %d s ' "$label" "$waited"
    elif ((waited % 20 == 0)); then
      printf '  %s ... %d s\n' "$label" "$waited"
    fi
  done
}

# step LABEL COMMAND...: runs the command with its output in $STEP_LOG and prints its seconds.
# Returns the command's status.
STEP_LOG=/dev/null
step() {
  local label=$1 start ticker status=0 tenths
  shift
  start=$(now_us)
  _tick "$label" &
  ticker=$!
  "$@" >>"$STEP_LOG" 2>&1 </dev/null || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  tenths=$((($(now_us) - start) / 100000))
  [[ -t 1 ]] && printf '\r'
  if ((status == 0)); then
    printf '  %s: %d.%d s        \n' "$label" $((tenths / 10)) $((tenths % 10))
  else
    printf '  %s: failed after %d.%d s\n' "$label" $((tenths / 10)) $((tenths % 10))
  fi
  return "$status"
}

# The interpreter for the standard-library helpers in scripts/lib: they need no environment.
helper_python() {
  local candidate
  for candidate in "$VENV/bin/python" python3.11 python3.12 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      printf '%s' "$candidate"
      return 0 # not a bare return, which in a trap gives the status of what the signal cut short
    fi
  done
  die "no Python 3 was found; install Python 3.11 or 3.12"
}
