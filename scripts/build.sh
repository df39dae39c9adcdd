#!/usr/bin/env bash
# Builds a Bento: the service with the weights of its models, to be served by `bentoml serve`, put
# into an image (scripts/containerize.sh) or deployed. Prints its tag, and what it weighs.
#
#   scripts/build.sh [both|chat|tool] [4bit|8bit] [--chat MODEL] [--tool MODEL] [--cpu|--cuda]
#                    [--export FILE.tar]
#
#   both, chat, tool   which models it carries and serves (default both)
#   4bit, 8bit         quantizes the chat model first, unless it is quantized so already
#   --chat MODEL       chat model: a folder or OWNER/NAME on the Hub; default, the demo model
#   --tool MODEL       screen classifier, likewise
#   --cpu, --cuda      what its image is for; default, what this machine has
#   --export FILE.tar  also writes the Bento with its weights to a file, for `bentoml import`
#
# The same sources and models make the same tag, and are built once. Environment: BENTOML_HOME (the
# store of Bentos and models, default ~/bentoml), HF_TOKEN, and for 4bit and 8bit what
# docs/quantization.md lists.
set -euo pipefail
here=$PWD
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/quantize.sh
source "$LIB/quantize.sh"

mode="" bits="" accelerator="" export_file=""
chat=$ROOT/models/yap-chat-demo tool=$ROOT/models/yap-screen-demo
chat_named=no tool_named=no

read_arguments() {
  while (($# > 0)); do
    case $1 in
      both | chat | tool)
        [[ -z $mode || $mode == "$1" ]] || die "$mode and $1 are two modes; give one"
        mode=$1
        ;;
      4bit | 8bit)
        [[ -z $bits || $bits == "$1" ]] || die "$bits and $1 are two widths; give one"
        bits=$1
        ;;
      --cpu | --cuda)
        [[ -z $accelerator || $accelerator == "${1#--}" ]] || die "give --cpu or --cuda, not both"
        accelerator=${1#--}
        ;;
      --chat | --tool | --export)
        [[ -n ${2:-} && ${2:-} != -* ]] || die "$1 needs a value"
        set_value "$1" "$2"
        shift
        ;;
      -h | --help)
        usage "$0"
        exit 0
        ;;
      *) die "unknown argument: $1 (known: both, chat, tool, 4bit, 8bit, --chat, --tool, --cpu," \
        "--cuda, --export)" ;;
    esac
    shift
  done
  mode=${mode:-both}
  check_together
}

set_value() {
  case $1 in
    --chat) chat=$(model_path "$2") chat_named=yes ;;
    --tool) tool=$(model_path "$2") tool_named=yes ;;
    --export)
      [[ $2 == *.tar ]] || die "--export $2: name a file that ends in .tar"
      export_file=$(absolute "$2")
      [[ ! -e $export_file ]] || die "$export_file exists already; name another file, or remove it"
      ;;
  esac
}

absolute() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s/%s' "$here" "$1"; fi; }

# A folder as an absolute path; anything else is left to be looked up on the Hub.
model_path() { if [[ -d $1 ]]; then (cd "$1" && pwd); else printf '%s' "$1"; fi; }

check_together() {
  [[ $mode != tool || $chat_named == no ]] || die "a Bento for tool carries no chat model; leave --chat out"
  [[ $mode != chat || $tool_named == no ]] || die "a Bento for chat carries no classifier; leave --tool out"
  [[ $mode != tool || -z $bits ]] || die "$bits is about the chat model, and a Bento for tool carries none"
  [[ -n $accelerator ]] || accelerator=$(this_machine)
}

this_machine() { if nvidia-smi -L 2>/dev/null | grep -q GPU; then printf cuda; else printf cpu; fi; }

# Runs a command of the pipeline; of the JSON that it prints, the value at these keys.
pipeline() {
  local keys=$1 made
  shift
  made=$("$VENV/bin/python" -m quantization "$@" --json) || exit 1
  "$VENV/bin/python" -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = (value or {}).get(key)
print(value)' "$keys" <<<"$made"
}

# Makes $chat the folder of the chat model with weights of $bits.
quantize() {
  local has
  has=$(pipeline quantization.bits inspect "$chat")
  if [[ $has == "${bits%bit}" ]]; then
    say "$chat is quantized to $bits already"
    return
  fi
  [[ $accelerator == "$(this_machine)" ]] ||
    die "what $bits means depends on the hardware, and this machine is not the one that" \
      "--$accelerator is for; make the export with python -m quantization run (--cpu, or" \
      "--memory-gib and --capability), and give its folder to --chat"
  export CHAT_MODEL=$chat QUANTIZE=$bits
  quantize_chat_model
  chat=$EXPORT
  unset CHAT_MODEL QUANTIZE
}

main() {
  local arguments=() tag
  read_arguments "$@"
  bash "$ROOT/scripts/install.sh"
  cd "$ROOT"
  export BENTOML_DO_NOT_TRACK=True
  [[ -z $bits ]] || quantize
  if [[ $mode != tool ]]; then
    tag=$(pipeline tag pack "$chat")
    arguments+=(--chat "$tag")
  fi
  if [[ $mode != chat ]]; then
    tag=$(pipeline tag pack "$tool")
    arguments+=(--tool "$tag")
  fi
  [[ -z $export_file ]] || arguments+=(--export "$export_file")
  say "Building the Bento ($mode, $accelerator)"
  "$VENV/bin/python" "$LIB/bento.py" --mode "$mode" --accelerator "$accelerator" "${arguments[@]}"
}

main "$@"
