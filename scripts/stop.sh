#!/usr/bin/env bash
# Stops the server that scripts/main.sh or scripts/restart.sh started, and nothing else.
#
#   scripts/stop.sh [--caches] [--models] [--environment] [--all] [--dry-run]
#
#   --caches        afterwards remove what can be made again by itself: compiled kernels and Python
#                   code, unfinished quantizations, what checks and tests keep
#   --models        remove quantized models and downloads
#   --environment   remove .venv and the quantizers' environments
#   --all           remove all of this, the API key, what is known of the last start, and the logs
#   --dry-run       stop nothing; only print what would be removed
#
# Each thing is printed with its size before it is removed, and it is removed only where this project
# made it, in the project's own folder: what a variable or a link puts elsewhere stays.
# Running turns may finish first: STOP_TIMEOUT_S (35) seconds, then what is left is killed.
# NUKE_ALL=1 is the older way to say --all, and NUKE_ALL=0 to say none of them.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

kinds=()
dry_run=no

read_arguments() {
  local word
  for word in "$@"; do
    case $word in
      --caches | --models | --environment | --all) kinds+=("${word#--}") ;;
      --dry-run) dry_run=yes ;;
      -h | --help)
        usage "$0"
        exit 0
        ;;
      *)
        die "unknown argument: $word (known: --caches, --models, --environment, --all, --dry-run," \
          "--help)"
        ;;
    esac
  done
  ((${#kinds[@]} == 0)) || return 0
  case ${NUKE_ALL:-0} in
    0) ;;
    1) kinds=(all) ;;
    *) die "NUKE_ALL=$NUKE_ALL must be 0 or 1" ;;
  esac
  [[ $dry_run == no ]] || ((${#kinds[@]} > 0)) ||
    die "--dry-run goes with --caches, --models, --environment or --all"
}

check_timeout() {
  [[ ${STOP_TIMEOUT_S:-35} =~ ^[0-9]+(\.[0-9]+)?$ ]] ||
    die "STOP_TIMEOUT_S=$STOP_TIMEOUT_S must be a number of seconds"
}

# What a start is about to use must not be removed under it.
require_no_start() {
  [[ -e $RUN_DIR/lock ]] || return 0
  exec 9<"$RUN_DIR/lock"
  flock -n 9 || die "the server is being started right now; wait for that, then remove"
}

main() {
  local python options=()
  read_arguments "$@"
  check_timeout
  python=$(helper_python) || exit 1
  [[ $dry_run == no ]] || options=(--dry-run)
  if [[ $dry_run == no ]]; then
    ((${#kinds[@]} == 0)) || require_no_start
    "$python" "$LIB/processes.py" --record "$RECORD" stop --drain "${STOP_TIMEOUT_S:-35}"
    rm -rf "$RUN_DIR/tmp"
  fi
  ((${#kinds[@]} > 0)) || return 0
  "$python" -B "$LIB/cleaning.py" --root "$ROOT" ${options[@]+"${options[@]}"} "${kinds[@]}"
}

main "$@"
