#!/usr/bin/env bash
# Stops the server that scripts/main.sh started, and nothing else.
#
#   scripts/stop.sh
#
# Running turns may finish first: STOP_TIMEOUT_S (35) seconds, then what is left is killed.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case ${1:-} in
  "") ;;
  -h | --help)
    usage "$0"
    exit 0
    ;;
  *)
    usage "$0" >&2
    die "unknown argument: $1"
    ;;
esac
python=$(helper_python) || exit 1
exec "$python" "$LIB/processes.py" --record "$RECORD" stop --drain "${STOP_TIMEOUT_S:-35}"
