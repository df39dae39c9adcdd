#!/usr/bin/env bash
# Starts the server again with the models and settings of its last start, or with others.
#
#   scripts/restart.sh [both|chat|tool] [OPTION...]
#
#   both, chat, tool     which models to serve
#   --deploy-mode MODE   the same
#   --chat-model MODEL   a folder or OWNER/NAME on the Hub
#   --tool-model MODEL   likewise, of the classifier
#   --chat-quant WIDTH   weights of the chat model: 4bit (awq), 8bit (fp8), gptq, gptq_marlin, or
#                        none for the checkpoint as it is (--quant is the older name)
#   --push-quant         upload what 4bit or 8bit has made, once the server has answered
#   --install-deps       install from the locks first
#   --keep-models        keep quantized models and downloads (the default)
#   --reset-models       remove those in the project's folder first, and make them anew
#
# What is not named is as it was at the last start that succeeded; a variable that is set now wins
# over what it was then. The settings are checked before the running server is stopped. Running turns
# may finish first: STOP_TIMEOUT_S (35) seconds.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/arguments.sh
source "$LIB/arguments.sh"
# shellcheck source=scripts/lib/launch.sh
source "$LIB/launch.sh"
# shellcheck source=scripts/lib/push.sh
source "$LIB/push.sh"

KNOWN="both, chat, tool, --deploy-mode, --chat-model, --tool-model, --chat-quant, --push-quant,"
KNOWN+=" --install-deps, --keep-models, --reset-models, --help"

mode="" chat_model="" tool_model="" width="" install=no kept=""

read_options() {
  while (($# > 0)); do
    [[ $1 != --*=* ]] || set -- "${1%%=*}" "${1#*=}" "${@:2}"
    case $1 in
      both | chat | tool) choose mode "$1" ;;
      --deploy-mode | --chat-model | --tool-model | --chat-quant | --quant)
        (($# > 1)) && [[ -n $2 && $2 != --* ]] || die "$1 needs a value"
        read_value "$1" "$2"
        shift
        ;;
      --push-quant) PUSH=yes ;;
      --install-deps) install=yes ;;
      --keep-models | --reset-models) choose kept "$1" ;;
      -h | --help)
        usage "$0"
        exit 0
        ;;
      *) die "unknown option: $1 (known: $KNOWN)" ;;
    esac
    shift
  done
}

read_value() {
  case $1 in
    --deploy-mode)
      [[ $2 =~ ^(both|chat|tool)$ ]] || die "--deploy-mode $2 must be both, chat or tool"
      choose mode "$2"
      ;;
    --chat-model) choose chat_model "$(model_option "$1" "$2")" ;;
    --tool-model) choose tool_model "$(model_option "$1" "$2")" ;;
    *)
      [[ $2 =~ ^(4bit|8bit|awq|fp8|gptq|gptq_marlin|none)$ ]] ||
        die "$1 $2 must be 4bit, 8bit, awq, fp8, gptq, gptq_marlin or none"
      choose width "$2"
      ;;
  esac
}

# choose VARIABLE VALUE: the same may be said twice, but not two different things.
choose() {
  [[ -n $2 ]] || exit 1 # said by the command that should have printed it
  [[ -z ${!1} || ${!1} == "$2" ]] || die "${!1} and $2 contradict each other; leave one out"
  printf -v "$1" '%s' "$2"
}

model_option() {
  [[ $2 == */* || -d $2 ]] || die "$1 $2 must be OWNER/NAME on the Hub or a folder that is there"
  model_named "$2"
}

# The last start, with what the options change of it.
settle() {
  recall_last_start
  QUANTIZE=$RECALLED_QUANTIZE
  [[ -z $mode ]] || export DEPLOY_MODELS=$mode
  [[ -z $chat_model ]] || export CHAT_MODEL=$chat_model
  [[ -z $tool_model ]] || export TOOL_MODEL=$tool_model
  case $width in
    4bit | awq) QUANTIZE=4bit ;;
    8bit | fp8) QUANTIZE=8bit ;;
    none) QUANTIZE="" CHAT_QUANTIZATION=auto ;;
    gptq*) QUANTIZE="" CHAT_QUANTIZATION=$width ;;
    "") [[ ${DEPLOY_MODELS:-both} != tool ]] || QUANTIZE="" ;; # there is no chat model now
  esac
  [[ -z ${CHAT_QUANTIZATION:-} ]] || export CHAT_QUANTIZATION
}

# While the server still runs: what cannot be started must not cost the one that is there.
check_first() {
  (
    prepare_api_key >/dev/null
    "$VENV/bin/python" "$LIB/launch_facts.py" --quantize "$QUANTIZE" --port-in-use >/dev/null
  ) || exit 1
  require_push
}

describe() {
  local said="Restarting ${DEPLOY_MODELS:-both}"
  [[ -z ${CHAT_MODEL:-} || ${DEPLOY_MODELS:-both} == tool ]] || said+=", chat model $CHAT_MODEL"
  [[ -z $QUANTIZE ]] || said+=" in $QUANTIZE"
  [[ -z ${TOOL_MODEL:-} || ${DEPLOY_MODELS:-both} == chat ]] || said+=", classifier $TOOL_MODEL"
  say "$said"
}

main() {
  local start
  start=$(now_us)
  read_options "$@"
  [[ -x $VENV/bin/python || $install == yes ]] ||
    die "$VENV is not there; install it with --install-deps, or start with scripts/main.sh"
  make_run_dir
  take_lock
  [[ -x $VENV/bin/python ]] || bash "$ROOT/scripts/install.sh"
  settle
  check_first
  describe
  processes stop --drain "${STOP_TIMEOUT_S:-35}"
  [[ $install == no ]] || bash "$ROOT/scripts/install.sh"
  [[ $kept != --reset-models ]] ||
    "$(helper_python)" -B "$LIB/cleaning.py" --root "$ROOT" models
  bring_up
  explain
  say "Restarted in $((($(now_us) - start) / 1000000)) s."
  push_quantized
}

main "$@"
