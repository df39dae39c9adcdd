# shellcheck shell=bash
# The steps between an installed environment and a server that answers. Needs common.sh.

processes() {
  local python
  python=$(helper_python) || exit 1
  "$python" "$LIB/processes.py" --record "$RECORD" "$@"
}

# Refuses when the server runs; clears away what an earlier one left behind.
require_not_running() {
  local pid status=0
  pid=$(processes status) || status=$?
  ((status != 0)) || die "Yap runs already (process $pid); stop it with scripts/stop.sh first"
  ((status != 4)) || processes stop --drain 5
}

# The key that clients present: $TEXT_API_KEY, else the stored one, else a new one, shown once.
prepare_api_key() {
  local file=$RUN_DIR/api_key
  if [[ -n ${TEXT_API_KEY:-} ]]; then
    export TEXT_API_KEY
    return
  fi
  if [[ ! -s $file ]]; then
    (umask 077 && "$VENV/bin/python" -c 'import secrets; print(secrets.token_urlsafe(24))' >"$file.new")
    mv "$file.new" "$file"
    say "A new API key, kept in $file: $(cat "$file")"
  fi
  TEXT_API_KEY=$(cat "$file")
  export TEXT_API_KEY
}

# Sets HOST, PORT, PROBE_HOST and what the models need, from the settings; refuses when they or the
# port will not do.
prepare_settings() {
  local found name value
  found=$("$VENV/bin/python" "$LIB/launch_facts.py" --quantize "$QUANTIZE") || exit 1
  while IFS='=' read -r name value; do
    case $name in
      HOST | PORT) export "$name=$value" ;;
      PROBE_HOST) PROBE_HOST=$value ;;
      OFFLINE) [[ $value == 0 ]] || export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} ;;
      QUANTIZATION) export CHAT_QUANTIZATION=$value ;;
    esac
  done <<<"$found"
}

# Keeps the logs of the last three runs beside the new one.
rotate_log() {
  local number
  for number in 2 1; do
    [[ ! -e $LOG_FILE.$number ]] || mv -f "$LOG_FILE.$number" "$LOG_FILE.$((number + 1))"
  done
  [[ ! -e $LOG_FILE ]] || mv -f "$LOG_FILE" "$LOG_FILE.1"
  (umask 077 && : >"$LOG_FILE")
}

# Starts the server in a session of its own. Nothing of it reports home.
start_server() {
  rotate_log
  export BENTOML_HOME=${BENTOML_HOME:-$RUN_DIR/bentoml} BENTOML_DO_NOT_TRACK=True
  export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1
  export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
  mkdir -p "$BENTOML_HOME"
  cd "$ROOT"
  PATH="$VENV/bin:$PATH" processes start --log "$LOG_FILE" -- \
    "$VENV/bin/python" "$VENV/bin/bentoml" serve . --host "$HOST" --port "$PORT" >/dev/null
}

interrupted() {
  trap '' INT TERM # a second Ctrl+C must not cut the stopping short
  say ""
  say "Interrupted while starting."
  processes stop --drain 10
  exit 130
}

# Waits until the server answers; a failed start leaves nothing running.
await_server() {
  trap interrupted INT TERM
  if ! "$VENV/bin/python" "$LIB/wait_ready.py" --record "$RECORD" --log "$LOG_FILE" \
    --host "$PROBE_HOST" --port "$PORT" --limit "${START_TIMEOUT_S:-900}"; then
    processes stop --drain 10 >/dev/null || true
    exit 1
  fi
  trap - INT TERM
}

first_turn() {
  "$VENV/bin/python" "$ROOT/tests/warmup.py" --server "$(address)" ||
    die "the server is ready but its first turn failed (above); it still runs: look into $LOG_FILE," \
      "stop it with scripts/stop.sh"
}

address() {
  if [[ $PROBE_HOST == *:* ]]; then printf '[%s]:%s' "$PROBE_HOST" "$PORT"; else
    printf '%s:%s' "$PROBE_HOST" "$PORT"
  fi
}

explain() {
  local file=$RUN_DIR/api_key key="as you set it in TEXT_API_KEY" give="..."
  if [[ -s $file && $(cat "$file") == "$TEXT_API_KEY" ]]; then
    key="in $file" give="\$(cat $file)"
  fi
  say ""
  say "Yap listens on ws://$(address)/ws. Clients send its key ($key) in the header X-API-Key."
  say "  talk to it   TEXT_API_KEY=$give $VENV/bin/python tests/warmup.py --server $(address)"
  say "  its log      tail -F $LOG_FILE"
  say "  stop it      scripts/stop.sh"
}
