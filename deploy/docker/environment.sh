#!/usr/bin/env bash
# Installs the locked environment of an image; the Dockerfile runs it.
#
#   environment.sh FOLDER TARGET
#
#   FOLDER   holds requirements.txt, with every version pinned; wheels in FOLDER/wheels are used too
#   TARGET   the virtual environment to make
#
# Two runs make the same files to the last byte: times are set to one date, and compiled modules are
# tied to their source by agreement instead of by its time.
set -euo pipefail

readonly UV_PACKAGE=uv==0.13.9 # as requirements/uv.txt has it
readonly FOLDER=$1 TARGET=$2
readonly REQUIREMENTS=$FOLDER/requirements.txt EPOCH=315532800 # 1980-01-01, which zip files can say

python=$(command -v python3 || command -v python)

# On a GPU Triton compiles its launchers while the service runs, against the headers of this Python.
if grep -q '^vllm==' "$REQUIREMENTS" && ! "$python" -c '
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())'; then
  printf '%s\n' "error: the base image's Python has no headers (Python.h), which Triton needs on a GPU;" \
    "take python:3.11-slim, or install its -dev package in the base image" >&2
  exit 1
fi
"$python" -m venv "$FOLDER/uv"
"$FOLDER/uv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-deps "$UV_PACKAGE"

export UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
export UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH PYTHONHASHSEED=0
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-60}
[[ -z ${PIP_INDEX_URL:-} ]] || export UV_DEFAULT_INDEX=$PIP_INDEX_URL

uv=$FOLDER/uv/bin/uv
"$uv" venv --quiet --python "$python" "$TARGET"

install() {
  "$uv" pip install --python "$TARGET/bin/python" --no-deps --only-binary :all: "$@"
}

# A build for CPUs is not on the ordinary index: wheels that were brought along, else PyTorch's own
# index, which uv knows by name. Once it is there, the rest comes from the ordinary index alone.
torch=$(grep -oE '^torch==[^ ;]+\+cpu' "$REQUIREMENTS" || true)
if [[ -n $torch ]]; then
  places=()
  [[ ! -d $FOLDER/wheels ]] || places+=(--find-links "$FOLDER/wheels")
  [[ -z ${PIP_FIND_LINKS:-} ]] || places+=(--find-links "$PIP_FIND_LINKS")
  install ${places[@]+"${places[@]}"} "$torch" || install --torch-backend cpu "$torch"
fi
install --requirement "$REQUIREMENTS"

# uv notes when a wheel that was brought along had changed last.
find "$TARGET" -name uv_cache.json -delete
find "$TARGET" -path '*.dist-info/RECORD' -exec sed -i '/uv_cache\.json,/d' {} +
find "$(dirname "$TARGET")" -exec touch --no-dereference --date "@$EPOCH" {} +
