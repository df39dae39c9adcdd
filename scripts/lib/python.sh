# shellcheck shell=bash
# Finds a Python that fits and makes the virtual environment. Needs common.sh.

# True when the interpreter is Python 3.11 or 3.12 and can make virtual environments.
fits() {
  "$1" -c '
import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

# Prints the interpreter to build the environment with: $YAP_PYTHON, else the first that fits.
find_python() {
  local candidate
  if [[ -n ${YAP_PYTHON:-} ]]; then
    fits "$YAP_PYTHON" ||
      die "YAP_PYTHON=$YAP_PYTHON is not Python 3.11 or 3.12 with its venv module"
    printf '%s' "$YAP_PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3 python /usr/bin/python3.11 /usr/bin/python3.12; do
    if command -v "$candidate" >/dev/null && fits "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  die "no Python 3.11 or 3.12 with its venv module was found; install one (on Debian:" \
    "python3.11 and python3.11-venv) or name it in YAP_PYTHON"
}

# ensure_venv VARIANT: makes $VENV unless a usable one of the same variant is there.
ensure_venv() {
  local variant=$1 python clear=()
  if [[ -e $VENV && ! -e $VENV/pyvenv.cfg ]]; then
    [[ -d $VENV && -z $(ls -A "$VENV") ]] ||
      die "$VENV exists and is not a virtual environment; move it away or set YAP_VENV"
  elif [[ -e $VENV ]]; then
    if fits "$VENV/bin/python" && [[ $(cat "$VENV/.yap-variant" 2>/dev/null) == "$variant" ]]; then
      return
    fi
    if fits "$VENV/bin/python" && [[ ! -e $VENV/.yap-variant ]]; then
      printf '%s\n' "$variant" >"$VENV/.yap-variant" # made by hand: install into it
      return
    fi
    clear=(--clear) # of another variant, or its interpreter has gone
  fi
  python=$(find_python)
  step "virtual environment with $("$python" -V 2>&1)" "$python" -m venv "${clear[@]}" "$VENV" ||
    die "the virtual environment could not be made (details: $STEP_LOG)"
  printf '%s\n' "$variant" >"$VENV/.yap-variant"
}
