# shellcheck shell=bash
# Installs locked packages into $VENV, with uv where it can be had and with pip otherwise.
# Needs common.sh.

UV=""                                            # set by bootstrap_uv; empty: pip installs
PIP_LIMITS=(--disable-pip-version-check --timeout 15 --retries 1)

# uv does not read pip's settings: hand it the index, certificate and proxy that pip was given.
adopt_pip_settings() {
  local name value
  while IFS='=' read -r name value; do
    case $name in
      index-url) export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$value} ;;
      cert) export SSL_CERT_FILE=${SSL_CERT_FILE:-$value} ;;
      proxy) export HTTPS_PROXY=${HTTPS_PROXY:-$value} HTTP_PROXY=${HTTP_PROXY:-$value} ;;
      find-links) FIND_LINKS=${UV_FIND_LINKS:-$value} ;;
    esac
  done < <("$VENV/bin/python" "$LIB/pip_settings.py")
}

bootstrap_uv() {
  local wanted
  FIND_LINKS=${UV_FIND_LINKS:-}
  # A server that does not answer is given up within about a minute.
  export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-20} UV_HTTP_RETRIES=${UV_HTTP_RETRIES:-2}
  # An environment that was made by hand may have no pip; `uv venv` makes such ones.
  "$VENV/bin/python" -m pip --version >/dev/null 2>&1 ||
    step "pip" "$VENV/bin/python" -m ensurepip --upgrade ||
    die "$VENV has no pip, and it cannot be added: remove $VENV and run this again"
  adopt_pip_settings
  unset UV_FIND_LINKS
  [[ ${YAP_INSTALLER:-uv} == pip ]] && return
  wanted=$(cat "$ROOT/requirements/uv.txt")
  if [[ $("$VENV/bin/uv" --version 2>/dev/null) != "uv ${wanted#uv==}"* ]]; then
    step "$wanted" "$VENV/bin/python" -m pip install --quiet "${PIP_LIMITS[@]}" --no-deps "$wanted" ||
      say "  uv cannot be installed; going on with pip, which is slower"
  fi
  if "$VENV/bin/uv" --version >/dev/null 2>&1; then
    UV=$VENV/bin/uv
  fi
}

# install_packages ARGUMENT...: uv pip install or pip install; never resolves dependencies.
install_packages() {
  if [[ -n $UV ]]; then
    "$UV" pip install --quiet --python "$VENV/bin/python" --no-deps "$@"
  else
    "$VENV/bin/python" -m pip install --quiet "${PIP_LIMITS[@]}" --no-deps "$@"
  fi
}

# lock_step LABEL ARGUMENT...: one installation step; on failure says why in one sentence.
lock_step() {
  local label=$1 reason
  shift
  step "$label" install_packages "$@" && return
  reason=$(explain_failure) || reason="see the end of $STEP_LOG"
  die "installing $label failed: $reason"
}

# Prints why the last step failed, when its log tells.
explain_failure() {
  local tail
  tail=$(tail -n 40 "$STEP_LOG")
  if grep -Eiq 'no space left' <<<"$tail"; then
    printf 'the disk is full'
  elif grep -Eiq 'certificate' <<<"$tail"; then
    printf 'the package index has a certificate that is not trusted here; name your CA file in %s' \
      'PIP_CERT and SSL_CERT_FILE'
  elif grep -Eiq 'dns error|resolve host|name resolution|name or service|connect|timed out|proxy|unreachable|failed to fetch' <<<"$tail"; then
    printf 'the package index cannot be reached; check the network and the proxy, then run it again'
  else
    return 1
  fi
}

# The CPU build carries the local version +cpu, so that no CUDA build can be taken in its place.
# First wherever pip is told to look, then PyTorch's own CPU index, which uv knows by name.
install_cpu_torch() {
  local wanted version
  wanted=$(grep -E '^torch==' "$ROOT/requirements/cpu.txt")
  version=${wanted#torch==}
  if "$VENV/bin/python" -c "
from importlib.metadata import version
raise SystemExit(version('torch') != '$version')" 2>/dev/null; then
    return
  fi
  UV_FIND_LINKS=$FIND_LINKS step "$wanted (local files or index)" \
    install_packages --only-binary torch "$wanted" && return
  if [[ -n $UV ]]; then
    step "$wanted (PyTorch's CPU index)" \
      install_packages --only-binary torch --torch-backend cpu "$wanted" && return
  fi
  die "PyTorch's CPU build ($wanted, $("$VENV/bin/python" -V)) was found neither where pip looks" \
    "(index and find-links) nor on PyTorch's CPU index: connect to it, or put the wheel in a folder" \
    "and name the folder in PIP_FIND_LINKS (details: $STEP_LOG)"
}
