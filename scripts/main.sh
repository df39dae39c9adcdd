#!/usr/bin/env bash
# Does everything: installs, starts the server, waits until it is ready, runs a first turn and
# follows the log. Ctrl+C then leaves the server running; scripts/stop.sh stops it.
#
#   scripts/main.sh [4bit|8bit] [chat|tool|both] [CHAT_MODEL] [CLASSIFIER_MODEL] [--push-quant]
#                   [--no-follow]
#
#   4bit, 8bit         weights of the chat model (also: awq, fp8); without it, as the checkpoint is
#   chat, tool, both   which models to serve (default both)
#   models             a folder or OWNER/NAME on the Hub; without them, the demo models
#   --push-quant       upload what 4bit or 8bit has made, as HF_AWQ_CHAT_REPO and others say
#   --no-follow        return once the server has answered
#
# Environment: every setting in docs/configuration.md, among them TEXT_API_KEY (made and kept in
# .run/api_key when unset), HOST (127.0.0.1) and PORT (8000); START_TIMEOUT_S (900).
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/arguments.sh
source "$LIB/arguments.sh"
# shellcheck source=scripts/lib/launch.sh
source "$LIB/launch.sh"
# shellcheck source=scripts/lib/push.sh
source "$LIB/push.sh"

main() {
  read_arguments "$@"
  make_run_dir
  take_lock
  require_not_running
  bash "$ROOT/scripts/install.sh"
  require_push
  bring_up
  explain
  push_quantized
  release_lock
  if [[ $FOLLOW == yes ]]; then
    say "Following the log; Ctrl+C leaves the server running."
    exec tail -n 20 -F "$LOG_FILE"
  fi
}

main "$@"
