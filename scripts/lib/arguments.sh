# shellcheck shell=bash
# The words of main.sh. Needs common.sh. Sets and exports what they say:
# QUANTIZE (4bit, 8bit or empty), PUSH and FOLLOW (yes or no), DEPLOY_MODELS, CHAT_MODEL, TOOL_MODEL.

QUANTIZE=""
PUSH=no
FOLLOW=yes

read_arguments() {
  local word models=() mode=""
  for word in "$@"; do
    case $word in
      4bit | awq) QUANTIZE=4bit ;;
      8bit | fp8) QUANTIZE=8bit ;;
      chat | tool | both) mode=$word ;;
      --no-follow) FOLLOW=no ;;
      --push-quant | --push-awq) PUSH=yes ;;
      --no-push-quant) PUSH=no ;;
      -h | --help)
        usage "$0"
        exit 0
        ;;
      *)
        [[ $word != -* && ($word == */* || -d $word) ]] || refuse_argument "$word"
        word=$(model_named "$word")
        models+=("$word")
        ;;
    esac
  done
  [[ -z $mode ]] || export DEPLOY_MODELS=$mode
  name_models ${models[@]+"${models[@]}"}
}

# A folder by its whole path, since the server runs in the project's own; else as it is.
model_named() {
  if [[ -d $1 ]]; then (cd "$1" && pwd); else printf '%s' "$1"; fi
}

refuse_argument() {
  die "unknown argument: $1 (known: 4bit, 8bit, chat, tool, both, --push-quant, --no-follow, --help," \
    "a model as OWNER/NAME or a folder)"
}

# The first model is the chat model and the second the classifier; alone in tool mode, the classifier.
name_models() {
  local mode=${DEPLOY_MODELS:-both}
  (($# <= 2)) || die "more than two models are named: $*"
  if [[ $mode != both ]] && (($# == 2)); then
    die "DEPLOY_MODELS=$mode serves one model, and two are named: $*"
  fi
  (($# == 0)) && return
  if [[ $mode == tool ]]; then
    export TOOL_MODEL=$1
  else
    export CHAT_MODEL=$1
    (($# == 1)) || export TOOL_MODEL=$2
  fi
}
