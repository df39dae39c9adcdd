#!/usr/bin/env bash
# Installs what the tests need and runs them.
#
#   scripts/test.sh [PYTEST ARGUMENT...]      for example: scripts/test.sh tests/unit -k history
#
# Every argument but --help goes to pytest, which refuses what it does not know.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case ${1:-} in
  -h | --help)
    usage "$0"
    exit 0
    ;;
esac
bash "$ROOT/scripts/install.sh" --dev
cd "$ROOT"
export PATH="$VENV/bin:$PATH" BENTOML_DO_NOT_TRACK=True VLLM_NO_USAGE_STATS=1
exec "$VENV/bin/python" -m pytest "$@"
