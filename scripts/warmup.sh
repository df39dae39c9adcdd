#!/usr/bin/env bash
# Waits until the server is ready, then lets it answer a turn, and a few at a time, and says how fast.
#
#   scripts/warmup.sh [--server HOST:PORT] [--limit SECONDS]
#
#   --server   where it listens; without it, the server that scripts/main.sh or restart.sh started
#   --limit    seconds for all of it, WARMUP_TIMEOUT_S (600) by default
#
# What the turns say and measure goes to .run/warmup.log too, and the figures to .run/warmup.json.
# The key is TEXT_API_KEY, else the one in .run/api_key.
#
# Exit code: 0 when every turn was answered, 1 when one was not, 2 for bad arguments, 3 when no server
# runs or it ended, 4 when the time was over.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/launch.sh
source "$LIB/launch.sh"

REPORT=$RUN_DIR/warmup.log
FIGURES=$RUN_DIR/warmup.json
server=""
limit=${WARMUP_TIMEOUT_S:-600}

refuse() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

read_options() {
  while (($# > 0)); do
    [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case $1 in
      --server | --limit)
        (($# > 1)) && [[ -n $2 ]] || refuse "$1 needs a value"
        if [[ $1 == --server ]]; then server=$2; else limit=$2; fi
        shift
        ;;
      -h | --help)
        usage "$0"
        exit 0
        ;;
      *) refuse "unknown option: $1 (known: --server, --limit, --help)" ;;
    esac
    shift
  done
  [[ $limit =~ ^[1-9][0-9]{0,5}$ ]] || refuse "the limit must be 1 to 999999 seconds, not $limit"
  [[ -z $server || $server =~ ^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$ ]] ||
    refuse "--server $server must be HOST:PORT"
}

# Whole seconds that are left; ends the script when none are.
left() {
  local seconds=$((limit - ($(now_us) - begun) / 1000000))
  ((seconds > 0)) || late
  printf '%d' "$seconds"
}

late() {
  printf 'error: warming up was not done within %s seconds\n' "$limit" >&2
  exit 4
}

find_server() {
  if [[ -n $server ]]; then
    PORT=${server##*:} PROBE_HOST=${server%:*}
    PROBE_HOST=${PROBE_HOST#[} PROBE_HOST=${PROBE_HOST%]}
    return
  fi
  if ! processes status >/dev/null; then
    printf 'error: no server that these scripts started runs; start one with %s\n' \
      "scripts/main.sh, or name yours by --server" >&2
    exit 3
  fi
}

find_key() {
  [[ -z ${TEXT_API_KEY:-} && -s $RUN_DIR/api_key ]] && TEXT_API_KEY=$(cat "$RUN_DIR/api_key")
  [[ -n ${TEXT_API_KEY:-} ]] || refuse "set TEXT_API_KEY to the server's key"
  export TEXT_API_KEY
}

# measure WHAT COMMAND...: runs it within the time that is left, shows and keeps what it prints.
measure() {
  local what=$1 status=0 seconds
  shift
  seconds=$(left) || exit 4
  say "== $what" | tee -a "$REPORT"
  timeout --kill-after=5 "$seconds" "$@" 2>&1 </dev/null | tee -a "$REPORT" || status=$?
  ((status != 124 && status != 137)) || late
  ((status == 0)) || failed+=("$what")
}

main() {
  local clients=${MAX_CONCURRENT_CONNECTIONS:-2} record=() failed=() status=0
  begun=$(now_us)
  read_options "$@"
  [[ -x $VENV/bin/python ]] || refuse "$VENV is not there; install it with scripts/install.sh"
  make_run_dir
  find_server
  if [[ -z $server ]]; then
    recall_last_start
    find_key
    find_address
    record=(--record "$RECORD")
  else
    find_key
  fi
  "$VENV/bin/python" "$LIB/wait_ready.py" ${record[@]+"${record[@]}"} --log "$LOG_FILE" \
    --host "$PROBE_HOST" --port "$PORT" --limit "$(left)" --limit-name "its limit of " || status=$?
  ((status == 0)) || exit "$status"
  ((clients <= 2)) || clients=2
  (umask 077 && : >"$REPORT")
  measure "first turns" "$VENV/bin/python" "$ROOT/tests/warmup.py" --server "$(address)" \
    --double-ttfb
  measure "8 turns, $clients at a time" "$VENV/bin/python" "$ROOT/tests/bench.py" \
    --server "$(address)" --requests 8 --clients "$clients" --warm-up 0 --json "$FIGURES"
  ((${#failed[@]} == 0)) ||
    die "failed: $(printf '%s; ' "${failed[@]}")see above, or $REPORT"
  say "Warm: every turn was answered, in $((($(now_us) - begun) / 1000000)) s. All of it is in $REPORT."
}

# Where the server that was started last listens.
find_address() {
  local found name value
  found=$("$VENV/bin/python" "$LIB/launch_facts.py" --port-in-use) || exit 2
  while IFS='=' read -r name value; do
    case $name in
      PORT) PORT=$value ;;
      PROBE_HOST) PROBE_HOST=$value ;;
    esac
  done <<<"$found"
}

main "$@"
