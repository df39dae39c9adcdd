#!/usr/bin/env bash
# Installs what the tests need and runs them.
#
#   scripts/test.sh [PYTEST ARGUMENT...]      for example: scripts/test.sh tests/unit -k history
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

bash "$ROOT/scripts/install.sh" --dev
cd "$ROOT"
export PATH="$VENV/bin:$PATH" BENTOML_DO_NOT_TRACK=True VLLM_NO_USAGE_STATS=1
exec "$VENV/bin/python" -m pytest "$@"
