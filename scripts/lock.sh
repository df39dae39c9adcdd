#!/usr/bin/env bash
# Writes the lock files in requirements/ again, or checks them.
#
#   scripts/lock.sh             resolve every NAME.in, keeping present versions where they fit
#   scripts/lock.sh --upgrade   resolve every NAME.in to the newest versions that fit
#   scripts/lock.sh --check     check without a network that each lock serves its NAME.in
#
# Resolving needs the package index and the environment of scripts/install.sh --dev.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case ${1:-} in
  "" | --upgrade | --check) ;;
  -h | --help)
    usage "$0"
    exit 0
    ;;
  *) die "unknown argument: $1 (known: --upgrade, --check, --help)" ;;
esac
(($# <= 1)) || die "--upgrade and --check go alone, not with $2"
[[ -x $VENV/bin/python ]] || die "there is no environment in $VENV; run scripts/install.sh --dev first"
uv=$VENV/bin/uv
[[ -x $uv ]] || uv=$(command -v uv) || uv=uv
exec "$VENV/bin/python" "$LIB/lock.py" --uv "$uv" "$@"
