#!/usr/bin/env bash
# Puts a Bento that scripts/build.sh made into a container image, and prints what each part of the
# image weighs. Weights are a layer of their own: after a change of code they are not written again.
#
#   scripts/containerize.sh [TAG] [--builder docker|podman|buildah] [--image NAME:TAG]
#                           [--wheels FOLDER] [--json FILE] [-- BUILDER OPTION...]
#
#   TAG              the Bento, NAME or NAME:VERSION (default: the newest yap-server)
#   --builder NAME   what builds it; default: the first of the three that works
#   --image NAME     what the image is called (default: as the Bento is)
#   --wheels FOLDER  where the wheel of PyTorch's CPU build lies, for machines that do not reach
#                    PyTorch's index (default: pip's find-links)
#   --json FILE      also writes sizes, layers and seconds to a file
#   --               everything behind it goes to the builder: -- --no-cache, -- --network host
#
# Environment: BENTOML_HOME (the store, default ~/bentoml), DOCKER_HOST, and PIP_INDEX_URL and proxies,
# which the build uses and the image does not keep. Running the image: docs/packaging.md.
set -euo pipefail
here=$PWD
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

arguments=() tag="" options=()

absolute() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s/%s' "$here" "$1"; fi; }

set_value() {
  case $1 in
    --builder)
      [[ $2 == docker || $2 == podman || $2 == buildah ]] ||
        die "--builder $2: give docker, podman or buildah"
      ;;
    --image)
      [[ $2 =~ ^[a-z0-9][a-z0-9._/:-]*$ ]] ||
        die "--image $2: give a name such as yap-server:cpu, in small letters"
      ;;
    --wheels)
      [[ -d $2 ]] || die "--wheels $2: there is no such folder"
      arguments+=("$1" "$(cd "$2" && pwd)")
      return
      ;;
    --json)
      [[ -d $(dirname "$(absolute "$2")") ]] || die "--json $2: its folder does not exist; make it"
      arguments+=("$1" "$(absolute "$2")")
      return
      ;;
  esac
  arguments+=("$1" "$2")
}

read_arguments() {
  while (($# > 0)); do
    case $1 in
      --builder | --image | --wheels | --json)
        [[ -n ${2:-} && ${2:-} != -* ]] || die "$1 needs a value"
        set_value "$1" "$2"
        shift
        ;;
      -h | --help)
        usage "$0"
        exit 0
        ;;
      --)
        shift
        options=("$@")
        return
        ;;
      -*) die "unknown argument: $1 (known: --builder, --image, --wheels, --json, --)" ;;
      *)
        [[ -z $tag ]] || die "more than one Bento is named: $tag and $1"
        tag=$1
        ;;
    esac
    shift
  done
}

main() {
  read_arguments "$@"
  bash "$ROOT/scripts/install.sh"
  cd "$ROOT"
  export BENTOML_DO_NOT_TRACK=True
  exec "$VENV/bin/python" "$LIB/containerize.py" ${arguments[@]+"${arguments[@]}"} \
    "${tag:-yap-server}" ${options[@]+-- "${options[@]}"}
}

main "$@"
