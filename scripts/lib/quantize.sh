# shellcheck shell=bash
# Makes a quantized chat model out of the one that is asked for. Needs common.sh.

# Sets EXPORT to the folder of $CHAT_MODEL in $QUANTIZE (4bit or 8bit), made now or found from an
# earlier start, and CHAT_MODEL to the same. A folder's model is calibrated offline, as it is served,
# unless AWQ_CALIB_DATASET names something else.
quantize_chat_model() {
  local printed offline=()
  EXPORT=""
  [[ -n $QUANTIZE ]] || return 0
  [[ ! -d $CHAT_MODEL || -n ${AWQ_CALIB_DATASET:-} ]] || offline=(--offline)
  say "Quantizing $CHAT_MODEL to $QUANTIZE"
  printed=$(cd "$ROOT" && "$VENV/bin/python" -m quantization run "$CHAT_MODEL" --to "$QUANTIZE" \
    --no-serve --json ${offline[@]+"${offline[@]}"}) || exit 1
  EXPORT=$("$VENV/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["export"])' \
    <<<"$printed") || exit 1
  say "  $EXPORT"
  export CHAT_MODEL=$EXPORT
  unset CHAT_QUANTIZATION QUANTIZATION # the export's own config says it
}
