#!/usr/bin/env bash
# Builds the image of a demo Bento and tries it: an image, another after a change of code, turns
# without a network, `docker stop` while replies stream, `bentoml containerize`. Ends with what it
# measured, as JSON. It takes 10 to 20 minutes and 20 GB of disk, and removes what it made.
#
#   scripts/container_test.sh [--cuda] [--builder docker|podman|buildah] [--from-scratch]
#                             [--json FILE] [-- BUILDER OPTION...]
#
#   --cuda           the image for GPUs instead, as far as a machine without one goes: it is built,
#                    imports and compiles what a GPU needs, and refuses to start without one. It takes
#                    about 10 minutes and 20 GB
#   --builder NAME   what builds (default: the first that works; with --from-scratch, docker)
#   --from-scratch   on a Debian machine that has nothing, as root: installs the builder from Debian's
#                    packages, starts a docker daemon of its own, makes the base image with
#                    debootstrap. The packages stay.
#   --json FILE      also writes the result to a file
#   --               everything behind it goes to the builder: -- --network=host
#
# Environment: DOCKER_HOST, TMPDIR (the disk that is used), CONTAINERS_CONF and BUILDAH_ISOLATION
# (podman and buildah).
set -euo pipefail
here=$PWD
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

arguments=() options=()

read_arguments() {
  local file
  while (($# > 0)); do
    case $1 in
      --cuda | --from-scratch) arguments+=("$1") ;;
      --builder)
        [[ ${2:-} == docker || ${2:-} == podman || ${2:-} == buildah ]] ||
          die "--builder ${2:-}: give docker, podman or buildah"
        arguments+=("$1" "$2")
        shift
        ;;
      --json)
        [[ -n ${2:-} && ${2:-} != -* ]] || die "$1 needs a value"
        if [[ $2 == /* ]]; then file=$2; else file=$here/$2; fi
        [[ -d $(dirname "$file") ]] || die "--json $2: its folder does not exist; make it"
        arguments+=("$1" "$file")
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
      *) die "unknown argument: $1 (known: --builder, --cuda, --from-scratch, --json, --)" ;;
    esac
    shift
  done
}

main() {
  read_arguments "$@"
  if [[ " ${arguments[*]-} " == *" --from-scratch "* ]]; then
    [[ $EUID == 0 ]] || die "--from-scratch installs packages and starts a daemon; run it as root"
    command -v apt-get >/dev/null || die "--from-scratch needs Debian's apt-get"
  fi
  bash "$ROOT/scripts/install.sh"
  cd "$ROOT"
  exec "$VENV/bin/python" -m tests.container.check ${arguments[@]+"${arguments[@]}"} \
    -- ${options[@]+"${options[@]}"}
}

main "$@"
