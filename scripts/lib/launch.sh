# shellcheck shell=bash
# The steps between an installed environment and a server that answers. Needs common.sh.

# shellcheck source=scripts/lib/quantize.sh
source "$LIB/quantize.sh"

LAST_START=$RUN_DIR/last_start.json

processes() {
  local python
  python=$(helper_python) || exit 1
  "$python" "$LIB/processes.py" --record "$RECORD" "$@"
}

# One script at a time starts the server; the lock goes when this script ends or releases it.
take_lock() {
  exec 9>"$RUN_DIR/lock"
  flock -n 9 || die "another scripts/main.sh or restart.sh is starting Yap right now; wait for it"
}

release_lock() { exec 9>&-; }

# From an installed environment to a server that has answered.
bring_up() {
  remember_request
  prepare_api_key
  prepare_settings
  [[ $MAKE == no ]] || quantize_chat_model
  [[ $OFFLINE == 0 ]] || export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
  say "Starting Yap on $HOST port $PORT"
  start_server
  await_server
  keep_request
  first_turn
}

# What this start is asked for, before anything is worked out from it; kept once it has succeeded.
remember_request() {
  "$VENV/bin/python" "$LIB/last_start.py" --file "$LAST_START.new" remember --quantize "$QUANTIZE" ||
    exit 1
}

keep_request() { mv -f "$LAST_START.new" "$LAST_START"; }

# Sets what the last start was asked for, except for what is set now. Sets RECALLED_QUANTIZE.
recall_last_start() {
  local pair pairs=()
  RECALLED_QUANTIZE=""
  mapfile -d '' pairs < <("$VENV/bin/python" "$LIB/last_start.py" --file "$LAST_START" \
    recall --record "$RECORD")
  wait $! || exit 1
  for pair in ${pairs[@]+"${pairs[@]}"}; do
    case $pair in
      QUANTIZE=*) RECALLED_QUANTIZE=${pair#*=} ;;
      *) export "${pair?}" ;;
    esac
  done
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
# port will not do. Sets MAKE (yes or no: whether CHAT_MODEL is to be quantized first), EXPORT (empty)
# and OFFLINE (1 when nothing is to be fetched).
prepare_settings() {
  local found name value
  MAKE=no EXPORT="" OFFLINE=0
  found=$("$VENV/bin/python" "$LIB/launch_facts.py" --quantize "$QUANTIZE") || exit 1
  while IFS='=' read -r name value; do
    case $name in
      HOST | PORT) export "$name=$value" ;;
      PROBE_HOST) PROBE_HOST=$value ;;
      OFFLINE) OFFLINE=$value ;;
      QUANTIZATION) export CHAT_QUANTIZATION=$value ;;
      MAKE)
        MAKE=yes
        export CHAT_MODEL=$value
        ;;
    esac
  done <<<"$found"
}

# Sets the log of the run before aside, with those that are kept of earlier ones.
rotate_log() {
  local python
  python=$(helper_python) || exit 1
  "$python" "$LIB/log_writer.py" --log "$LOG_FILE" --rotate || exit 1
  (umask 077 && : >"$LOG_FILE")
}

# What the server's libraries leave in TMPDIR goes with the next start or stop: the chat engine makes
# sockets there and never removes them. A socket's path has room for 107 bytes, so a long one is kept
# out of it.
own_temporary_folder() {
  rm -rf "$RUN_DIR/tmp"
  ((${#RUN_DIR} <= 60)) || return 0
  (umask 077 && mkdir "$RUN_DIR/tmp")
  export TMPDIR=$RUN_DIR/tmp
}

# Starts the server in a session of its own. Nothing of it reports home.
start_server() {
  rotate_log
  own_temporary_folder
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
    key="in $file" give="\"\$(cat $(printf %q "$file"))\""
  fi
  say ""
  say "Yap listens on ws://$(address)/ws. Clients send its key ($key) in the header X-API-Key."
  say "  talk to it   TEXT_API_KEY=$give $VENV/bin/python tests/warmup.py --server $(address)"
  say "  its log      tail -F $(printf %q "$LOG_FILE")"
  say "  stop it      scripts/stop.sh"
}
