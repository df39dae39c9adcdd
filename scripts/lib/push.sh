# shellcheck shell=bash
# Uploading the quantized chat model that a start has made. Needs common.sh and arguments.sh.

# Refuses before the long work where the upload could not succeed after it.
require_push() {
  [[ $PUSH == yes ]] || return 0
  [[ -n $QUANTIZE ]] ||
    die "--push-quant uploads what 4bit or 8bit makes of the chat model; name one of them too"
  PUSH_OFFLINE=${HF_HUB_OFFLINE:-0} # a start sets it for a server that has all it needs
  (cd "$ROOT" && "$VENV/bin/python" -m quantization push --check) || exit 1
}

# Uploads $EXPORT, which quantizing has set.
push_quantized() {
  [[ $PUSH == yes ]] || return 0
  [[ -n ${EXPORT:-} ]] ||
    die "nothing was quantized by this start (the model was so already), so nothing is uploaded;" \
      "the server runs"
  (cd "$ROOT" && HF_HUB_OFFLINE=$PUSH_OFFLINE "$VENV/bin/python" -m quantization push "$EXPORT") ||
    die "the server runs, but its quantized model was not uploaded (above)"
}
