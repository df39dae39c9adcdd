#!/usr/bin/env bash
# Installs Yap into .venv from the lock files in requirements/.
#
#   scripts/install.sh [cpu|cuda|clients] [--dev]
#
#   cpu       the service on a CPU
#   cuda      the service on an NVIDIA GPU
#   clients   only what the command-line clients in tests/ need
#   --dev     also what the tests and checks need
#
# Without a word it takes what .venv has, else cuda when an NVIDIA GPU is visible, else cpu. A second
# run with nothing changed does nothing. Environment: YAP_VENV (the virtual environment, default .venv), YAP_PYTHON
# (the interpreter to make it with), YAP_INSTALLER=pip (do not use uv), YAP_MIN_FREE_MB (free disk
# space to insist on).
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/python.sh
source "$LIB/python.sh"
# shellcheck source=scripts/lib/packages.sh
source "$LIB/packages.sh"

variant=""
dev=no

read_arguments() {
  local word
  for word in "$@"; do
    case $word in
      cpu | cuda | clients) variant=$word ;;
      --dev) dev=yes ;;
      -h | --help)
        usage "$0"
        exit 0
        ;;
      *) die "unknown argument: $word (known: cpu, cuda, clients, --dev, --help)" ;;
    esac
  done
  [[ -n $variant ]] || variant=$(default_variant)
}

# The service of the environment that is there, else what the machine has.
default_variant() {
  local present
  present=$(cat "$VENV/.yap-variant" 2>/dev/null) || present=""
  if [[ $present == cpu || $present == cuda ]]; then
    printf '%s' "$present"
  elif nvidia-smi -L 2>/dev/null | grep -q GPU; then
    printf cuda
  else
    printf cpu
  fi
}

check_machine() {
  [[ $variant == clients ]] && return
  [[ $(uname -s)/$(uname -m) == Linux/x86_64 ]] ||
    die "the service is locked for Linux on x86_64; this is $(uname -s) on $(uname -m)"
}

# Megabytes that an installation takes with the downloads that uv keeps, rounded up.
check_disk() {
  local -A needed=([cpu]=6000 [cuda]=24000 [clients]=200)
  local wanted=${YAP_MIN_FREE_MB:-${needed[$variant]}} free
  mkdir -p "$(dirname "$VENV")"
  free=$(df -Pm "$(dirname "$VENV")" | awk 'NR == 2 { print $4 }')
  ((free >= wanted)) ||
    die "installing $variant needs $wanted MB of free disk at $(dirname "$VENV"), and $free MB are" \
      "free; make room, or set YAP_VENV to a folder on another disk"
}

# digest FILE...: what a layer was installed from; a change of any of it installs again.
digest() {
  { printf '%s\n' "$variant" "$ROOT" && "$VENV/bin/python" -V && cat "$@"; } | sha256sum
}

runtime_digest() {
  digest "$ROOT/requirements/$variant.txt" "$ROOT/requirements/uv.txt" "$ROOT/pyproject.toml" \
    "$ROOT/yap/__init__.py"
}

is_current() { [[ -e $VENV/.yap-$1 && $(cat "$VENV/.yap-$1") == "$2" ]]; }

install_runtime() {
  local wanted
  wanted=$(runtime_digest)
  is_current runtime "$wanted" && return
  rm -f "$VENV/.yap-runtime"
  [[ -n $UV ]] || bootstrap_uv
  [[ $variant == cpu ]] && install_cpu_torch
  lock_step "requirements/$variant.txt" --only-binary :all: -r "$ROOT/requirements/$variant.txt"
  lock_step "yap, editable" --no-build-isolation -e "$ROOT"
  printf '%s\n' "$wanted" >"$VENV/.yap-runtime"
}

install_dev() {
  local wanted
  [[ $dev == yes ]] || return 0
  wanted=$(digest "$ROOT/requirements/dev.txt")
  is_current dev "$wanted" && return
  [[ -n $UV ]] || bootstrap_uv
  lock_step requirements/dev.txt --only-binary :all: -r "$ROOT/requirements/dev.txt"
  printf '%s\n' "$wanted" >"$VENV/.yap-dev"
}

main() {
  local start
  start=$(now_us)
  read_arguments "$@"
  check_machine
  make_run_dir
  STEP_LOG=$RUN_DIR/install.log
  : >"$STEP_LOG"
  if [[ -e $VENV/.yap-variant ]] && fits "$VENV/bin/python" &&
    is_current runtime "$(runtime_digest)" && [[ $(cat "$VENV/.yap-variant") == "$variant" ]]; then
    install_dev
    return
  fi
  say "Installing Yap ($variant) into $VENV"
  check_disk
  ensure_venv "$variant"
  install_runtime
  install_dev
  say "Installed in $((($(now_us) - start) / 1000000)) s."
}

main "$@"
